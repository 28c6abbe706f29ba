"""Root mean squared error, as the package image-similarity-measures defines it."""

from __future__ import annotations

from torch import Tensor

from .arrays import unit_pair
from .meters import meter


@meter("rmse", "RMSE {:.4f}", "mean over RGB of each band's RMSE, max_p 255", beside="target")
def rmse(enhanced: Tensor, target: Tensor, max_p: float = 255.0) -> float:
    """Mean over the channels of ``sqrt(mean(((a - b) / max_p)^2))``, where ``a`` and ``b`` are in [0, 255].

    The package's own ``max_p`` is 4095, for 12-bit satellite bands. With 255 the result is the error of pictures in
    [0, 1].

    >>> import torch
    >>> round(rmse(torch.full((3, 4, 4), 0.6), torch.full((3, 4, 4), 0.5)), 4)
    0.1

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped, not rounded.
        target: Reference picture of the same shape.
        max_p: Divisor of the levels.

    Raises:
        ValueError: The shapes differ, or ``max_p`` is not positive.
    """
    if not max_p > 0:
        raise ValueError(f"max_p must be positive, got {max_p}")
    first, second = unit_pair(enhanced, target)
    mean_square = (first.double() - second.double()).square().mean(dim=(1, 2))
    return mean_square.sqrt().mean().item() * 255 / max_p
