"""How many faces a detector still finds when pictures are washed out or darkened by ``I^gamma``.

The reference is what the detector itself finds in the unchanged pictures, raw, with a confidence above 0.9. A reference
face is found again when a detection overlaps it with IoU above 0.5: any that the detector gives (MTCNN: above its last
threshold, 0.7), or, stricter, one above 0.9 again. Retention is the share of all reference faces of the set that are
found again. Shifted pictures are rounded to 8 bits before anything sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from llie_preproc.faces import FaceDetector, Faces

from .exposure import shift_gamma

GAMMAS = (0.1, 0.2, 0.4, 1.0, 2.5, 5.0, 8.0)
REFERENCE_SCORE = 0.9
MIN_IOU = 0.5


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        reference: Faces of each picture, unchanged, by the picture's name.
        found: What each detector, by name, finds at each gamma in each picture.
    """

    reference: Mapping[str, Faces]
    found: Mapping[str, Mapping[float, Mapping[str, Faces]]]

    @property
    def total(self) -> int:
        """Number of reference faces."""
        return sum(len(faces) for faces in self.reference.values())

    def retention(self, detector: str, min_score: float = 0.0) -> dict[float, float]:
        """Share of the reference faces found again with a confidence above ``min_score``, in [0, 1], for each gamma.

        NaN where there is no reference face.
        """
        shares = {}
        for gamma, pictures in self.found[detector].items():
            kept = sum(count_found(self.reference[name], faces.above(min_score)) for name, faces in pictures.items())
            shares[gamma] = kept / self.total if self.total else float("nan")
        return shares

    def rows(self) -> dict[str, dict[float, float]]:
        """Retention by detector, then by detector with the stricter rule."""
        strict = f", score > {REFERENCE_SCORE}"
        loose_rows = {name: self.retention(name) for name in self.found}
        return loose_rows | {name + strict: self.retention(name, REFERENCE_SCORE) for name in self.found}


def sweep(
    pictures: Mapping[str, np.ndarray],
    raw: FaceDetector,
    detectors: Mapping[str, FaceDetector],
    gammas: tuple[float, ...] = GAMMAS,
) -> Sweep:
    """Run detectors over a gamma sweep.

    Args:
        pictures: ``(H, W, 3)`` RGB uint8, by name.
        raw: Gives the reference.
        detectors: Those compared, by name.
        gammas: Exponents.
    """
    reference: dict[str, Faces] = {}
    found: dict[str, dict[float, dict[str, Faces]]] = {d: {g: {} for g in gammas} for d in detectors}
    for name, picture in tqdm(pictures.items(), desc="gamma sweep", unit="picture"):
        reference[name] = raw.detect([picture])[0].above(REFERENCE_SCORE)
        shifted = [shift_gamma(picture, gamma) for gamma in gammas]
        for label, detector in detectors.items():
            for gamma, faces in zip(gammas, detector.detect(shifted), strict=True):
                found[label][gamma][name] = faces
    return Sweep(reference, found)


def count_found(reference: Faces, found: Faces) -> int:
    """Number of reference faces that a found face overlaps with IoU above 0.5."""
    if not len(reference) or not len(found):
        return 0
    overlap = box_iou(torch.from_numpy(reference.boxes), torch.from_numpy(found.boxes))
    return int((overlap.amax(dim=1) > MIN_IOU).sum())
