"""What DSFD's public release does at test time: several views of a picture, and a vote over what is found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .face_detector import FaceDetector, Faces, check_images

# The release keeps 200 bytes a pixel of the enlarged picture addressable by 31 bits, and enlarges three times at most.
_PIXELS = (2**31 - 1) / 200
_LARGEST = 3.0


@dataclass(frozen=True)
class Pass:
    """One view of a picture.

    Attributes:
        scale: Of the view's sides to the picture's.
        mirror: Whether it is mirrored left to right.
        longest_above: Keep boxes whose longer side is above this, in pixels of the picture; both ends included.
        shortest_below: Likewise, whose shorter side is below this.
    """

    scale: float
    mirror: bool = False
    longest_above: float | None = None
    shortest_below: float | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the scale of a pass must be positive, got {self.scale}")

    def view(self, image: np.ndarray) -> np.ndarray:
        """What the detector is shown of ``(H, W, 3)`` uint8: resized bilinearly, one pixel a side at least."""
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in image.shape[1::-1]]
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirror else image

    def restore(self, faces: Faces, height: int, width: int) -> Faces:
        """What was found in the view of a picture of this size, in the picture's frame, without what is filtered."""
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
    """The picture and its mirror image, shrunk only where it is too large."""
    base = min(1.0, _largest_scale(height, width))
    return [Pass(base), Pass(base, mirror=True)]


def wider_passes(height: int, width: int) -> list[Pass]:
    """The release's views for WIDER FACE: from a quarter up to three times the size, as far as memory goes.

    Shrunken views count for faces above 30 pixels only, enlarged ones for those below 100.
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
        raise ValueError(f"a picture has a positive height and width, got {height} and {width}")
    return min(_LARGEST, (_PIXELS / (height * width)) ** 0.5)


def _enlarged(most: float, half: float) -> list[float]:
    scales = [min(2.0, most) if most > 1 else (half + most) / 2]
    if most > 1.5:
        scales.append(1.5)
    # Doublings of 2 below the largest would follow: there is none below three.
    return scales + [most] * (most > 2)


PASSES: dict[str, Passes] = {"fddb": fddb_passes, "wider": wider_passes}


def box_voting(boxes: np.ndarray, scores: np.ndarray, iou: float = 0.3, limit: int = 750) -> Faces:
    """Merge boxes that were found in several views, as DSFD's public release does.

    The box of the highest score and those that overlap it make a group, then the highest of the rest, and so on. A
    group becomes the mean of its boxes, weighted by their scores, with its highest score. **A group of one box is
    dropped**: what only one view found does not count.

    Args:
        boxes: ``(n, 4)``, x1 y1 x2 y2 in pixels; overlaps are computed with both ends included (width x2 - x1 + 1).
        scores: ``(n,)``, not negative.
        iou: Least overlap with the group's first box.
        limit: Groups to keep at most.

    Returns:
        The groups by falling score.

    Raises:
        ValueError: Unequal numbers, a negative score, or an option out of its range.
    """
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    if scores.ndim != 1 or boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes must be (n, 4) and scores (n,), got {boxes.shape} and {scores.shape}")
    # Also not a number.
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
    """IoU of the first box with every one, both ends included."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    sides = np.minimum(boxes[0, 2:], boxes[:, 2:]) - np.maximum(boxes[0, :2], boxes[:, :2]) + 1
    common = sides.clip(min=0).prod(axis=1)
    return common / np.maximum(areas[0] + areas - common, np.finfo(np.float64).tiny)


class VotedFaceDetector:
    """Any face detector, shown several views of each picture, and a vote over what it finds in them.

    Args:
        detector: The detector. The views of a picture go to it together.
        passes: ``'fddb'`` (:func:`fddb_passes`), ``'wider'`` (:func:`wider_passes`), or a function of a picture's
            height and width that gives :class:`Pass` objects.
        iou, limit: Of the vote: :func:`box_voting`.
        score_thr: Scores above it are kept after the vote. The release has 0.05 on FDDB.

    Raises:
        ValueError: Other passes, or an option out of its range.
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
        """Find the faces of images ``(H, W, 3)`` RGB uint8, of any sizes.

        Raises:
            TypeError: Not an array, or not uint8.
            ValueError: Another shape.
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
