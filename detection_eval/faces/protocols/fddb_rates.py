"""True positive rates by FDDB's evaluation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from llie_preproc.errors import Extras, ImageError
from llie_preproc.pictures import picture_size

from ...datasets.fddb import FddbTruth, find_pictures, from_faces, picture_sizes, read_fddb, write_detections
from ...self_registration import Setting
from .base import Evaluation, Found, Protocol, face_set

_NEEDS = Extras("mm")
with _NEEDS:
    from ...metrics.fddb import KINDS, FddbScores


@face_set("fddb")
class Fddb(Protocol):
    """FDDB, measured by true positive rates at given numbers of false positives.

    Args:
        images: Folder of the pictures.
        folds: Folder of the fold files.
        sizes: Table of picture sizes; None to read them from the pictures.
        fp: Numbers of false positives at which the rates are taken; the first is plotted.

    Raises:
        FileNotFoundError: There are no fold files, or no pictures.
        ValueError: A file is damaged, or a number of false positives is negative.
    """

    settings = (
        Setting("folds", "folder of FDDB-fold-XX-ellipseList.txt", needed=True, type=Path, metavar="DIR"),
        Setting(
            "sizes", "table of the sizes of the pictures, with the columns image,width,height", type=Path, metavar="CSV"
        ),
        Setting(
            "fp",
            "numbers of false positives at which the rate is taken",
            default=(500,),
            type=int,
            nargs="+",
            metavar="N",
        ),
    )
    title = "FDDB"
    digits = 4
    least_score = 0.05

    def __init__(self, images: Path, folds: Path, sizes: Path | None = None, fp: Sequence[int] = (500,)) -> None:
        _NEEDS.check("the data set fddb")
        self.truth = read_fddb(folds)
        self.false_positives = fp
        if wrong := [number for number in fp if number < 0]:
            raise ValueError(f"--fp must not be negative, got {wrong[0]}")
        there = find_pictures(self.truth, images)
        missing = [
            f"{images}/{name}.jpg: the fold files list this picture, but there is none"
            for name in self.truth.ellipses
            if name not in there
        ]
        unreadable = {name: reason for name, path in there.items() if (reason := _unreadable(path))}
        files = {name: path for name, path in there.items() if name not in unreadable}
        super().__init__(files, [*missing, *unreadable.values()])
        # This raises an error if no picture is left.
        self.sizes = picture_sizes(self._truth_of(files) if files else self.truth, images, sizes)
        self.headline = self._name("discrete", fp[0])
        self._caution = ""

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        truth = self._truth_of(names)
        points = {self._name(kind, number): (kind, number) for number in self.false_positives for kind in KINDS}
        shapes = {name: from_faces(found[name]) for name in truth.ellipses}
        scores = FddbScores(truth, shapes, self.sizes, points)
        self._caution = ". ".join(filter(None, [scores.roc.caution, *scores.roc.hints]))
        return Evaluation(scores.values(), scores, scores.roc)

    def faces(self, name: str) -> np.ndarray:
        major, minor, angle, x, y = self.truth.ellipses[name].T
        half_width = np.hypot(major * np.cos(angle), minor * np.sin(angle))
        half_height = np.hypot(major * np.sin(angle), minor * np.cos(angle))
        return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1)

    def notes(self) -> list[str]:
        caution = [f"{self._caution}."] if self._caution else []
        return [
            "TPR: true positive rate of FDDB's evaluation, over all folds at once, at the last point of the curve that "
            "has at most the named number of false positives. Discrete: a face counts as 1 if a detection is matched "
            "to it with an overlap above 0.5. Continuous: a face counts as much as the overlap; rectangles cannot "
            "reach 1, because faces are ellipses.",
            "The pictures show the boxes around the annotated ellipses.",
            *caution,
        ]

    def write_official(self, folder: Path, found: Found) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_detections(folder / "detections.txt", {n: found[n] for n in self.truth.ellipses if n in found})

    def _truth_of(self, names: Collection[str]) -> FddbTruth:
        wanted = set(names)
        kept = {name: fold for name, fold in self.truth.folds.items() if name in wanted}
        return FddbTruth({name: self.truth.ellipses[name] for name in kept}, kept)

    @staticmethod
    def _name(kind: str, number: int) -> str:
        return f"TPR at {number} FP, {kind}"


def _unreadable(path: Path) -> str | None:
    """Say why the size of a picture cannot be read, or return None."""
    try:
        picture_size(path)
    except ImageError as error:
        return str(error)
    return None
