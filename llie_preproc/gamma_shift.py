"""Simulation of too little and too much light by a gamma shift of stored levels, as in Section 5 of PSENet.

The paper plots detection against "gamma" without a formula. According to its text, low values are too dark and high
values too bright: this is the convention ``'inverse'`` here. MMDetection users and image tools mostly mean ``'power'``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Convention = Literal["power", "inverse"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
"""Meanings of a gamma ``g``: ``'power'`` is ``I^g``, where values above 1 darken; ``'inverse'`` is ``I^(1/g)``."""

GAMMAS = (0.1, 0.2, 0.4, 0.6, 1.0, 1.5, 2.5, 5.0, 10.0)
"""Default values of a sweep; the choice is ours, because the paper lists no values."""


def shift_gamma(image: np.ndarray, gamma: float, convention: str = "power") -> np.ndarray:
    """Shift levels in [0, 1] by a power, and round them to 8 bits as in a stored picture.

    Args:
        image: Levels in uint8, of any shape.
        gamma: Positive, finite number.
        convention: Meaning of ``gamma``, one of :data:`CONVENTIONS`.

    Raises:
        TypeError: ``image`` is not uint8.
        ValueError: ``gamma`` is not positive and finite, or ``convention`` is unknown.

    Examples:
        >>> shift_gamma(np.array([0, 64, 255], np.uint8), 2.0).tolist()
        [0, 16, 255]
    """
    if image.dtype != np.uint8:
        raise TypeError(f"a gamma shift needs uint8 levels, got {image.dtype}")
    levels = np.arange(256) / 255
    return (levels ** exponent(gamma, convention) * 255).round().astype(np.uint8)[image]


def exponent(gamma: float, convention: str = "power") -> float:
    """The exponent on levels in [0, 1] that ``gamma`` means; an exponent below 1 brightens.

    Raises:
        ValueError: ``gamma`` is not positive and finite, or ``convention`` is unknown.

    Examples:
        >>> exponent(2.0), exponent(2.0, "inverse")
        (2.0, 0.5)
    """
    if not (gamma > 0 and np.isfinite(gamma)):
        raise ValueError(f"gamma must be positive and finite, got {gamma}")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    return float(gamma if convention == "power" else 1 / gamma)
