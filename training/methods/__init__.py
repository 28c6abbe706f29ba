"""Training methods, one file a paper; each trains any enhancer whose capabilities allow it."""

from .progressive import ProgressiveSelfEnhancement

__all__ = ["ProgressiveSelfEnhancement"]
