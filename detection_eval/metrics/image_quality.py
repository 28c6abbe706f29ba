"""PSNR and SSIM against references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from llie_preproc.registry import METRICS

_WINDOW = 11


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """Mean PSNR (dB) and SSIM of enhanced images over a paired set.

    On RGB in [0, 1], full size, the output clamped, no border crop, no adjustment of the mean brightness. SSIM has
    the Gaussian 11x11 window of sigma 1.5, without down-sampling, averaged over channels and over the pixels that the
    window fits around, as in Wang et al.'s original.

    Each sample, as a dict, has ``enhanced`` (``(3, H, W)`` float in [0, 1]) and ``target`` (``(3, H, W)`` uint8).
    """

    default_prefix = "iqa"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch."""
        for sample in data_samples:
            self.results.append(image_quality(sample["enhanced"], sample["target"]))

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Mean over images."""
        return {key: float(np.mean([r[key] for r in results])) for key in results[0]}


def image_quality(enhanced: Tensor, target: Tensor) -> dict[str, float]:
    """``psnr`` (dB) and ``ssim`` of one image.

    Args:
        enhanced: ``(3, H, W)`` floating in [0, 1].
        target: ``(3, H, W)`` uint8, or floating in [0, 1].

    Raises:
        ValueError: The shapes differ, or a side is shorter than SSIM's window of 11.
    """
    if enhanced.shape != target.shape or min(enhanced.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"two images of one shape, at least {_WINDOW} pixels a side, can be compared; "
            f"got {tuple(enhanced.shape)} and {tuple(target.shape)}"
        )
    unit = target if target.is_floating_point() else target.float() / 255
    pair = enhanced.float().clamp(0, 1)[None], unit.to(enhanced.device)[None]
    psnr = peak_signal_noise_ratio(*pair, data_range=1.0)
    # torchmetrics' own mean includes a border of reflected pixels.
    ssim = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)[1]
    border = _WINDOW // 2
    return {"psnr": psnr.item(), "ssim": ssim[..., border:-border, border:-border].mean().item()}
