"""A picture raw and enhanced, side by side, with what the detector found, missed and made up."""

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
    "not found. Red, short dashes, 'false': a detection where no object of its class is annotated. Labels are left out "
    "where there are many."
)
_LONG, _SHORT = 10, 4
# More labels than this hide the picture.
_LABELLED = 5
# Of the part that is shown of a large picture: its least side in raw pixels, and its side in sides of typical boxes.
_LEAST_WINDOW, _WINDOW_BOXES = 640, 8
# Pictures that are smaller are repeated pixel by pixel: lines and labels would hide them.
_LEAST_SIDE = 400
# A part that is hardly smaller than the picture does not pay.
_WHOLE = 0.75


@dataclass(frozen=True)
class View:
    """One picture as one detector sees it.

    Attributes:
        title: ``'raw'``, or the label of a row.
        pixels: ``(s H, s W, 3)`` RGB.
        matches: In raw pixels.
        threshold: Of the scores that count.
    """

    title: str
    pixels: np.ndarray
    matches: Matches
    threshold: float


@dataclass(frozen=True)
class Pair:
    """A picture whose detections changed.

    Attributes:
        name: ``file_name`` of the annotations.
        change: From raw to enhanced.
        raw: Before.
        enhanced: After.
    """

    name: str
    change: Change
    raw: View
    enhanced: View


def panels(pair: Pair, classes: Mapping[int, str]) -> list[Panel]:
    """The raw and the enhanced picture with their boxes; of a large one with small changes the part where most are.

    Args:
        pair: The picture.
        classes: Names by category id.
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
    """``(k, 4)``: objects that one of the two finds; where there are none, the false detections of both."""
    first, second = (view.matches.found(view.threshold) for view in (pair.raw, pair.enhanced))
    if (first != second).any():
        return pair.raw.matches.boxes[first != second]
    false = [view.matches.false_boxes[view.matches.false(view.threshold)] for view in (pair.raw, pair.enhanced)]
    return np.concatenate(false)


def _window(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the part to show: where most of the boxes lie, of the picture's proportions."""
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
