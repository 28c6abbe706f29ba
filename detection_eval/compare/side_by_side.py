"""Pictures, raw and enhanced side by side, with found and missed objects and false detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from ..shared.page.galleries import Panel
from ..shared.page.overlays import Overlay, enlarged
from ..shared.page.palette import COLOURS
from .changes import Change, Matches

FOUND, MISSED, FALSE = COLOURS[0], COLOURS[1], COLOURS[5]
LEGEND = (
    "Blue, solid line: an annotated object that is found. Orange, long dashes, 'missed': an annotated object that is "
    "not found. Red, short dashes, 'false': a detection that matches no annotated object of its class. A box has no "
    "label if there are many of its kind."
)
_LONG, _SHORT = 10, 4
# More labels than this would hide the picture.
_LABELLED = 5
# Least length of the longer side of a cut-out part: in raw pixels, and in sides of a typical box.
_LEAST_WINDOW, _WINDOW_BOXES = 640, 8
# Pixels of smaller pictures are repeated, because lines and labels would hide them.
_LEAST_SIDE = 400
# A part that would be larger than this share of the picture is not cut out.
_WHOLE = 0.75


@dataclass(frozen=True)
class View:
    """One picture as one detector sees it.

    Attributes:
        title: Title ``'raw'``, or the label of a row.
        pixels: Picture ``(s H, s W, 3)`` RGB.
        matches: Matches of the detections, in raw pixels.
        threshold: Least score of a detection that counts.
    """

    title: str
    pixels: np.ndarray
    matches: Matches
    threshold: float


@dataclass(frozen=True)
class Pair:
    """Picture whose detections changed.

    Attributes:
        name: Name of the picture, ``file_name`` of the annotations.
        change: Change from raw to enhanced.
        raw: View of the raw picture.
        enhanced: View of the enhanced picture.
    """

    name: str
    change: Change
    raw: View
    enhanced: View


def panels(pair: Pair, classes: Mapping[int, str]) -> list[Panel]:
    """Draw the boxes on the raw and on the enhanced picture; a large picture is cut to the part with most changes.

    Args:
        pair: Picture with its views.
        classes: Names of the classes by category id.
    """
    height, width = pair.raw.pixels.shape[:2]
    window = _window(_changed_boxes(pair), width, height)
    part = "" if window == (0, 0, width, height) else ", a part of the picture"
    return [_panel(pair.name, view, window, width, part, classes) for view in (pair.raw, pair.enhanced)]


def _panel(
    name: str, view: View, window: tuple[int, int, int, int], raw_width: int, part: str, classes: Mapping[int, str]
) -> Panel:
    found, false = view.matches.found(view.threshold), view.matches.false(view.threshold)
    scale = view.pixels.shape[1] / raw_width
    left, top, right, bottom = (round(edge * scale) for edge in window)
    zoom = max(1, _LEAST_SIDE // max(right - left, bottom - top))

    def overlay(boxes: np.ndarray, labels: list[str], colour: str, dash: int) -> Overlay:
        placed = (boxes * scale - [left, top, left, top]) * zoom
        return Overlay(placed, labels if len(labels) <= _LABELLED else (), colour, dash)

    missed_labels = [f"missed {_ascii(classes[c])}" for c in view.matches.classes[~found]]
    false_scores = zip(view.matches.false_classes[false], view.matches.false_scores[false], strict=True)
    overlays = [
        overlay(
            view.matches.false_boxes[false],
            [f"false {_ascii(classes[c])} {s:.2f}" for c, s in false_scores],
            FALSE,
            _SHORT,
        ),
        overlay(view.matches.boxes[found], [], FOUND, 0),
        overlay(view.matches.boxes[~found], missed_labels, MISSED, _LONG),
    ]
    count = f"{found.sum()} of {len(found)} found, {false.sum()} false"
    words = f"{found.sum()} of {len(found)} annotated objects found, {false.sum()} false detections"
    name = PurePath(name).name
    caption, alt = f"{name}, {view.title}: {count}{part}", f"{name}, {view.title}{part}: {words}"
    return Panel(enlarged(view.pixels[top:bottom, left:right], zoom), caption, alt, overlays)


def _ascii(name: str) -> str:
    return name.encode("ascii", "replace").decode()


def _changed_boxes(pair: Pair) -> np.ndarray:
    """Return the objects, ``(k, 4)``, that only one view finds, or else the false detections of both views."""
    first, second = (view.matches.found(view.threshold) for view in (pair.raw, pair.enhanced))
    if (first != second).any():
        return pair.raw.matches.boxes[first != second]
    false = [view.matches.false_boxes[view.matches.false(view.threshold)] for view in (pair.raw, pair.enhanced)]
    return np.concatenate(false)


def _window(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Choose the part with most of the boxes, in the picture's proportions; returns x1 y1 x2 y2."""
    typical = np.sqrt(np.median((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))) if len(boxes) else np.inf
    share = max(_LEAST_WINDOW, _WINDOW_BOXES * typical) / max(width, height)
    if share > _WHOLE:
        return 0, 0, width, height
    size = np.array([width, height]) * share
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    starts = np.clip(centres - size / 2, 0, np.array([width, height]) - size)
    inside = ((boxes[None, :, :2] >= starts[:, None]) & (boxes[None, :, 2:] <= (starts + size)[:, None])).all(axis=2)
    start = starts[np.argmax(inside.sum(axis=1))]
    left, top, right, bottom = np.concatenate([start, start + size]).round().astype(int).tolist()
    return left, top, right, bottom
