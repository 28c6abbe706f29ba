"""The test-time augmentation of DSFD's public release: several views of a picture, and a vote over their boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .face_detector import FaceDetector, Faces, check_images

# The release enlarges a picture at most three times. The result, at 200 bytes a pixel, must stay below 2^31 bytes.
_PIXELS = (2**31 - 1) / 200
_LARGEST = 3.0


@dataclass(frozen=True)
class Pass:
    """One view of a picture.

    Attributes:
        scale: Ratio of the view's sides to those of the picture.
        mirror: Whether the view is mirrored left to right.
        longest_above: Length that the longer side of a box must exceed, in pixels of the picture with both ends
            included; None keeps all boxes.
        shortest_below: Length that the shorter side of a box must stay below, measured likewise; None keeps all boxes.

    Raises:
        ValueError: ``scale`` is not positive.

    Examples:
        >>> view = Pass(0.5, mirror=True)
        >>> view.view(np.zeros((40, 60, 3), np.uint8)).shape
        (20, 30, 3)
        >>> found = Faces(np.array([[0, 0, 10, 10]], np.float32), np.ones(1, np.float32))
        >>> view.restore(found, height=40, width=60).boxes.tolist()
        [[40.0, 0.0, 60.0, 20.0]]
    """

    scale: float
    mirror: bool = False
    longest_above: float | None = None
    shortest_below: float | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the scale of a pass must be positive, got {self.scale}")

    def view(self, image: np.ndarray) -> np.ndarray:
        """The view of ``(H, W, 3)`` uint8 that the detector sees, resized bilinearly to at least one pixel a side."""
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in image.shape[1::-1]]
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirror else image

    def restore(self, faces: Faces, height: int, width: int) -> Faces:
        """Move faces that were found in the view into the frame of the picture, and drop those that the pass excludes.

        Args:
            faces: Faces in pixels of the view.
            height, width: Size of the picture.
        """
        shown = [max(1, round(side * self.scale)) for side in (width, height)]
        boxes = faces.boxes * np.array([width / shown[0], height / shown[1]] * 2, np.float32)
        if self.mirror:
            boxes = np.array([width, 0, width, 0], np.float32) + boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1])
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        kept = np.ones(len(boxes), bool)
        if self.longest_above is not None:
            kept &= sides.max(axis=1) > self.longest_above
        if self.shortest_below is not None:
            kept &= sides.min(axis=1) < self.shortest_below
        return Faces(boxes[kept].astype(np.float32), faces.scores[kept])


Passes = Callable[[int, int], Sequence[Pass]]


def fddb_passes(height: int, width: int) -> list[Pass]:
    """The picture and its mirror image, shrunk only if the picture is too large.

    Examples:
        >>> [(each.scale, each.mirror) for each in fddb_passes(480, 640)]
        [(1.0, False), (1.0, True)]
    """
    base = min(1.0, _largest_scale(height, width))
    return [Pass(base), Pass(base, mirror=True)]


def wider_passes(height: int, width: int) -> list[Pass]:
    """The release's views for WIDER FACE, from a quarter up to three times the size, as far as memory allows.

    Shrunken views count only for faces above 30 pixels, and enlarged views only for faces below 100 pixels.

    Examples:
        >>> sorted(each.scale for each in wider_passes(480, 640))
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 3.0]
    """
    most = _largest_scale(height, width)
    half = 0.5 * most if most < 0.75 else 0.5
    shrunk = [half, 0.75] if most > 0.75 else [half]
    passes = [*fddb_passes(height, width), *map(_for_large, shrunk)]
    passes += map(_for_small if most > 1 else _for_large, _enlarged(most, half))
    passes.append(_for_large(0.25))
    return passes + [_for_small(scale) for scale in (1.25, 1.75, 2.25) if scale <= most]


def _for_large(scale: float) -> Pass:
    return Pass(scale, longest_above=30.0)


def _for_small(scale: float) -> Pass:
    return Pass(scale, shortest_below=100.0)


def _largest_scale(height: int, width: int) -> float:
    if height < 1 or width < 1:
        raise ValueError(f"height and width of a picture must be positive, got {height} and {width}")
    return min(_LARGEST, (_PIXELS / (height * width)) ** 0.5)


def _enlarged(most: float, half: float) -> list[float]:
    scales = [min(2.0, most) if most > 1 else (half + most) / 2]
    if most > 1.5:
        scales.append(1.5)
    # The release adds the doublings of 2 (4, 8, ...) below the largest scale; below a scale of three there are none.
    return scales + [most] * (most > 2)


PASSES: dict[str, Passes] = {"fddb": fddb_passes, "wider": wider_passes}


def box_voting(boxes: np.ndarray, scores: np.ndarray, iou: float = 0.3, limit: int = 750) -> Faces:
    """Merge boxes that were found in several views, as DSFD's public release does.

    The box of the highest score and the boxes that overlap it form a group; the highest of the rest forms the next
    group with those that overlap it, and so on. A group becomes the mean of its boxes, weighted by their scores, and
    gets the highest of these scores. **A group of one box is dropped**, so that a box found in only one view does not
    count.

    Args:
        boxes: Boxes ``(n, 4)``, x1 y1 x2 y2 in pixels. Overlaps are computed with both ends included, so the width is
            ``x2 - x1 + 1``.
        scores: Scores ``(n,)``, not negative.
        iou: Smallest overlap with the first box of a group, for a box to join it.
        limit: Largest number of groups that are kept.

    Returns:
        The merged boxes by falling score.

    Raises:
        ValueError: The numbers of boxes and scores differ, a score is negative or not a number, or an option is outside
            its range.

    Examples:
        >>> boxes = [[0, 0, 10, 10], [0, 0, 14, 14], [50, 50, 60, 60]]
        >>> box_voting(boxes, [0.75, 0.25, 0.9]).boxes.tolist()
        [[0.0, 0.0, 11.0, 11.0]]
    """
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    if scores.ndim != 1 or boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes must be (n, 4) and scores (n,), got {boxes.shape} and {scores.shape}")
    # The comparison is this way round so that it also finds scores that are not a number.
    if not (scores >= 0).all():
        raise ValueError(f"scores must not be negative, got {scores[~(scores >= 0)][0]}")
    if not 0 < iou <= 1 or limit < 1:
        raise ValueError(f"iou must be in (0, 1] and limit positive, got {iou} and {limit}")
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    merged: list[tuple[np.ndarray, float]] = []
    while len(boxes) > 1 and len(merged) < limit:
        group = _overlaps(boxes) >= iou
        group[0] = True
        if group.sum() > 1:
            weights = scores[group] if scores[0] > 0 else None
            merged.append((np.average(boxes[group], axis=0, weights=weights), scores[0]))
        boxes, scores = boxes[~group], scores[~group]
    if not merged:
        return Faces.none()
    return Faces(np.array([box for box, _ in merged], np.float32), np.array([score for _, score in merged], np.float32))


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """IoU of the first box with every box, with both ends included."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    sides = np.minimum(boxes[0, 2:], boxes[:, 2:]) - np.maximum(boxes[0, :2], boxes[:, :2]) + 1
    common = sides.clip(min=0).prod(axis=1)
    return common / np.maximum(areas[0] + areas - common, np.finfo(np.float64).tiny)


class VotedFaceDetector:
    """A face detector that sees several views of each picture, with a vote over the boxes that it finds in them.

    Args:
        detector: Face detector, which gets all views of a picture together.
        passes: Views of a picture: ``'fddb'`` (:func:`fddb_passes`), ``'wider'`` (:func:`wider_passes`), or a function
            of a picture's height and width that returns :class:`Pass` objects.
        iou, limit: Options of the vote, as for :func:`box_voting`.
        score_thr: Score that a face must exceed after the vote. The release has 0.05 on FDDB.

    Raises:
        ValueError: There are no passes of this name, or an option is outside its range.

    Examples:
        >>> class WholeImage:
        ...     def detect(self, images):
        ...         sizes = [image.shape[1::-1] for image in images]
        ...         return [Faces(np.array([[0, 0, w, h]], np.float32), np.ones(1, np.float32)) for w, h in sizes]
        >>> VotedFaceDetector(WholeImage()).detect([np.zeros((20, 30, 3), np.uint8)])[0].boxes.tolist()
        [[0.0, 0.0, 30.0, 20.0]]
    """

    def __init__(
        self,
        detector: FaceDetector,
        passes: str | Passes = "fddb",
        iou: float = 0.3,
        limit: int = 750,
        score_thr: float = 0.0,
    ) -> None:
        if isinstance(passes, str):
            if passes not in PASSES:
                raise ValueError(f"passes must be one of {', '.join(PASSES)}, or a function, got {passes!r}")
            passes = PASSES[passes]
        if not 0 < iou <= 1 or limit < 1 or not 0 <= score_thr < 1:
            raise ValueError(
                f"iou must be in (0, 1], limit positive and score_thr in [0, 1), got {iou}, {limit} and {score_thr}"
            )
        self.detector, self.passes = detector, passes
        self.iou, self.limit, self.score_thr = iou, limit, score_thr

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` RGB uint8 of any sizes.

        Raises:
            TypeError: An image is not an array, or not of dtype uint8.
            ValueError: An image has another shape.
        """
        check_images(images)
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Faces:
        height, width = image.shape[:2]
        passes = self.passes(height, width)
        found = self.detector.detect([each.view(image) for each in passes])
        restored = [each.restore(faces, height, width) for each, faces in zip(passes, found, strict=True)]
        boxes = np.concatenate([faces.boxes for faces in restored])
        scores = np.concatenate([faces.scores for faces in restored])
        return box_voting(boxes, scores, self.iou, self.limit).above(self.score_thr)
