"""Logging enhanced pictures of the validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional

from llie_preproc.checks import at_least
from llie_preproc.registry import HOOKS


@HOOKS.register_module()
class EnhancedSamples(Hook):
    """A hook that adds the first validation pictures to the visualizer: input, enhanced picture and reference.

    Args:
        number: Number of pictures.
        max_side: Largest side in pixels, to which larger pictures are shrunk.

    Raises:
        ValueError: ``number`` or ``max_side`` is below 1.

    Examples:
        >>> EnhancedSamples(number=2).max_side
        400
    """

    def __init__(self, number: int = 4, max_side: int = 400) -> None:
        at_least("number", number, 1)
        at_least("max_side", max_side, 1)
        self.number, self.max_side = number, max_side
        self._shown = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start again with the first picture."""
        self._shown = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Add the pictures of a batch until there are enough."""
        for image, sample in zip((data_batch or {})["inputs"], outputs or [], strict=True):
            if self._shown == self.number or runner.rank:
                return
            columns = [image, sample.enhanced * 255, *([sample.target] if "target" in sample else [])]
            picture = torch.cat([self._column(c, sample.enhanced.shape[-2:]) for c in columns], dim=2)
            pixels = picture.byte().permute(1, 2, 0).numpy()
            runner.visualizer.add_image(f"val_{self._shown}", pixels, runner.iter)
            self._shown += 1

    def _column(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """A picture at the common size, which is shrunk if it is too large."""
        shrink = max(1.0, max(size) / self.max_side)
        height, width = (max(1, round(n / shrink)) for n in size)
        unit = image.detach().cpu().float()[None]
        resized = functional.interpolate(unit, (height, width), mode="bilinear", antialias=True)
        return resized[0].round().clamp(0, 255)
