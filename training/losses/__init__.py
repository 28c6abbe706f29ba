"""Loss terms of the training methods, one file for each kind.

Every file of this folder is imported, so a new file that registers something is found without being named elsewhere.
"""

from llie_preproc.registry import import_modules

from .adversarial import discriminator_loss, enhancer_loss
from .contrastive import ContrastiveLoss
from .gradient import GradientLoss
from .illumination import illumination_prior_loss, illumination_target
from .mirror import cosine_loss, mirror_loss
from .perceptual import PerceptualLoss
from .pixel import L1Loss, MSELoss
from .sharpening import unsharp_mask
from .ssim import SSIMLoss
from .total_variation import log_total_variation, squared_total_variation
from .weighting import LearnedWeights

__all__ = [
    "ContrastiveLoss",
    "GradientLoss",
    "L1Loss",
    "LearnedWeights",
    "MSELoss",
    "PerceptualLoss",
    "SSIMLoss",
    "cosine_loss",
    "discriminator_loss",
    "enhancer_loss",
    "illumination_prior_loss",
    "illumination_target",
    "log_total_variation",
    "mirror_loss",
    "squared_total_variation",
    "unsharp_mask",
]

import_modules(__name__, __path__)
