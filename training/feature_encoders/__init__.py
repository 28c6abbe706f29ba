"""Frozen pretrained encoders, whose features the losses compare."""

from .base import FeatureEncoder, build_encoder
from .clip import CLIPEncoder
from .ram import RAMEncoder
from .sam import FrozenSAM, SAMEncoder
from .vgg import VGGEncoder

__all__ = ["CLIPEncoder", "FeatureEncoder", "FrozenSAM", "RAMEncoder", "SAMEncoder", "VGGEncoder", "build_encoder"]
