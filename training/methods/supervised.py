"""Supervised training on pairs."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import BaseDataElement
from torch import Tensor

from llie_preproc.registry import MODELS

from .base import TrainingMethod, stacked


@MODELS.register_module()
class SupervisedTraining(TrainingMethod):
    """Minimises ``losses`` between the enhanced image and its reference.

    Samples need ``target``. The arguments are those of :class:`~training.methods.base.TrainingMethod`; ``losses`` must
    hold at least one loss.

    >>> import torch
    >>> network = dict(type="IAMLUNet", width=4, depth=1)
    >>> method = SupervisedTraining(network, losses=dict(l1=dict(type="llie_preproc.L1Loss")))
    >>> sample = BaseDataElement(target=torch.zeros(3, 16, 16, dtype=torch.uint8))
    >>> list(method.loss(torch.rand(1, 3, 16, 16), [sample]))
    ['loss_l1']

    Raises:
        ValueError: No loss has a weight above 0.
    """

    def __init__(self, enhancer: dict | str, losses: dict[str, dict | None], **options: object) -> None:
        super().__init__(enhancer, losses, **options)  # type: ignore[arg-type]
        self.require_losses()

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted losses."""
        return self.paired_losses(self.enhancer(image), stacked(data_samples, "target"))
