"""Image sets for training and validation."""

from .folders import PairedFolders, UnpairedFolder
from .samplers import Draw, DrawSampler, InfiniteDrawSampler, seeded_by

__all__ = ["Draw", "DrawSampler", "InfiniteDrawSampler", "PairedFolders", "UnpairedFolder", "seeded_by"]
