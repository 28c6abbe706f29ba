"""Signal to reconstruction error ratio, as the package image-similarity-measures defines it."""

from __future__ import annotations

from torch import Tensor

from .arrays import unit_pair
from .meters import meter


@meter(
    "sre",
    "SRE {:.3f} dB",
    "mean over RGB, levels 0 to 255, norm not squared (image-similarity-measures)",
    beside="target",
)
def sre(enhanced: Tensor, target: Tensor) -> float:
    """``10 log10`` of the mean over channels of ``mean(b)^2 / (||a - b|| / (H W))``, in dB.

    ``a`` is the enhanced picture and ``b`` the target, with levels in [0, 255]. The norm is not squared, so the value
    depends on the scale of the levels, and rises by 3 dB for each doubling of the picture's sides. It is infinite for
    equal pictures.

    >>> import torch
    >>> round(sre(torch.full((3, 4, 4), 0.6), torch.full((3, 4, 4), 0.5)), 2)
    34.07

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped, not rounded.
        target: Reference picture of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    first, second = (255 * x.double().flatten(1) for x in unit_pair(enhanced, target))
    error = (first - second).norm(dim=1) / first.shape[1]
    return 10 * (second.mean(dim=1).square() / error).mean().log10().item()
