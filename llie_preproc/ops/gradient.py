"""Gradient magnitude of images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-6


def central_differences() -> Tensor:
    """The kernels (-1, 0, 1) along the rows and along the columns, ``(2, 1, 3, 3)``.

    Examples:
        >>> central_differences()[0, 0].tolist()
        [[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    kernel = torch.zeros(2, 1, 3, 3)
    kernel[0, 0, 1], kernel[1, 0, :, 1] = torch.tensor([-1.0, 0, 1]), torch.tensor([-1.0, 0, 1])
    return kernel


def gradient_map(image: Tensor, kernel: Tensor | None = None) -> Tensor:
    """``f_g`` of Semi-LLIE's gradient loss (Eq. 6): ``sqrt(dx^2 + dy^2 + 1e-6)`` by central differences.

    Args:
        image: ``(N, C, H, W)``; pixels beyond its border count as zero.
        kernel: Kernels ``(2, 1, 3, 3)`` for dx and dy; by default :func:`central_differences`.

    Returns:
        ``(N, C, H, W)``: the gradient magnitude of each channel.

    Examples:
        >>> ramp = torch.arange(5.0).expand(1, 1, 3, 5)
        >>> gradient_map(ramp)[0, 0, 1].round(decimals=3).tolist()
        [1.0, 2.0, 2.0, 2.0, 3.0]
    """
    channels = image.shape[1]
    kernel = central_differences().to(image) if kernel is None else kernel
    slopes = F.conv2d(image, kernel.repeat(channels, 1, 1, 1), padding=1, groups=channels).unflatten(1, (channels, 2))
    return (slopes.square().sum(2) + _EPS).sqrt()
