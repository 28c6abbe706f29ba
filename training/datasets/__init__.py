"""Image sets for training and validation."""

from llie_preproc.errors import needs

with needs("training.datasets"):
    from .augmentation import StrongAugmentation
    from .camera_processing import CameraProcessing, JPEGCompression
    from .combined import ConcatenatedSets, MixedSets, SemiSupervisedSet
    from .folders import PairedFolders, UnpairedFolder
    from .known_sets import LSRW, RELLISUR, SICE, ExposureErrors, LOLv1, LOLv2, NightVisDrone
    from .masked_pairs import MaskedPairs
    from .night_illumination import NightIllumination
    from .paired_transforms import PairedRandomCrop, PairedRandomResize, PairedResize, RandomDihedral, RandomFlip
    from .samplers import Draw, DrawSampler, InfiniteDrawSampler, seeded_by
    from .synthesis import LowLightSynthesis, RandomGamma, RandomSynthesis, SynthesisedPairs

__all__ = [
    "LSRW",
    "RELLISUR",
    "SICE",
    "CameraProcessing",
    "ConcatenatedSets",
    "Draw",
    "DrawSampler",
    "ExposureErrors",
    "InfiniteDrawSampler",
    "JPEGCompression",
    "LOLv1",
    "LOLv2",
    "LowLightSynthesis",
    "MaskedPairs",
    "MixedSets",
    "NightIllumination",
    "NightVisDrone",
    "PairedFolders",
    "PairedRandomCrop",
    "PairedRandomResize",
    "PairedResize",
    "RandomDihedral",
    "RandomFlip",
    "RandomGamma",
    "RandomSynthesis",
    "SemiSupervisedSet",
    "StrongAugmentation",
    "SynthesisedPairs",
    "UnpairedFolder",
    "seeded_by",
]
