"""Too little and too much light as a gamma shift of stored levels: the extreme light of PSENet's Section 5.

The paper plots detection against "gamma" without its formula; by its text low values are too dark and high ones too
bright, which is the convention ``'inverse'`` here. MMDetection users and image tools mostly mean ``'power'``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Convention = Literal["power", "inverse"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
"""``'power'``: ``I^g``, above 1 darkens. ``'inverse'``: ``I^(1/g)``, above 1 brightens."""

GAMMAS = (0.1, 0.2, 0.4, 0.6, 1.0, 1.5, 2.5, 5.0, 10.0)
"""The sweep; ours, because the paper lists no values."""


def shift_gamma(image: np.ndarray, gamma: float, convention: str = "power") -> np.ndarray:
    """Shift levels in [0, 1] by a power, rounded to 8 bits as a stored picture.

    Args:
        image: uint8, any shape.
        gamma: Positive and finite.
        convention: One of :data:`CONVENTIONS`.

    Raises:
        TypeError: Not uint8.
        ValueError: ``gamma`` is not positive and finite, or an unknown convention.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"a gamma shift takes uint8 levels, got {image.dtype}")
    levels = np.arange(256) / 255
    return (levels ** exponent(gamma, convention) * 255).round().astype(np.uint8)[image]


def exponent(gamma: float, convention: str = "power") -> float:
    """The exponent on levels in [0, 1] that ``gamma`` means; below 1 brightens.

    Raises:
        ValueError: ``gamma`` is not positive and finite, or an unknown convention.
    """
    if not (gamma > 0 and np.isfinite(gamma)):
        raise ValueError(f"gamma must be positive and finite, got {gamma}")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    return float(gamma if convention == "power" else 1 / gamma)
