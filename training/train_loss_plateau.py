"""A schedule that lowers the learning rate when the training loss stops falling."""

from __future__ import annotations

from mmengine.logging import MessageHub
from mmengine.optim import ReduceOnPlateauLR

from llie_preproc.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class TrainLossPlateauLR(ReduceOnPlateauLR):
    """A scheduler that reduces the learning rate when the mean training loss of an epoch no longer falls.

    MMEngine's own class watches a validation metric, but PSENet's schedule has no validation. The mean is over the
    values of ``train/loss`` that the message hub logged in the epoch. A resumed run restores them.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
        >>> TrainLossPlateauLR(optimizer, patience=5).get_last_value()
        [0.1]
    """

    need_val_args = False

    def __init__(self, optimizer: object, *args: object, **kwargs: object) -> None:
        super().__init__(optimizer, "loss", *args, **kwargs)

    def step(self, metrics: dict | None = None) -> None:
        """Update the learning rate. MMEngine calls this at construction and after each epoch."""
        hub = MessageHub.get_current_instance()
        if "train/loss" not in hub.log_scalars:
            return super().step()
        # MMEngine's ``RuntimeInfoHook``, which every Runner has, writes these numbers.
        iterations = hub.get_info("max_iters") // hub.get_info("max_epochs")
        return super().step({"loss": float(hub.get_scalar("train/loss").mean(iterations))})
