"""Colours of what is drawn: a few that are told apart by everyone, and as many more as are needed."""

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
"""One for each series or kind of box, in order; told apart on a light and a dark page, and by the colour-blind."""

# Steps of the golden ratio round a circle stay apart however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2


def hues(count: int) -> list[str]:
    """Colours of many things that :data:`COLOURS` are too few for; the first ``n`` are the same for any count.

    >>> hues(2)
    ['#f04242', '#4275f0']
    """
    steps = (number * _GOLDEN for number in range(count))
    levels = [colorsys.hls_to_rgb(step % 1, 0.6 if step % 2 < 1 else 0.45, 0.85) for step in steps]
    return ["#" + "".join(f"{round(255 * level):02x}" for level in each) for each in levels]
