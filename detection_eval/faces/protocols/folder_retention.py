"""Retention, for pictures without labels: the share of a detector's own faces that it finds again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from llie_preproc.faces import Faces
from llie_preproc.pictures import picture_files

from ..retention import MIN_IOU, REFERENCE_SCORE, RetentionScores
from .base import Evaluation, Found, Protocol, face_set


@face_set("folder")
class Folder(Protocol):
    """Pictures without labels, measured by the retention of the faces that the raw detector finds at gamma 1.

    Args:
        images: Folder of the pictures.

    Raises:
        FileNotFoundError: There is no such folder, or no picture in it.
    """

    title = "pictures without labels"
    headline = "found"
    # Any detection above this confidence can count as a found face, so it must not be lower than users would accept.
    least_score = 0.5
    shown_score = REFERENCE_SCORE
    reference_kind = "reference faces (the detector's own)"
    refers_to_raw = True

    def __init__(self, images: Path) -> None:
        root = images.expanduser()
        super().__init__({path.relative_to(root).as_posix(): path for path in picture_files(root)})
        self.reference: dict[str, Faces] = {}

    def refer_to(self, found: Found) -> None:
        self.reference = {name: faces.above(REFERENCE_SCORE) for name, faces in found.items()}

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        scores = RetentionScores({n: self.reference[n] for n in names}, {n: found[n] for n in names})
        return Evaluation(scores.values(), scores)

    def faces(self, name: str) -> np.ndarray:
        return self.reference[name].boxes

    def notes(self) -> list[str]:
        total = sum(map(len, self.reference.values()))
        return [
            f"No human annotated these pictures. The reference is the detector's own output: the {total} faces that it "
            f"finds in the unchanged, raw pictures (gamma 1) with a confidence above {REFERENCE_SCORE:g}. Retention "
            "measures how stable a detector is, not how correct.",
            f"found: share of the reference faces that any detection overlaps with an IoU above {MIN_IOU:g}. found "
            f"sure: the same share for detections above {REFERENCE_SCORE:g}. The matching is not one to one: several "
            "detections of a face are no mistake, and one detection may find two reference faces.",
            f"unmatched: number of detections above {REFERENCE_SCORE:g} that overlap no reference face with an IoU "
            f"above {MIN_IOU:g}, divided by the number of reference faces; lower is better, though some may be real "
            "faces that the detector missed in the unchanged picture.",
        ]
