"""The enhancement networks and baselines, one file for each system.

Every file of this folder is imported, so a new file that registers its network is found without being named elsewhere.
"""

from ..registry import import_modules
from .adaptive_gamma import AdaptiveGamma
from .base import Capabilities, CurveEnhancer, Enhancer, pad_to_requirements
from .cascade import Cascade
from .classical import CLAHE, GammaCorrection, Identity, Upscale
from .collaba import CollaBA
from .gain_unet import GainUNet
from .iaml import IAMLUNet
from .psenet import PSENet
from .sci import SCI
from .semi_llie import SemiLLIE
from .zero_dce import ZeroDCE, ZeroDCEPlusPlus

__all__ = [
    "CLAHE",
    "SCI",
    "AdaptiveGamma",
    "Capabilities",
    "Cascade",
    "CollaBA",
    "CurveEnhancer",
    "Enhancer",
    "GainUNet",
    "GammaCorrection",
    "IAMLUNet",
    "Identity",
    "PSENet",
    "SemiLLIE",
    "Upscale",
    "ZeroDCE",
    "ZeroDCEPlusPlus",
    "pad_to_requirements",
]

import_modules(__name__, __path__)
