"""Plain supervised training on pairs."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import BaseDataElement
from torch import Tensor

from llie_preproc.registry import MODELS

from .base import TrainingMethod, stacked


@MODELS.register_module()
class SupervisedTraining(TrainingMethod):
    """Minimises ``losses`` between the enhanced image and its reference.

    Samples have ``target``. Arguments as for :class:`~training.methods.base.TrainingMethod`; ``losses`` must name at
    least one.

    Raises:
        ValueError: No loss of a weight above 0.
    """

    def __init__(self, enhancer: dict | str, losses: dict[str, dict | None], **options: object) -> None:
        super().__init__(enhancer, losses, **options)  # type: ignore[arg-type]
        self.require_losses()

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted losses."""
        return self.paired_losses(self.enhancer(image), stacked(data_samples, "target"))
