"""Frozen pretrained encoders, whose features the losses compare.

Every file of this folder is imported, so a new file that registers something is found without being named elsewhere.
"""

from llie_preproc.registry import import_modules

from .base import FeatureEncoder, FrozenModule, build_encoder
from .clip import CLIPEncoder
from .frozen_detector import FrozenDetector
from .ram import RAMEncoder
from .sam import FrozenSAM, SAMEncoder
from .squeezenet import SqueezeNetEncoder
from .vgg import VGGEncoder

__all__ = [
    "CLIPEncoder",
    "FeatureEncoder",
    "FrozenDetector",
    "FrozenModule",
    "FrozenSAM",
    "RAMEncoder",
    "SAMEncoder",
    "SqueezeNetEncoder",
    "VGGEncoder",
    "build_encoder",
]

import_modules(__name__, __path__)
