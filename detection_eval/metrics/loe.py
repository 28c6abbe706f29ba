"""LOE: the lightness order error between an input and its enhanced version.

Wang, Zheng, Hu, Li: Naturalness Preserved Enhancement Algorithm for Non-Uniform Illumination Images, 2013.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from .arrays import matlab_resize, to_bytes
from .meters import meter

_SHORT_SIDE = 50
_GRID = 100


@meter(
    "loe",
    "LOE {:.2f}",
    "variant A (NPE): against the input, short side resized to 50, bicubic, rounded",
    beside="image",
)
def lightness_order_error(enhanced: Tensor, image: Tensor, variant: str = "A") -> float:
    """``(1 / m)`` times the number of ordered pairs of samples whose order of lightness the enhancement changes.

    Lightness is the largest of R, G, B of the 8-bit pictures. With ``m`` samples, LOE is ``1/m sum_p sum_q
    [(L_p >= L_q) xor (L'_p >= L'_q)]``: 0 for equal pictures, at most about ``m``, so that variants cannot be compared.

    Args:
        enhanced: ``(3, s H, s W)`` RGB, uint8 or floating in [0, 1]; ``s`` a whole number.
        image: ``(3, H, W)``: the input, not a reference.
        variant: ``'A'`` (public MATLAB files of NPE): the input's short side resized to 50, bicubic with
            antialiasing, rounded to 8 bits. ``'B'`` (BIMEF): 100 rows and 100 columns picked at
            ``round(linspace(1, n, 100))``, no filter.

    Raises:
        ValueError: An unknown variant, or sizes that are no whole multiple.
    """
    size, large = ((x.shape[-2], x.shape[-1]) for x in (image, enhanced))
    scale = large[0] // size[0]
    if scale < 1 or large != (scale * size[0], scale * size[1]):
        raise ValueError(f"the enhanced size must be a whole multiple of the input's: {large}, {size}")
    if variant not in _SAMPLERS:
        raise ValueError(f"variant must be one of {sorted(_SAMPLERS)}, got {variant!r}")
    before, after = (_SAMPLERS[variant](to_bytes(x).max(axis=2), size).ravel() for x in (image, enhanced))
    return _order_errors(before, after) / before.size


meter("loe_bimef", "LOE-BIMEF {:.2f}", "variant B (BIMEF): against the input, 100x100 pixels picked", beside="image")(
    partial(lightness_order_error, variant="B")
)


def _resized(lightness: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    ratio = _SHORT_SIDE / min(size)
    rows, columns = (int(np.floor(n * ratio + 0.5)) for n in size)
    return np.floor(matlab_resize(lightness.astype(float), (rows, columns)) + 0.5).clip(0, 255).astype(np.intp)


def _picked(lightness: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.floor(np.linspace(1, n, _GRID) + 0.5).astype(int) - 1 for n in lightness.shape)
    return lightness[np.ix_(rows, columns)].astype(np.intp)


_SAMPLERS = {"A": _resized, "B": _picked}


def _order_errors(before: np.ndarray, after: np.ndarray) -> int:
    """Ordered pairs that differ, counted in the joint histogram of the 256 levels instead of pair by pair."""
    joint = np.bincount(before * 256 + after, minlength=256 * 256).reshape(256, 256)
    both = joint.cumsum(axis=0).cumsum(axis=1)
    # For a sample of levels (a, b): how many q have L_q <= a, how many L'_q <= b, less twice those with both.
    either = both[:, -1:] + both[-1:, :] - 2 * both
    return int((joint * either).sum())
