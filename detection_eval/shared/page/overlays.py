"""Boxes and masks drawn on pictures.

They are drawn here and not by torchvision's ``draw_bounding_boxes`` and ``draw_segmentation_masks``. Those have no
dashes, which tell kinds of boxes apart without colour, give all boxes lines of one width, write labels into small boxes
and past the border of the picture, paint black where masks overlap, and have no outlines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from PIL import ImageColor

from llie_preproc.pictures import convert_depth

from .palette import COLOURS

# Sides of fewer pixels have thin lines, which would else hide what is within.
_SMALL_BOX = 20


@dataclass(frozen=True)
class Overlay:
    """Boxes to draw on a picture.

    Attributes:
        boxes: ``(n, 4)`` x1 y1 x2 y2 in pixels of the picture.
        labels: A word or two for each box, ASCII; empty for none.
        colour: ``'#rrggbb'``.
        dash: Length of the dashes and of the gaps between them in pixels of the result; 0 for a solid line.
    """

    boxes: np.ndarray
    labels: Sequence[str] = ()
    colour: str = COLOURS[0]
    dash: int = 0


def enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """A picture ``(H, W, 3)`` with each pixel repeated, ``(times * H, times * W, 3)``: lines would hide a small one."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """A copy of a picture as :func:`draw` takes it, ``(h, w, 3)`` uint8 with sides of at most ``max_side``.

    >>> shrink(np.zeros((300, 600, 3), np.uint8), 100).shape
    (50, 100, 3)
    """
    scale = min(1.0, max_side / max(image.shape[:2]))
    canvas = convert_depth(image, np.uint8).copy()
    if scale == 1:
        return canvas
    size = tuple(max(1, round(n * scale)) for n in image.shape[1::-1])
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def draw(image: np.ndarray, overlays: Sequence[Overlay], max_side: int) -> np.ndarray:
    """Shrink a picture to ``max_side`` where it is larger, then draw boxes on it.

    Args:
        image: ``(H, W, 3)`` RGB; uint8, uint16, or float in [0, 1].
        overlays: Boxes in pixels of ``image``.
        max_side: Largest height and width of the result.

    Returns:
        ``(h, w, 3)`` RGB uint8.

    Raises:
        ValueError: The number of labels is not that of the boxes.
    """
    canvas = shrink(image, max_side)
    scale = min(1.0, max_side / max(image.shape[:2]))
    for overlay in overlays:
        colour = ImageColor.getrgb(overlay.colour)
        boxes = (np.asarray(overlay.boxes, np.float64).reshape(-1, 4) * scale).round().astype(int).tolist()
        for box in boxes:
            _outline(canvas, box, colour, overlay.dash)
        for box, label in zip(boxes, overlay.labels, strict=True) if len(overlay.labels) else ():
            _draw_label(canvas, box, label, colour)
    return canvas


def paint_masks(
    image: np.ndarray, masks: np.ndarray, colours: Sequence[str], alpha: float = 0.45, outline: int = 1
) -> np.ndarray:
    """Lay masks over a picture, large ones first, so that none hides a smaller one, each with its outline.

    Args:
        image: ``(H, W, 3)`` RGB uint8; it is not changed.
        masks: ``(N, H, W)`` bool.
        colours: ``'#rrggbb'`` of each mask.
        alpha: Share of a mask's colour in what covers the picture, in [0, 1].
        outline: Width of the outlines in pixels, which lie within the masks and are not transparent; 0 for none.

    Returns:
        ``(H, W, 3)`` RGB uint8.

    Raises:
        ValueError: The masks have another shape than the picture, or the number of colours is not theirs.
    """
    if masks.shape[1:] != image.shape[:2] or len(masks) != len(colours):
        raise ValueError(
            f"masks of shape {masks.shape} with {len(colours)} colours for a picture of shape {image.shape}"
        )
    canvas = image.copy()
    for number in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        mask, colour = masks[number], np.array(ImageColor.getrgb(colours[number]))
        canvas[mask] = ((1 - alpha) * canvas[mask] + alpha * colour).round()
        if outline:
            canvas[mask & ~_inside(mask, outline)] = colour
    return canvas


def _inside(mask: np.ndarray, depth: int) -> np.ndarray:
    """Pixels of a mask that have no other than its own around them, as far as ``depth``."""
    kernel = np.ones((3, 3), np.uint8)
    eroded = cv2.erode(mask.astype(np.uint8), kernel, iterations=depth, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return eroded.astype(bool)


def _outline(canvas: np.ndarray, box: Sequence[int], colour: tuple[int, ...], dash: int) -> None:
    left, top, right, bottom = box
    thickness = 1 if min(right - left, bottom - top) < _SMALL_BOX else 2
    if not dash:
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness)
        return
    around = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for start, end in pairwise(around):
        dashes = max(1, round(math.dist(start, end) / (2 * dash)))
        points = np.linspace(start, end, 2 * dashes).round().astype(int).tolist()
        for first, last in zip(points[::2], points[1::2], strict=True):
            cv2.line(canvas, first, last, colour, thickness)


def _draw_label(canvas: np.ndarray, box: Sequence[int], label: str, colour: tuple[int, ...]) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), descent = cv2.getTextSize(label, font, scale, 1)
    left = min(max(box[0], 0), max(canvas.shape[1] - width - 2, 0))
    bottom = max(box[1], height + descent)
    cv2.rectangle(canvas, (left, bottom - height - descent), (left + width + 2, bottom), colour, -1)
    cv2.putText(canvas, label, (left + 1, bottom - descent + 1), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
