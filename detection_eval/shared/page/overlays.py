"""Boxes and masks drawn on pictures.

This module does not use torchvision's ``draw_bounding_boxes`` and ``draw_segmentation_masks``. They cannot draw dashes,
which distinguish kinds of boxes without colour; they give all boxes lines of one width; they write labels into small
boxes and past the border of the picture; they paint overlaps of masks black; and they cannot draw outlines.
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

# Boxes with a shorter side get thin lines, because thick ones would hide their content.
_SMALL_BOX = 20


@dataclass(frozen=True)
class Overlay:
    """Boxes to draw on a picture.

    Attributes:
        boxes: Corners x1 y1 x2 y2 in pixels of the picture, ``(n, 4)``.
        labels: Short ASCII text for each box; empty for no labels.
        colour: Colour ``'#rrggbb'``.
        dash: Length of the dashes and of the gaps between them, in pixels of the result; 0 for a solid line.
    """

    boxes: np.ndarray
    labels: Sequence[str] = ()
    colour: str = COLOURS[0]
    dash: int = 0


def enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """Repeat each pixel of a small picture, so that the lines drawn on it do not hide it.

    Args:
        image: Picture ``(H, W, 3)``.
        times: Number of repetitions in each direction.

    Returns:
        Picture ``(times * H, times * W, 3)``.
    """
    return image.repeat(times, axis=0).repeat(times, axis=1)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """Copy a picture as uint8, shrunk if a side is longer than ``max_side``.

    Args:
        image: Picture ``(H, W, 3)``, uint8, uint16, or float in [0, 1].
        max_side: Largest height and width of the result.

    Returns:
        Picture ``(h, w, 3)`` uint8.

    Examples:
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
    """Shrink a picture as :func:`shrink` does, and draw boxes on it.

    Args:
        image: Picture ``(H, W, 3)`` RGB, uint8, uint16, or float in [0, 1]; it is not changed.
        overlays: Boxes in pixels of ``image``.
        max_side: Largest height and width of the result.

    Returns:
        Picture ``(h, w, 3)`` RGB uint8.

    Raises:
        ValueError: There are labels, but not one for each box.

    Examples:
        >>> box = Overlay(np.array([[0, 0, 3, 3]]), colour="#ff0000")
        >>> draw(np.zeros((8, 8, 3), np.uint8), [box], max_side=8)[0, :, 0].tolist()
        [255, 255, 255, 255, 0, 0, 0, 0]
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
    """Paint masks with their outlines on a picture, large masks first, so that they do not hide small ones.

    Args:
        image: Picture ``(H, W, 3)`` RGB uint8; it is not changed.
        masks: Masks ``(N, H, W)`` bool.
        colours: Colour ``'#rrggbb'`` of each mask.
        alpha: Opacity of the masks, in [0, 1].
        outline: Width in pixels of the opaque outlines, which lie within the masks; 0 for none.

    Returns:
        Picture ``(H, W, 3)`` RGB uint8.

    Raises:
        ValueError: The masks have another shape than the picture, or there is not one colour for each mask.
    """
    if masks.shape[1:] != image.shape[:2] or len(masks) != len(colours):
        raise ValueError(
            f"masks of shape {masks.shape} with {len(colours)} colours do not fit a picture of shape {image.shape}; "
            "expected (N, H, W) with N colours for (H, W, 3)"
        )
    canvas = image.copy()
    for number in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        mask, colour = masks[number], np.array(ImageColor.getrgb(colours[number]))
        canvas[mask] = ((1 - alpha) * canvas[mask] + alpha * colour).round()
        if outline:
            canvas[mask & ~_inside(mask, outline)] = colour
    return canvas


def _inside(mask: np.ndarray, depth: int) -> np.ndarray:
    """Return the pixels of a mask whose neighbours, up to a distance of ``depth``, all belong to the mask."""
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
