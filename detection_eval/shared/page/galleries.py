"""Pictures of a page side by side."""

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
        image: ``(H, W, 3)`` RGB; uint8, uint16, or float in [0, 1].
        caption: Text below it.
        alt: What it shows, for who cannot see it.
        overlays: Boxes drawn on it.
    """

    image: np.ndarray
    caption: str
    alt: str
    overlays: Sequence[Overlay] = ()


def gallery(panels: Sequence[Panel], columns: int | None = None, max_side: int = 480, quality: int = 82) -> Html:
    """Pictures in rows of ``columns``; narrow screens get fewer.

    Args:
        panels: The pictures.
        columns: Number of those that stand side by side where there is room; None: all, or half of them where that
            leaves them too small.
        max_side: Height and width in pixels to which larger pictures are shrunk.
        quality: Quality of the JPEG encoding.
    """
    if columns is None:
        columns = max(2, len(panels) if len(panels) <= _COLUMNS else min(_COLUMNS, -(-len(panels) // 2)))
    return BLOCKS.grid([_figure(panel, max_side, quality) for panel in panels], columns, "gallery")


def chosen_pictures(count: Mapping[str, int], counted: str, gain: Mapping[str, float], gained: str) -> dict[str, str]:
    """The pictures to show, each with why: the one with most, and those that gained and lost most against raw.

    >>> chosen_pictures({"a": 2, "b": 1}, "faces", {"a": 0, "b": -1}, "faces")
    {'a': 'most faces', 'b': 'most faces lost against raw'}

    Args:
        count: Number of what is looked for in each picture.
        counted: Name of what is looked for.
        gain: What each picture gained over raw; empty where there is nothing to compare.
        gained: Name of what is gained.
    """
    return {max(count, key=lambda name: count[name]): f"most {counted}"} | most_changed(gain, gained)


def pictures_section(
    legend: str, chosen: Mapping[str, str], rows: Callable[[str], Iterable[Sequence[Panel]]], max_side: int
) -> Html:
    """The section of the chosen pictures, each with galleries of its own.

    Args:
        legend: What is drawn on the pictures.
        chosen: Names of the pictures, and why each is shown.
        rows: Makes the galleries of a picture out of its name.
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
