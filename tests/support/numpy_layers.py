"""Layers in numpy float64, written from their definitions, as references for networks of torch's layers."""

from __future__ import annotations

import numpy as np


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Correlation of an image ``(C, H, W)`` with weights ``(O, C, k, k)``, k odd; zeros surround the image."""
    radius = weight.shape[-1] // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (radius, radius), (radius, radius)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[-2:], axis=(1, 2))
    result = np.einsum("chwij,ocij->ohw", windows, weight.astype(np.float64), optimize=True)
    return result + np.reshape(bias, (-1, 1, 1))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
