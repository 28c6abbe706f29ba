"""A learning rate that follows the training loss."""

from __future__ import annotations

from mmengine.logging import MessageHub
from mmengine.optim import ReduceOnPlateauLR

from llie_preproc.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class TrainLossPlateauLR(ReduceOnPlateauLR):
    """Reduces the learning rate when the mean training loss of an epoch no longer falls.

    MMEngine's own class watches a validation metric; PSENet's schedule has none. The mean is of what the message hub
    logged as ``train/loss`` since the epoch before, so it resumes with the run.
    """

    need_val_args = False

    def __init__(self, optimizer: object, *args: object, **kwargs: object) -> None:
        super().__init__(optimizer, "loss", *args, **kwargs)

    def step(self, metrics: dict | None = None) -> None:
        """Called once when constructed, then after each epoch."""
        hub = MessageHub.get_current_instance()
        if "train/loss" not in hub.log_scalars:
            return super().step()
        # As MMEngine's own hook, which each Runner has, tells.
        iterations = hub.get_info("max_iters") // hub.get_info("max_epochs")
        return super().step({"loss": float(hub.get_scalar("train/loss").mean(iterations))})
