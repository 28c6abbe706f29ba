"""Mirror distillation, IAML's training with a teacher that sees the clean image (Sections II-A to II-C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from llie_preproc.checks import one_of, within
from llie_preproc.registry import MODELS

from ..losses.mirror import cosine_loss, illumination_weight, mirror_loss
from .base import TrainingMethod, frozen_copy, stacked, update_average

MIRRORS = ("illumination", "standardised", "cosine", None)
_PARTS = ("encode", "decode", "reconstruct", "decoder")


@MODELS.register_module()
class MirrorDistillation(TrainingMethod):
    """Trains an auto-encoder whose decoder imitates, level by level, a decoder of the clean image.

    The student is the enhancer (Eq. 1). The teacher consists of the student's encoder, applied to the reference
    without gradient, and a decoder of its own (Eq. 2). That decoder starts as a copy of the student's decoder (Eq. 3)
    and follows it as a moving average (Eq. 4). The loss is the sum of ``losses`` between output and reference plus
    ``mirror_weight`` times the mirror loss (Eq. 10). Samples need ``target``, of the size of the input; height and
    width must be multiples of the enhancer's size divisor.

    The teacher uses the student's encoder itself, so a layer with running statistics would collect those of the clean
    images too.

    >>> picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    >>> network = dict(type="IAMLUNet", width=4, depth=1)
    >>> method = MirrorDistillation(network, losses=dict(mse=dict(type="llie_preproc.MSELoss")))
    >>> list(method.loss(torch.rand(1, 3, 16, 16), [BaseDataElement(target=picture)]))
    ['loss_mse', 'loss_mirror']

    Args:
        enhancer: Config of a registered enhancer that has ``encode``, ``decode``, ``reconstruct`` and ``decoder``,
            such as :class:`~llie_preproc.enhancers.iaml.IAMLUNet`.
        losses: Configs of losses, as in :class:`~training.methods.base.TrainingMethod`; at least one. The paper has MSE
            and 1 - SSIM.
        mirror: Comparison of feature maps. ``'illumination'`` compares standardised maps, weighted by darkness (Eq. 8;
            Table IV, row 5); ``'standardised'`` leaves out the weight (row 4); ``'cosine'`` takes the cosine similarity
            (row 3). None compares nothing and has no teacher (rows 1 and 2).
        mirror_weight: Weight of the mirror loss, lambda of Eq. 10. This project chose this value and those of the next
            three arguments.
        momentum: Momentum of the teacher's decoder, m of Eq. 4.
        base_weight: Weight of the lightest pixels, w_base of Eq. 6.
        max_weight: Weight of the darkest pixels, w_max of Eq. 6.
        **options: ``ema`` and ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: The enhancer lacks one of these parts, there is no loss, ``mirror`` is unknown, ``momentum`` is
            outside [0, 1), a weight is negative, or ``max_weight`` is 0 or below ``base_weight``.
    """

    def __init__(
        self,
        enhancer: dict | str,
        losses: Mapping[str, dict | None],
        mirror: str | None = "illumination",
        mirror_weight: float = 0.8,
        momentum: float = 0.999,
        base_weight: float = 1.0,
        max_weight: float = 1.6,
        **options: Any,
    ) -> None:
        super().__init__(enhancer, losses, **options)
        missing = [part for part in _PARTS if not hasattr(self.enhancer, part)]
        if missing:
            raise ValueError(
                f"{type(self.enhancer).__name__} cannot be trained by mirror distillation: it has no "
                f"{', '.join(missing)}; use an auto-encoder such as IAMLUNet"
            )
        self.require_losses()
        _check(mirror, mirror_weight, momentum, base_weight, max_weight)
        self.mirror, self.mirror_weight, self.momentum = mirror, mirror_weight, momentum
        self.base_weight, self.max_weight = base_weight, max_weight
        self.teacher_decoder = frozen_copy(self.enhancer.decoder) if mirror is not None else None

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted losses (Eq. 10): ``losses``, and ``loss_mirror``.

        Raises:
            ValueError: The samples have no ``target``, or its size is not that of the input.
        """
        target = stacked(data_samples, "target")
        if target.shape != image.shape:
            raise ValueError(
                f"input and target must have the same shape, got {tuple(image.shape)} and {tuple(target.shape)}"
            )
        decoded = self.enhancer.decode(self.enhancer.encode(image))
        losses = self.paired_losses(self.enhancer.reconstruct(image, decoded), target)
        if self.teacher_decoder is not None:
            losses["loss_mirror"] = self.mirror_weight * self.distance(decoded, self.teach(target), image)
        return losses

    @torch.no_grad()
    def teach(self, target: Tensor) -> list[Tensor]:
        """The teacher's feature maps of the clean image (Eq. 2), without gradient.

        Raises:
            ValueError: ``mirror`` is None, so there is no teacher.
        """
        if self.teacher_decoder is None:
            raise ValueError("with mirror=None there is no teacher")
        return self.teacher_decoder(self.enhancer.encode(target))

    def distance(self, student: Sequence[Tensor], teacher: Sequence[Tensor], image: Tensor) -> Tensor:
        """The mirror loss without its weight, in float32 even under autocast.

        Args:
            student: Feature maps of the student's decoder.
            teacher: Feature maps of the teacher's decoder.
            image: Low-light input, ``(N, 3, H, W)`` RGB in [0, 1].
        """
        with torch.autocast(image.device.type, enabled=False):
            if self.mirror == "cosine":
                return cosine_loss(student, teacher)
            weighted = self.mirror == "illumination"
            weight = illumination_weight(image.float(), self.base_weight, self.max_weight) if weighted else None
            return mirror_loss(student, teacher, weight)

    def after_step(self) -> None:
        """Let the teacher's decoder follow the student's (Eq. 4)."""
        super().after_step()
        if self.teacher_decoder is not None:
            update_average(self.teacher_decoder, self.enhancer.decoder, self.momentum)


def _check(mirror: str | None, mirror_weight: float, momentum: float, base_weight: float, max_weight: float) -> None:
    one_of("mirror", mirror, MIRRORS)
    within("momentum", momentum, 0, below=1)
    within("mirror_weight", mirror_weight, 0)
    within("max_weight", max_weight, above=0)
    within("base_weight", base_weight, 0, most=max_weight)
