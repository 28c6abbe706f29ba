"""Galleries of a page: pictures side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..score_table import most_changed
from .html_blocks import BLOCKS, Html, heading, paragraph, section
from .overlays import Overlay, draw

# More pictures side by side would be too small.
_COLUMNS = 4


@dataclass(frozen=True)
class Panel:
    """A picture of a gallery.

    Attributes:
        image: Pixels ``(H, W, 3)`` RGB, uint8, uint16, or float in [0, 1].
        caption: Text below the picture.
        alt: Description of the picture for people who cannot see it.
        overlays: Boxes that are drawn on the picture.
    """

    image: np.ndarray
    caption: str
    alt: str
    overlays: Sequence[Overlay] = ()


def gallery(panels: Sequence[Panel], columns: int | None = None, max_side: int = 480, quality: int = 82) -> Html:
    """Lay pictures out in rows.

    Args:
        panels: Pictures of the gallery.
        columns: Number of pictures in a row; a narrow screen shows fewer. None puts up to four pictures in one row, and
            more pictures in two or more rows.
        max_side: Largest height and width in pixels; larger pictures are shrunk.
        quality: Quality of the JPEG encoding.
    """
    if columns is None:
        columns = max(2, len(panels) if len(panels) <= _COLUMNS else min(_COLUMNS, -(-len(panels) // 2)))
    return BLOCKS.grid([_figure(panel, max_side, quality) for panel in panels], columns, "gallery")


def chosen_pictures(count: Mapping[str, int], counted: str, gain: Mapping[str, float], gained: str) -> dict[str, str]:
    """Choose the picture with most objects, and the pictures that gained and lost most against raw.

    Args:
        count: Number of objects in each picture.
        counted: Noun for the objects.
        gain: Gain of each picture over raw; empty if there is nothing to compare.
        gained: Noun for what is gained.

    Returns:
        Reason for the choice, by the picture's name.

    Examples:
        >>> chosen_pictures({"a": 2, "b": 1}, "faces", {"a": 0, "b": -1}, "faces")
        {'a': 'most faces', 'b': 'most faces lost against raw'}
    """
    return {max(count, key=lambda name: count[name]): f"most {counted}"} | most_changed(gain, gained)


def pictures_section(
    legend: str, chosen: Mapping[str, str], rows: Callable[[str], Iterable[Sequence[Panel]]], max_side: int
) -> Html:
    """Write the section of the chosen pictures, each with its own galleries.

    Args:
        legend: Explanation of what is drawn on the pictures.
        chosen: Reason for showing each picture, by its name.
        rows: Function from a picture's name to its galleries.
        max_side: Largest height and width of a picture, in pixels.
    """
    blocks = [paragraph(legend)]
    for name, why in chosen.items():
        blocks += [heading(f"{name}: {why}"), *(gallery(panels, max_side=max_side) for panels in rows(name))]
    return section("Pictures", *blocks)


def _figure(panel: Panel, max_side: int, quality: int) -> Html:
    pixels = draw(panel.image, panel.overlays, max_side)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    height, width = pixels.shape[:2]
    return BLOCKS.picture(source, width, height, panel.alt, panel.caption)
