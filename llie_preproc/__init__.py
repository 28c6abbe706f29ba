"""Low-light and extreme-light enhancement in front of detectors, face detectors and SAM."""

from .inference import build_enhancer, enhance
from .version import __version__

__all__ = ["__version__", "build_enhancer", "enhance"]
