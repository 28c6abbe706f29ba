"""Pictures of random values: the same ones for the same seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def images(height: int, width: int, count: int = 1, seed: int = 0) -> Tensor:
    """``(count, 3, height, width)`` in [0, 1)."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def dark_images(height: int, width: int, count: int = 1, seed: int = 0) -> Tensor:
    """``(count, 3, height, width)`` in [0, 0.4)."""
    return 0.4 * images(height, width, count, seed)


def dark_image(height: int, width: int, seed: int = 0) -> Tensor:
    """``(3, height, width)`` in [0, 0.4)."""
    return dark_images(height, width, seed=seed)[0]


def levels(seed: int = 0, size: tuple[int, int] = (12, 16), low: int = 0, high: int = 256) -> np.ndarray:
    """``(*size, 3)`` uint8, from ``low`` to below ``high``."""
    return np.random.default_rng(seed).integers(low, high, (*size, 3), np.uint8)


def planes(seed: int = 0, size: tuple[int, int] = (40, 50), low: int = 0, high: int = 256) -> Tensor:
    """``(3, *size)`` uint8, from ``low`` to below ``high``."""
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, (3, *size), np.uint8))
