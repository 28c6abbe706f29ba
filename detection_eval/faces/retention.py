"""Retention: the share of faces that a detector still finds in darkened or brightened pictures, without any annotation.

The reference faces are those that the detector itself finds in the unchanged, raw pictures with a confidence above 0.9;
no human annotated them. A reference face is found again if a detection overlaps it with an IoU above 0.5. There are two
rules: the first accepts every detection, the second only those with a confidence above 0.9. The matching is not one to
one: a second detection of a face is no mistake, and one detection may find two reference faces. Detections above 0.9
that overlap no reference face with an IoU above 0.5 are counted too, so that a detector does not win by reporting faces
everywhere. Some of them may be real faces that the detector missed in the unchanged picture.
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
    """Scores ``found``, ``found sure`` and ``unmatched`` of a set of pictures.

    ``found`` and ``found sure`` are the shares of reference faces, in [0, 1], that are found by the first and by the
    second rule. ``unmatched`` is the number of detections above 0.9 that match no reference face, divided by the number
    of reference faces. All are NaN if there is no reference face.

    Args:
        reference: Reference faces of each picture, by its name.
        found: Detections in the same pictures.

    Raises:
        ValueError: ``reference`` and ``found`` have different pictures.

    Examples:
        >>> faces = Faces(np.float32([[0, 0, 10, 10], [20, 0, 30, 10]]), np.float32([0.99, 0.95]))
        >>> lost = Faces(faces.boxes[:1], np.float32([0.8]))
        >>> {name: float(value) for name, value in RetentionScores({"a.png": faces}, {"a.png": lost}).values().items()}
        {'found': 0.5, 'found sure': 0.0, 'unmatched': 0.0}
    """

    names = ("found", "found sure", "unmatched")

    def __init__(self, reference: Mapping[str, Faces], found: Mapping[str, Faces]) -> None:
        if reference.keys() != found.keys():
            raise ValueError(f"reference and detections have different pictures: {len(reference)} and {len(found)}")
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
    """Count the reference faces that a found face overlaps with an IoU above 0.5."""
    return _matched(reference, found)


def count_unmatched(reference: Faces, found: Faces) -> int:
    """Count the found faces that overlap no reference face with an IoU above 0.5."""
    return len(found) - _matched(found, reference)


def _matched(boxes: Faces, others: Faces) -> int:
    if not len(boxes) or not len(others):
        return 0
    overlap = box_iou(torch.from_numpy(boxes.boxes), torch.from_numpy(others.boxes))
    return int((overlap.amax(dim=1) > MIN_IOU).sum())
