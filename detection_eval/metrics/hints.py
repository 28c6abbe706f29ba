"""Warnings about annotations and detections that are valid, but seem to be in the wrong unit or box format.

A hint is given only where the numbers leave no other explanation. It changes nothing and refuses nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from llie_preproc.coco_json import is_whole

from ..datasets.fddb import FddbDetections, FddbTruth
from ..datasets.labels import Size

# Boxes look like corners if more than this share of them leaves the pictures, and none would leave them as corners.
_SHARE = 0.5
# Fewer boxes than this prove nothing.
_FEWEST_BOXES = 5
# Boxes in pixels exceed this value; fractions never do.
_LEAST_PIXELS = 5
# Rounding may bring an angle a little beyond a whole turn.
_TURN = 2 * math.pi + 0.01


def print_hints(found: Sequence[str]) -> None:
    """Print hints to stderr, each in a line of its own."""
    for each in found:
        print(f"warning: {each}", file=sys.stderr)


def fddb_hints(truth: FddbTruth, detections: Mapping[str, FddbDetections], sizes: Mapping[str, Size]) -> list[str]:
    """Sentences on what looks wrong with FDDB's annotations, or with detections in its pictures."""
    elliptic = {name: each.shapes for name, each in detections.items() if each.elliptic and name in truth.ellipses}
    flat = [(name, each.shapes) for name, each in detections.items() if not each.elliptic and name in truth.ellipses]
    boxes = np.concatenate([np.zeros((0, 4)), *(shapes for _, shapes in flat)])
    frames = np.array([sizes.get(name, (np.nan, np.nan)) for name, shapes in flat for _ in shapes]).reshape(-1, 2)
    faces = np.concatenate([np.zeros((0, 5)), *truth.ellipses.values()])
    pixels = np.concatenate([faces[:, 3:], 2 * faces[:, :2]], axis=1)
    return [
        *_degrees(truth.ellipses, "annotated ellipses"),
        *_degrees(elliptic, "detected ellipses"),
        *box_hints(boxes, frames, pixels),
    ]


def coco_hints(truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on what looks wrong with valid COCO annotations, or with valid results for their images."""
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in truth["images"]}
    known = {number: size for number, size in sizes.items() if all(map(is_whole, size))}
    frames = [known.get(each["image_id"], (np.nan, np.nan)) for each in detections]
    found, there = (
        np.array([each["bbox"] for each in entries], dtype=np.float64).reshape(-1, 4)
        for entries in (detections, truth["annotations"])
    )
    return box_hints(found, np.array(frames, dtype=np.float64).reshape(-1, 2), there)


def box_hints(boxes: np.ndarray, frames: np.ndarray, truth: np.ndarray) -> list[str]:
    """Sentences on what looks wrong with detected boxes.

    >>> box_hints(np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[60.0, 40.0]]), np.array([[10.0, 20, 30, 15]]))
    ['every detected box lies within [0, 1]: boxes must be in pixels, but these look like fractions of the picture']

    Args:
        boxes: Detected boxes ``(N, 4)``, left, top, width, height.
        frames: Width and height of the picture of each box, ``(N, 2)``; nan where they are not known.
        truth: Annotated boxes ``(G, 4)`` of all pictures.
    """
    return [*_fractions(boxes, truth), *_corners(boxes, frames)]


def _degrees(ellipses: Mapping[str, np.ndarray], what: str) -> Iterator[str]:
    angles = [(abs(angle), name) for name, shapes in ellipses.items() for angle in shapes[:, 2].tolist()]
    beyond = [each for each in angles if each[0] > _TURN]
    if beyond:
        largest, name = max(beyond)
        yield (
            f"{len(beyond)} of {len(angles)} {what} have an angle beyond 2 pi, up to {largest:g} in {name}: angles "
            "must be in radians, but these look like degrees"
        )


def _fractions(boxes: np.ndarray, truth: np.ndarray) -> Iterator[str]:
    if not len(boxes) or not len(truth):
        return
    # Nobody annotates an object smaller than a pixel, and no fraction of a picture is above 1.
    found, there = (float(np.abs(each).max()) for each in (boxes, truth))
    looks = "lies within [0, 1]: boxes must be in pixels, but these look like fractions of the picture"
    if found <= 1 < _LEAST_PIXELS < there:
        yield f"every detected box {looks}"
    if there <= 1 < _LEAST_PIXELS < found:
        yield f"every annotated box {looks}"


def _corners(boxes: np.ndarray, frames: np.ndarray) -> Iterator[str]:
    known = np.isfinite(frames).all(axis=1)
    boxes, frames = boxes[known], frames[known]
    if len(boxes) < _FEWEST_BOXES:
        return
    leaving = (boxes[:, :2] + boxes[:, 2:] > frames + 1).any(axis=1)
    as_corners = ((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= frames + 1)).all()
    if as_corners and leaving.mean() > _SHARE:
        yield (
            f"{int(leaving.sum())} of {len(boxes)} detected boxes leave their pictures, and none would if they were "
            "corners: boxes must be left, top, width, height, but these look like x1, y1, x2, y2"
        )
