"""The enhancement networks and baselines, one file a system."""

from .base import Capabilities, Enhancer, pad_to_requirements
from .classical import CLAHE, GammaCorrection, Identity, Upscale
from .psenet import PSENet

__all__ = [
    "CLAHE",
    "Capabilities",
    "Enhancer",
    "GammaCorrection",
    "Identity",
    "PSENet",
    "Upscale",
    "pad_to_requirements",
]
