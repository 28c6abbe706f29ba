"""Average precision by the rules of WIDER FACE's tool, for each difficulty."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from llie_preproc.errors import Extras
from llie_preproc.faces import Faces

from ...datasets.formats.wider_face import wider_face
from ...datasets.wider_difficulty import read_difficulties, write_wider_predictions
from ...self_registration import Setting
from .base import Evaluation, Found, face_set
from .boxed_faces import COCO_NOTE, BoxedFaces, by_stem, stem_of, with_coco

_NEEDS = Extras("mm")
with _NEEDS:
    from ...metrics.wider_face import FaceScores, wider_scores


@face_set("wider")
class Wider(BoxedFaces):
    """WIDER FACE, measured by the AP of its tool for each difficulty and by COCO's AP.

    Args:
        images: Folder of the pictures, with a subfolder for each event.
        annotations: File ``wider_face_val_bbx_gt.txt``.
        difficulty: Folder of the lists of easy, medium and hard faces; None for the AP of all faces.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: An annotation is damaged, no annotated picture is present, or a list lacks a picture or names a face
            that the annotations lack.
    """

    settings = (
        Setting("annotations", "file wider_face_val_bbx_gt.txt", needed=True, type=Path, metavar="PATH"),
        Setting("difficulty", "folder of wider_{easy,medium,hard}_val.mat", type=Path, metavar="DIR"),
    )
    title = "WIDER FACE"

    def __init__(self, images: Path, annotations: Path, difficulty: Path | None = None) -> None:
        _NEEDS.check("the data set wider")
        super().__init__(wider_face(images, annotations))
        lists = {} if difficulty is None else read_difficulties(difficulty)
        self.kept: dict[str, dict[str, np.ndarray] | None] = {
            level: {name: faces[stem_of(name)] for name in self.files if stem_of(name) in faces}
            for level, faces in lists.items()
        } or {"all": None}
        self.headline = f"AP {list(self.kept)[-1]}"
        # These calls raise an error now if a list lacks something, or if the tool cannot tell two pictures apart.
        self._of_tool(list(self.files), {})
        by_stem(dict.fromkeys(self.files, Faces.none()))

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        return with_coco(self._of_tool(names, found), self.coco(names, found))

    def notes(self) -> list[str]:
        which = (
            "AP all: WIDER FACE's tool with all annotated faces; easy, medium and hard need --difficulty."
            if None in self.kept.values()
            else "AP easy, medium, hard: WIDER FACE's tool with the benchmark's lists; a detection is ignored if its "
            "best face is not in the list."
        )
        return [
            f"{which} A match needs an IoU of at least 0.5; precision and recall are taken at 1,000 scores.",
            COCO_NOTE,
        ]

    def write_official(self, folder: Path, found: Found) -> None:
        write_wider_predictions(folder, by_stem(found))

    def _of_tool(self, names: Collection[str], found: Found) -> dict[str, FaceScores]:
        truth = {name: self.xywh(name) for name in names}
        there = {name: found[name] for name in names if name in found}
        return {f"AP {level}": wider_scores(truth, there, kept) for level, kept in self.kept.items()}
