"""Conversions of pictures to the ranges, types and sizes that metrics compute with."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from llie_preproc.pictures import read_rgb8

# Weights of MATLAB's rgb2gray, with as many digits as MATLAB uses.
_RGB2GRAY = np.array([0.298936, 0.587043, 0.114021])
# A network's output leaves [0, 1] by less than this. Levels of 0 to 255 (even of a dark picture) and normalised inputs
# leave it by more.
_OVERSHOOT = 0.5


def read_levels(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file as ``(3, H, W)`` uint8 RGB.

    Raises:
        OSError, ImageError: The file cannot be read.
    """
    return torch.from_numpy(np.ascontiguousarray(read_rgb8(path).transpose(2, 0, 1)))


def to_unit(image: Tensor) -> Tensor:
    """Convert a picture ``(3, H, W)``, uint8 or floating in [0, 1], to float32 in [0, 1].

    A floating picture is clamped.

    Raises:
        ValueError: The shape or dtype is wrong, a value is not finite, or values leave [0, 1] by more than 0.5 (their
            range must then be another, such as 0 to 255).

    Examples:
        >>> to_unit(torch.tensor([0.0, 0.5, 1.2]).reshape(3, 1, 1)).flatten()
        tensor([0.0000, 0.5000, 1.0000])
    """
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"a picture must be (3, H, W), got {tuple(image.shape)}")
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        raise ValueError(f"a picture must be uint8, or floating in [0, 1], got {image.dtype}")
    unit = image.float()
    _check_range(unit)
    return unit.clamp(0, 1)


def _check_range(unit: Tensor) -> None:
    low, high = torch.stack(torch.aminmax(unit)).tolist()
    if not np.isfinite([low, high]).all():
        raise ValueError("a picture holds values that are not finite (NaN or infinity)")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"a floating picture must be in [0, 1] (an overshoot of {_OVERSHOOT} is clamped), got [{low:.4g}, "
            f"{high:.4g}]: divide levels by 255, and clamp a result that overshoots further"
        )


def to_bytes(image: Tensor) -> np.ndarray:
    """Convert a picture that :func:`to_unit` takes to ``(H, W, 3)`` uint8, rounded to the nearest level."""
    levels = (to_unit(image) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def to_grey(image: Tensor) -> np.ndarray:
    """Convert the 8-bit picture to grey levels ``(H, W)`` by MATLAB's weights, float64, rounded to integers."""
    return np.floor(to_bytes(image) @ _RGB2GRAY + 0.5)


def unit_pair(enhanced: Tensor, target: Tensor, min_side: int = 1) -> tuple[Tensor, Tensor]:
    """Convert two pictures by :func:`to_unit`, and move ``target`` to the device of ``enhanced``.

    Args:
        enhanced: Result ``(3, H, W)``.
        target: Reference of the same shape.
        min_side: Smallest height and width.

    Raises:
        ValueError: The shapes differ, a side is shorter than ``min_side``, or :func:`to_unit` refuses a picture.
    """
    if enhanced.shape != target.shape or min(enhanced.shape[-2:]) < min_side:
        raise ValueError(
            f"the two pictures must have the same shape and at least {min_side} pixels a side, "
            f"got {tuple(enhanced.shape)} and {tuple(target.shape)}"
        )
    return to_unit(enhanced), to_unit(target).to(enhanced.device)


def matlab_resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as MATLAB's ``imresize`` does.

    The kernel is Keys' cubic (a = -0.5), which is widened to shrink a picture; the border is symmetric.

    Args:
        image: Picture of one channel, ``(H, W)`` float64.
        size: Rows and columns of the result.

    Returns:
        Picture of that size, float64, not rounded.

    Examples:
        >>> matlab_resize(np.array([[0.0, 100.0]]), (1, 4)).round(1)
        array([[ -9.4,  20.3,  79.7, 109.4]])
    """
    for axis, length in enumerate(size):
        image = np.moveaxis(_resize_rows(np.moveaxis(image, axis, 0), length), 0, axis)
    return image


def _resize_rows(image: np.ndarray, length: int) -> np.ndarray:
    rows = len(image)
    scale = length / rows
    shrink = min(scale, 1.0)
    centre = (np.arange(length) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 / shrink).astype(int)
    result = np.zeros((length, *image.shape[1:]))
    total = np.zeros(length)
    for tap in range(int(np.ceil(4 / shrink)) + 2):
        weight = _cubic((centre - first - tap) * shrink)
        result += weight[:, None] * image[_mirrored(first + tap, rows)]
        total += weight
    return result / total[:, None]


def _cubic(distance: np.ndarray) -> np.ndarray:
    x = np.abs(distance)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
