"""Image sets for training and validation."""

from .folders import PairedFolders, UnpairedFolder

__all__ = ["PairedFolders", "UnpairedFolder"]
