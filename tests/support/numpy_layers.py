"""Layers in numpy float64, written from their definitions, as references for networks of torch's layers."""

from __future__ import annotations

from collections.abc import Callable

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


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def zero_dce_curves(layer: Callable[..., np.ndarray], image: np.ndarray) -> np.ndarray:
    """The curves r of Zero-DCE's public networks on ``(3, H, W)``.

    Args:
        layer: Function of the number of a layer, from 1 to 7, and its inputs, which are joined along the channels.
        image: Picture that the layers see.
    """
    x1 = relu(layer(1, image))
    x2 = relu(layer(2, x1))
    x3 = relu(layer(3, x2))
    x4 = relu(layer(4, x3))
    x5 = relu(layer(5, x3, x4))
    x6 = relu(layer(6, x2, x5))
    return np.tanh(layer(7, x1, x6))
