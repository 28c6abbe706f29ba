"""Image sets for training and validation."""

from llie_preproc.errors import needs

with needs("training.datasets"):
    from .augmentation import StrongAugmentation
    from .combined import ConcatenatedSets, SemiSupervisedSet
    from .folders import PairedFolders, UnpairedFolder
    from .known_sets import LSRW, RELLISUR, SICE, ExposureErrors, LOLv1, LOLv2, NightVisDrone
    from .masked_pairs import MaskedPairs
    from .paired_transforms import PairedRandomCrop, PairedResize, RandomDihedral, RandomFlip
    from .samplers import Draw, DrawSampler, InfiniteDrawSampler, seeded_by
    from .synthesis import LowLightSynthesis, SynthesisedPairs

__all__ = [
    "LSRW",
    "RELLISUR",
    "SICE",
    "ConcatenatedSets",
    "Draw",
    "DrawSampler",
    "ExposureErrors",
    "InfiniteDrawSampler",
    "LOLv1",
    "LOLv2",
    "LowLightSynthesis",
    "MaskedPairs",
    "NightVisDrone",
    "PairedFolders",
    "PairedRandomCrop",
    "PairedResize",
    "RandomDihedral",
    "RandomFlip",
    "SemiSupervisedSet",
    "StrongAugmentation",
    "SynthesisedPairs",
    "UnpairedFolder",
    "seeded_by",
]
