"""Loss terms, one file each."""

from .adversarial import discriminator_loss, enhancer_loss
from .contrastive import ContrastiveLoss
from .gradient import GradientLoss
from .perceptual import PerceptualLoss
from .pixel import L1Loss, MSELoss
from .ssim import SSIMLoss
from .total_variation import log_total_variation

__all__ = [
    "ContrastiveLoss",
    "GradientLoss",
    "L1Loss",
    "MSELoss",
    "PerceptualLoss",
    "SSIMLoss",
    "discriminator_loss",
    "enhancer_loss",
    "log_total_variation",
]
