"""Training methods, one file a paper; each trains any enhancer whose capabilities allow it."""

from .progressive import ProgressiveSelfEnhancement
from .supervised import SupervisedTraining

__all__ = ["ProgressiveSelfEnhancement", "SupervisedTraining"]
