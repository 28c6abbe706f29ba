"""Loss terms, one file each."""

from .adversarial import discriminator_loss, enhancer_loss
from .pixel import L1Loss, MSELoss
from .total_variation import log_total_variation

__all__ = ["L1Loss", "MSELoss", "discriminator_loss", "enhancer_loss", "log_total_variation"]
