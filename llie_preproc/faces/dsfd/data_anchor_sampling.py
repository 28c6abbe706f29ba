"""Random crops that bring faces to the sizes of the anchors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.structures.bbox import autocast_box_type

from ...registry import TRANSFORMS

_PER_FACE = ("gt_bboxes_labels", "gt_ignore_flags", "gt_instances_ids")


class _Crop(NamedTuple):
    """A rectangle in pixels; ``least`` squared is the area that a face inside it must exceed."""

    x1: int
    y1: int
    x2: int
    y2: int
    least: float


@TRANSFORMS.register_module()
class DataAnchorSampling(BaseTransform):
    """The random crop that DSFD's public release trains with; a resize to ``size`` x ``size`` must follow it.

    With probability ``anchor_prob`` the crop is made for one face of the picture. Let s be the root of the face's area.
    An anchor is drawn, with equal probabilities, from the smallest one up to the first one that is not smaller than s
    (at least the second, at most the largest). The side of the crop is ``s * size / anchor``, so that the resize gives
    the face the size of that anchor. The crop lies at a random place around the face. Otherwise the crop is a square.
    Its side is the short side of the picture (probability ``full_prob``), or a share of the short side, drawn uniformly
    from ``[min_crop, 1)``. Every crop is clipped to the picture and nothing is padded, so a crop at a border may not be
    square.

    Faces whose centre is inside the crop are clipped to it, and then dropped unless their area is above ``min_face``
    squared, in pixels of the crop. If no face is left, the crop is drawn again. After ``attempts`` crops, ``min_face``
    is halved for this picture; once it is below half a pixel, the picture stays as it is. (The release keeps the halved
    limit for all later pictures.) Faces that are flagged as ignored are cropped likewise, but no crop is made for them.
    A picture without faces is cropped to a square.

    Required keys: ``img``, ``(H, W, C)``; ``gt_bboxes``.
    Modified keys: ``img``, ``img_shape``, ``gt_bboxes``; if present also ``gt_bboxes_labels``, ``gt_ignore_flags``,
    ``gt_instances_ids``, ``gt_masks`` and ``gt_seg_map``.

    Args:
        anchors: Sizes of the anchors (the roots of their areas), at least two, in rising order.
        size: Side to which crops are resized later.
        anchor_prob: Probability of a crop for one face.
        full_prob: Probability of a square crop with the short side of the picture.
        min_crop: Smallest side of a square crop, as a share of the short side.
        min_face: Root of the area, in pixels, that a face in a crop must exceed.
        attempts: Number of crops that are drawn before ``min_face`` is halved.

    Raises:
        ValueError: An argument is outside its range.

    Examples:
        >>> from mmdet.structures.bbox import HorizontalBoxes
        >>> picture = dict(img=np.zeros((48, 64, 3), np.uint8), gt_bboxes=HorizontalBoxes(np.zeros((0, 4), np.float32)))
        >>> DataAnchorSampling(anchor_prob=0, full_prob=1).transform(picture)["img_shape"]
        (48, 48)
    """

    def __init__(
        self,
        anchors: Sequence[float] = (16, 32, 64, 128, 256, 512),
        size: int = 640,
        anchor_prob: float = 0.4,
        full_prob: float = 0.2,
        min_crop: float = 0.3,
        min_face: float = 8.0,
        attempts: int = 50,
    ) -> None:
        if len(anchors) < 2 or list(anchors) != sorted(set(anchors)) or anchors[0] <= 0:
            raise ValueError(f"anchors must be at least two positive sizes in rising order, got {anchors}")
        if min(anchor_prob, full_prob) < 0 or anchor_prob + full_prob > 1:
            raise ValueError(
                "anchor_prob and full_prob must not be negative and must add up to at most 1, "
                f"got {anchor_prob} and {full_prob}"
            )
        if not 0 < min_crop <= 1:
            raise ValueError(f"min_crop must be in (0, 1], got {min_crop}")
        if size < 1 or attempts < 1 or min_face < 0:
            raise ValueError(
                f"size and attempts must be positive and min_face not negative, got {size}, {attempts} and {min_face}"
            )
        self.anchors, self.size = tuple(anchors), size
        self.anchor_prob, self.full_prob = anchor_prob, full_prob
        self.min_crop, self.min_face, self.attempts = min_crop, min_face, attempts

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop the picture and its annotations."""
        height, width = results["img"].shape[:2]
        boxes = results["gt_bboxes"].numpy()
        ignored = results.get("gt_ignore_flags")
        wanted = np.ones(len(boxes), bool) if ignored is None else ~np.asarray(ignored, bool)
        crop = self._random_crop(height, width, boxes, wanted)
        return _cropped(results, crop, _kept(boxes, crop)) if crop else results

    @cache_randomness
    def _random_crop(self, height: int, width: int, boxes: np.ndarray, wanted: np.ndarray) -> _Crop | None:
        """Draw a crop that holds at least one wanted face, if there are any; return None if no such crop is found."""
        faces = boxes[wanted]
        if not len(faces):
            return self._square(height, width, self._draw_full(), 0.0)
        least = self.min_face
        while True:
            draw_face, full = np.random.random() < self.anchor_prob, self._draw_full()
            for _ in range(self.attempts):
                if draw_face:
                    crop = self._around(faces[np.random.randint(len(faces))], height, width, least)
                else:
                    crop = self._square(height, width, full, least)
                if _kept(faces, crop).any():
                    return crop
            least /= 2
            if least < 0.5:
                return None

    def _draw_full(self) -> bool:
        return bool(np.random.random() * (1 - self.anchor_prob) < self.full_prob)

    def _square(self, height: int, width: int, full: bool, least: float) -> _Crop:
        short = min(height, width)
        side = short if full else max(1, int(short * np.random.uniform(self.min_crop, 1)))
        x, y = np.random.randint(width - side + 1), np.random.randint(height - side + 1)
        return _Crop(x, y, x + side, y + side, least)

    def _around(self, face: np.ndarray, height: int, width: int, least: float) -> _Crop:
        x1, y1, x2, y2 = (float(v) for v in face)
        root = max((x2 - x1) * (y2 - y1), 0.0) ** 0.5
        highest = min(max(bisect_left(self.anchors, root), 1), len(self.anchors) - 1)
        side = max(1, round(root * self.size / self.anchors[np.random.randint(highest + 1)]))
        left, right = _around_axis(x1, x2, side, width)
        top, bottom = _around_axis(y1, y2, side, height)
        return _Crop(left, top, right, bottom, least)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(anchors={self.anchors}, size={self.size}, anchor_prob={self.anchor_prob}, "
            f"full_prob={self.full_prob}, min_crop={self.min_crop}, min_face={self.min_face}, attempts={self.attempts})"
        )


def _around_axis(start: float, end: float, side: int, length: int) -> tuple[int, int]:
    """Draw the beginning and end of a crop that holds ``start`` to ``end``; a shorter crop begins at ``start``."""
    latest = min(max(int(np.floor(start)), 0), length - 1)
    earliest = min(max(int(np.ceil(end)) - side, 0), latest)
    first = int(np.random.randint(earliest, latest + 1))
    return first, min(first + side, length)


def _kept(boxes: np.ndarray, crop: _Crop) -> np.ndarray:
    """Mask ``(n,)`` of the boxes ``(n, 4)`` whose centre is inside the crop and whose area in it is large enough."""
    corner, end = np.array(crop[:2]), np.array(crop[2:4])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres > corner) & (centres < end)).all(axis=1)
    sides = np.clip(boxes[:, 2:], corner, end) - np.clip(boxes[:, :2], corner, end)
    return inside & (sides.prod(axis=1) > crop.least**2)


def _cropped(results: dict[str, Any], crop: _Crop, kept: np.ndarray) -> dict[str, Any]:
    x1, y1, x2, y2, _ = crop
    results["img"] = results["img"][y1:y2, x1:x2]
    results["img_shape"] = (y2 - y1, x2 - x1)
    faces = results["gt_bboxes"][kept]
    faces.translate_([-x1, -y1])
    faces.clip_((y2 - y1, x2 - x1))
    results["gt_bboxes"] = faces
    for key in _PER_FACE:
        if results.get(key) is not None:
            results[key] = results[key][kept]
    if results.get("gt_masks") is not None:
        results["gt_masks"] = results["gt_masks"][kept.nonzero()[0]].crop(np.array(crop[:4]))
    if results.get("gt_seg_map") is not None:
        results["gt_seg_map"] = results["gt_seg_map"][y1:y2, x1:x2]
    return results
