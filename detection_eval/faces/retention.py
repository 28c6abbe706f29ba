"""Retention: how many faces a detector still finds when its pictures are shifted, without any annotation.

The reference is what the detector itself finds in the unchanged, raw pictures with a confidence above 0.9: no human
annotated it. A reference face is found again when a detection overlaps it with IoU above 0.5: any that the detector
gives (by the first rule), or one above 0.9 again (by the second). The matching is not one to one: a second detection
of a face is no mistake, and one detection may stand for two reference faces that it overlaps that much. So that nobody
wins by finding everything, detections above 0.9 that overlap no reference face with IoU above 0.5 are counted too; some
of them may be real faces that the detector missed in the unchanged picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchvision.ops import box_iou

from llie_preproc.faces import Faces

from ..metrics.matches import ImageScores

REFERENCE_SCORE = 0.9
MIN_IOU = 0.5


class RetentionScores(ImageScores):
    """``found``, ``found sure`` and ``unmatched`` of a set of pictures.

    ``found`` and ``found sure`` are shares of all reference faces, in [0, 1], by the two rules; ``unmatched`` is the
    number of detections above 0.9 that are not in the reference, as a share of the number of reference faces. All are
    nan where there is no reference face.

    Args:
        reference: Faces of each picture by its name.
        found: Detections of the same pictures.

    Raises:
        ValueError: The pictures are others.
    """

    names = ("found", "found sure", "unmatched")

    def __init__(self, reference: Mapping[str, Faces], found: Mapping[str, Faces]) -> None:
        if reference.keys() != found.keys():
            raise ValueError(f"reference and detections are of different pictures: {len(reference)} and {len(found)}")
        super().__init__(sorted(reference))
        pairs = [(reference[name], found[name], found[name].above(REFERENCE_SCORE)) for name in self.image_ids]
        self.counts = np.array(
            [[count_found(a, b), count_found(a, sure), count_unmatched(a, sure)] for a, b, sure in pairs],
            dtype=np.int64,
        ).reshape(-1, len(self.names))
        self.faces = np.array([len(reference[name]) for name in self.image_ids], dtype=np.int64)

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        faces = weights @ self.faces
        return np.where(faces > 0, (weights @ self.counts).T / np.maximum(faces, 1), np.nan)


def count_found(reference: Faces, found: Faces) -> int:
    """Number of reference faces that a found face overlaps with IoU above 0.5."""
    return _matched(reference, found)


def count_unmatched(reference: Faces, found: Faces) -> int:
    """Number of found faces that overlap no reference face with IoU above 0.5."""
    return len(found) - _matched(found, reference)


def _matched(boxes: Faces, others: Faces) -> int:
    if not len(boxes) or not len(others):
        return 0
    overlap = box_iou(torch.from_numpy(boxes.boxes), torch.from_numpy(others.boxes))
    return int((overlap.amax(dim=1) > MIN_IOU).sum())
