"""The share of faces that a detector still finds when pictures are washed out or darkened by ``I^gamma``.

:mod:`detection_eval.faces.retention` defines what counts as found. Shifted pictures are rounded to 8 bits before they
are enhanced or searched for faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from llie_preproc.faces import FaceDetector, Faces
from llie_preproc.gamma_shift import shift_gamma

from ..faces.retention import REFERENCE_SCORE, RetentionScores

GAMMAS = (0.1, 0.2, 0.4, 1.0, 2.5, 5.0, 8.0)


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep over gammas.

    Attributes:
        reference: Reference faces of each unchanged picture, by its name.
        found: Detections by the detector's name, gamma and the picture's name.
    """

    reference: Mapping[str, Faces]
    found: Mapping[str, Mapping[float, Mapping[str, Faces]]]

    @property
    def total(self) -> int:
        """Number of reference faces."""
        return sum(len(faces) for faces in self.reference.values())

    def rows(self) -> dict[str, dict[float, float]]:
        """Compute the share of the reference faces that are found again, in [0, 1], for each gamma.

        First comes a row for each detector, in which all its detections count. Then comes a second row for each
        detector, in which only detections above :data:`REFERENCE_SCORE` count. A share is NaN if there is no reference
        face.
        """
        scores = {
            name: {gamma: RetentionScores(self.reference, pictures).values() for gamma, pictures in of_detector.items()}
            for name, of_detector in self.found.items()
        }
        strict = f", score > {REFERENCE_SCORE}"
        return {name: _column(each, "found") for name, each in scores.items()} | {
            name + strict: _column(each, "found sure") for name, each in scores.items()
        }


def sweep(
    pictures: Mapping[str, np.ndarray],
    raw: FaceDetector,
    detectors: Mapping[str, FaceDetector],
    gammas: tuple[float, ...] = GAMMAS,
) -> Sweep:
    """Run detectors over a gamma sweep.

    Args:
        pictures: Pictures ``(H, W, 3)`` RGB uint8, by name.
        raw: Detector that finds the reference faces.
        detectors: Detectors to compare, by name.
        gammas: Exponents that wash out or darken the pictures.
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


def _column(scores: Mapping[float, Mapping[str, float]], name: str) -> dict[float, float]:
    return {gamma: each[name] for gamma, each in scores.items()}
