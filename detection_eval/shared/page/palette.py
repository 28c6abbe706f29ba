"""Colours for drawings: a few that everyone can tell apart, and any number of others."""

from __future__ import annotations

import colorsys
import math

COLOURS = (
    "#0b84d8",
    "#e0701a",
    "#00b487",
    "#a51e78",
    "#6900ff",
    "#ff0f5a",
    "#695a2d",
    "#c396c3",
    "#5a69ff",
)
"""Colours of series or kinds of boxes, in order. Colour-blind people can tell them apart, on light and dark pages."""

# Steps of the golden ratio around a circle stay apart, whatever their number.
_GOLDEN = (math.sqrt(5) - 1) / 2


def hues(count: int) -> list[str]:
    """Return any number of colours, where :data:`COLOURS` are too few.

    A larger count only adds colours; the first ones do not change.

    Examples:
        >>> hues(2)
        ['#f04242', '#4275f0']
    """
    steps = (number * _GOLDEN for number in range(count))
    levels = [colorsys.hls_to_rgb(step % 1, 0.6 if step % 2 < 1 else 0.45, 0.85) for step in steps]
    return ["#" + "".join(f"{round(255 * level):02x}" for level in each) for each in levels]
