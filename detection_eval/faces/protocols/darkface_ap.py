"""Average precision by the rules of DARK FACE's tool."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from llie_preproc.errors import Extras

from ...datasets.formats.darkface import darkface
from ...datasets.wider_difficulty import write_darkface_predictions
from ...self_registration import Setting
from .base import Evaluation, Found, face_set
from .boxed_faces import COCO_NOTE, BoxedFaces, by_stem, with_coco

_NEEDS = Extras("mm")
with _NEEDS:
    from ...metrics.wider_face import darkface_scores


@face_set("darkface")
class DarkFace(BoxedFaces):
    """DARK FACE, measured by the AP of its tool and by COCO's AP.

    Args:
        images: Folder of the pictures.
        annotations: Folder of the annotation texts, or HLA-Face's list of pseudo-labels.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: An annotation is damaged, or no annotated picture is present.
    """

    settings = (
        Setting(
            "annotations",
            "folder of the annotation texts, or HLA-Face's list of pseudo-labels",
            needed=True,
            type=Path,
            metavar="PATH",
        ),
    )
    title = "DARK FACE"
    headline = "AP, DARK FACE tool"

    def __init__(self, images: Path, annotations: Path) -> None:
        _NEEDS.check("the data set darkface")
        labels = darkface(images, annotations)
        self.title = labels.format
        super().__init__(labels)

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        # The tool's far corner is the last pixel of the face, not the edge after it.
        truth = {name: self.faces(name) - [0, 0, 1, 1] for name in names}
        scores = darkface_scores(truth, {name: found[name] for name in names})
        return with_coco({self.headline: scores}, self.coco(names, found))

    def notes(self) -> list[str]:
        pseudo = any(box.attributes.get("pseudo_label") for boxes in self.boxes.values() for box in boxes)
        warned = ["The annotations are pseudo-labels of another detector, not ground truth."] if pseudo else []
        return [
            *warned,
            "AP, DARK FACE tool: an IoU of at least 0.5, where the pixels of both corners count; precision and recall "
            "at 1,000 scores, after scores are scaled to [0, 1] over the whole set; area under all points. A picture "
            "without faces is skipped. The detector's corners are used as they are.",
            COCO_NOTE,
        ]

    def write_official(self, folder: Path, found: Found) -> None:
        write_darkface_predictions(folder, by_stem(found))
