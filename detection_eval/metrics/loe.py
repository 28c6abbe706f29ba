"""LOE, the lightness order error between an input and its enhanced version.

Source: Wang, Zheng, Hu, Li: Naturalness Preserved Enhancement Algorithm for Non-Uniform Illumination Images, 2013.
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
    """The number of ordered pairs of samples whose order of lightness changes, divided by the number of samples.

    Lightness is the largest of R, G and B of the 8-bit pictures. With ``m`` samples, LOE is ``1/m sum_p sum_q
    [(L_p >= L_q) xor (L'_p >= L'_q)]``. It is 0 for equal pictures and at most about ``m``, so values of different
    variants cannot be compared.

    >>> import torch
    >>> ramp = torch.arange(200, dtype=torch.uint8).expand(3, 150, 200)
    >>> lightness_order_error(ramp.clamp(max=100), ramp) > 0, lightness_order_error(ramp, ramp)
    (True, 0.0)

    Args:
        enhanced: Enhanced picture, ``(3, s H, s W)`` RGB, uint8 or floating in [0, 1]; ``s`` is a whole number.
        image: Input picture, ``(3, H, W)``; not a reference.
        variant: Way to take samples. ``'A'`` is that of NPE's public MATLAB files. It resizes pictures so that the
            input's short side becomes 50 (bicubic, antialiased, rounded to 8 bits). ``'B'`` is that of BIMEF. It picks
            100 rows and 100 columns at ``round(linspace(1, n, 100))`` without a filter.

    Raises:
        ValueError: ``variant`` is unknown, or the enhanced size is not a whole multiple of the input's.
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
    """The number of ordered pairs that differ, counted by the joint histogram of the 256 levels, not pair by pair."""
    joint = np.bincount(before * 256 + after, minlength=256 * 256).reshape(256, 256)
    both = joint.cumsum(axis=0).cumsum(axis=1)
    # A sample of levels (a, b) differs from the samples q with either L_q <= a or L'_q <= b, but not both.
    either = both[:, -1:] + both[-1:, :] - 2 * both
    return int((joint * either).sum())
