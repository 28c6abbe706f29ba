"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from llie_preproc.errors import needs

from .arrays import unit_pair
from .meters import meter


@meter("psnr", "PSNR {:6.3f} dB", "RGB in [0, 1], full size", beside="target")
def psnr(enhanced: Tensor, target: Tensor) -> float:
    """``10 log10(1 / MSE)`` in dB over all pixels and channels of RGB in [0, 1]; infinite for equal pictures.

    >>> import torch
    >>> round(psnr(torch.full((3, 4, 4), 0.6), torch.full((3, 4, 4), 0.5)), 2)
    20.0

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped, not rounded.
        target: Reference picture of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    with needs("the metric 'psnr'"):
        from torchmetrics.functional.image import peak_signal_noise_ratio
    return peak_signal_noise_ratio(*unit_pair(enhanced, target), data_range=1.0).item()
