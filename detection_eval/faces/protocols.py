"""What is measured on each data set: its pictures, its faces, and the scores of detections."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from llie_preproc.errors import ImageError
from llie_preproc.faces import Faces
from llie_preproc.pictures import picture_files, picture_size

from ..datasets.fddb import FddbTruth, find_pictures, from_faces, picture_sizes, read_fddb, write_detections
from ..datasets.formats.darkface import darkface
from ..datasets.formats.wider_face import wider_face
from ..datasets.labels import Box, LabelSet, Problems
from ..datasets.wider_difficulty import (
    read_difficulties,
    write_darkface_predictions,
    write_wider_predictions,
)
from ..metrics.coco import CocoScores
from ..metrics.fddb import KINDS, FddbRoc, FddbScores
from ..metrics.matches import ImageScores
from ..metrics.wider_face import FaceScores, darkface_scores, wider_scores
from .retention import MIN_IOU, REFERENCE_SCORE, RetentionScores

Found = Mapping[str, Faces]
FACES_OF_COCO = ("AP", "AP50")


@dataclass(frozen=True)
class Evaluation:
    """What detections score.

    Attributes:
        scores: By name; nan where undefined.
        per_picture: The same, or some of them, for any weighting of the pictures: for intervals.
        roc: FDDB's curves.
    """

    scores: Mapping[str, float]
    per_picture: ImageScores | None = None
    roc: FddbRoc | None = None


@dataclass
class Protocol(ABC):
    """A data set with its measure.

    Attributes:
        files: Pictures by name.
        problems: A line for each picture that is listed but not there, or there but not annotated.
    """

    files: Mapping[str, Path]
    problems: list[str] = field(default_factory=list)

    title = ""
    headline = ""
    """Name of the score that is plotted."""
    digits = 3
    shown_score = 0.5
    """Detections with more confidence are drawn."""
    reference_kind = "annotated faces"

    @abstractmethod
    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        """Score the detections of these pictures."""

    @abstractmethod
    def faces(self, name: str) -> np.ndarray:
        """``(n, 4)`` x1 y1 x2 y2 of the faces to find in a picture, as they are drawn."""

    @abstractmethod
    def notes(self) -> list[str]:
        """What the scores are, in sentences."""

    def write_official(self, folder: Path, found: Found) -> None:
        """Write detections as the data set's own tool takes them.

        Raises:
            ValueError: It has none.
        """
        raise ValueError(f"{self.title} have no tool of their own")


class Fddb(Protocol):
    """FDDB: true positive rates at given numbers of false positives.

    Args:
        images: Folder of the pictures.
        folds: Folder of the fold files.
        sizes: Table of picture sizes.
        false_positives: Where to read the curves; the first is plotted.

    Raises:
        FileNotFoundError: No fold files, no pictures.
        ValueError: A bad file, a negative number of false positives.
    """

    title = "FDDB"
    digits = 4

    def __init__(self, images: Path, folds: Path, sizes: Path | None, false_positives: Sequence[int]) -> None:
        self.truth = read_fddb(folds)
        self.false_positives = false_positives
        if wrong := [number for number in false_positives if number < 0]:
            raise ValueError(f"--fp must not be negative, got {wrong[0]}")
        there = find_pictures(self.truth, images)
        missing = [
            f"{images}/{name}.jpg: no such picture, of the fold files"
            for name in self.truth.ellipses
            if name not in there
        ]
        unreadable = {name: reason for name, path in there.items() if (reason := _unreadable(path))}
        files = {name: path for name, path in there.items() if name not in unreadable}
        super().__init__(files, [*missing, *unreadable.values()])
        # Where no picture is left, this says so.
        self.sizes = picture_sizes(self._truth_of(files) if files else self.truth, images, sizes)
        self.headline = self._name("discrete", false_positives[0])
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
            "TPR: true positive rate of FDDB's evaluation, over all folds at once, at the largest point of the curve "
            "with at most the number of false positives named. Discrete: a face counts where a detection is matched "
            "to it with an overlap above 0.5. Continuous: it counts the overlap; rectangles cannot reach 1, because "
            "faces are ellipses.",
            "Drawn are the boxes around the annotated ellipses.",
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


class _Annotated(Protocol):
    """A set with boxes; ``boxes`` has all of each picture as the annotations list them."""

    def __init__(self, labels: LabelSet) -> None:
        missing = [f"{w}: there is no picture {k!r} below {labels.root}" for k, w in labels.labelled.items()
                   if k not in labels.pictures]  # fmt: skip
        bare = [f"{path}: the picture has no annotation" for k, path in labels.pictures.items()
                if k not in labels.labelled]  # fmt: skip
        keys = sorted(set(labels.pictures) & set(labels.labelled), key=labels.name)
        if not keys:
            raise ValueError(
                f"none of the annotations is of a picture below {labels.root}, such as {[*missing, *bare][0]}"
            )
        super().__init__({labels.name(key): labels.pictures[key] for key in keys}, missing + bare)
        self.boxes: dict[str, Sequence[Box]] = {
            # No format that is read here asks for the picture's size.
            labels.name(key): labels.read(key, (0, 0), Problems()).boxes
            for key in keys
        }

    def xywh(self, name: str) -> np.ndarray:
        """``(n, 4)`` left, top, width, height."""
        return np.array([box.xywh for box in self.boxes[name]], dtype=np.float64).reshape(-1, 4)

    def faces(self, name: str) -> np.ndarray:
        xywh = self.xywh(name)
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)

    def coco(self, names: Collection[str], found: Found) -> dict[str, float]:
        """COCO's AP of the same detections."""
        values = coco_scores({name: self.boxes[name] for name in names}, found).values()
        return {f"COCO {name}": values[name] for name in FACES_OF_COCO}


class DarkFace(_Annotated):
    """DARK FACE: its tool's AP, beside COCO's.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: A bad annotation; none is of a picture that is there.
    """

    title = "DARK FACE"
    headline = "AP, DARK FACE tool"

    def __init__(self, images: Path, annotations: Path) -> None:
        labels = darkface(images, annotations)
        self.title = labels.format
        super().__init__(labels)

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        # The tool's corners are pixels of the face.
        truth = {name: self.faces(name) - [0, 0, 1, 1] for name in names}
        scores = darkface_scores(truth, {name: found[name] for name in names})
        return _with_coco({self.headline: scores}, self.coco(names, found))

    def notes(self) -> list[str]:
        pseudo = any(box.attributes.get("pseudo_label") for boxes in self.boxes.values() for box in boxes)
        warned = ["The annotations are pseudo-labels of another detector, not ground truth."] if pseudo else []
        return [
            *warned,
            "AP, DARK FACE tool: IoU of at least 0.5 with both corners counted, precision and recall at 1,000 scores "
            "after these were brought to [0, 1] over the whole set, area under all points; a picture without faces is "
            "passed over. The detector's corners go in as they are.",
            _COCO_NOTE,
        ]

    def write_official(self, folder: Path, found: Found) -> None:
        write_darkface_predictions(folder, _by_stem(found))


class Wider(_Annotated):
    """WIDER FACE: its tool's AP by difficulty, beside COCO's.

    Args:
        images: Folder of the pictures, a folder for each event.
        annotations: ``wider_face_val_bbx_gt.txt``.
        difficulty: Folder of the lists of easy, medium and hard faces; None: AP of all faces.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: A bad annotation; none is of a picture that is there; a list lacks a picture, or has a face too
            many.
    """

    title = "WIDER FACE"

    def __init__(self, images: Path, annotations: Path, difficulty: Path | None) -> None:
        super().__init__(wider_face(images, annotations))
        lists = {} if difficulty is None else read_difficulties(difficulty)
        self.kept: dict[str, dict[str, np.ndarray] | None] = {
            level: {name: faces[_stem(name)] for name in self.files if _stem(name) in faces}
            for level, faces in lists.items()
        } or {"all": None}
        self.headline = f"AP {list(self.kept)[-1]}"
        # Says now what a list lacks, and which pictures its tool cannot tell apart.
        self._of_tool(list(self.files), {})
        _by_stem(dict.fromkeys(self.files, Faces.none()))

    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        return _with_coco(self._of_tool(names, found), self.coco(names, found))

    def notes(self) -> list[str]:
        which = (
            "AP all: WIDER FACE's tool with every annotated face kept; easy, medium and hard want --difficulty."
            if None in self.kept.values()
            else "AP easy, medium, hard: WIDER FACE's tool with the benchmark's lists; a detection whose best face is "
            "not in the list counts neither for nor against."
        )
        return [f"{which} IoU of at least 0.5, precision and recall at 1,000 scores.", _COCO_NOTE]

    def write_official(self, folder: Path, found: Found) -> None:
        write_wider_predictions(folder, _by_stem(found))

    def _of_tool(self, names: Collection[str], found: Found) -> dict[str, FaceScores]:
        truth = {name: self.xywh(name) for name in names}
        there = {name: found[name] for name in names if name in found}
        return {f"AP {level}": wider_scores(truth, there, kept) for level, kept in self.kept.items()}


class Folder(Protocol):
    """Pictures without labels: retention of what the raw detector finds at gamma 1.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
    """

    title = "pictures without labels"
    headline = "found"
    shown_score = REFERENCE_SCORE
    reference_kind = "reference faces (the detector's own)"

    def __init__(self, images: Path) -> None:
        root = images.expanduser()
        super().__init__({path.relative_to(root).as_posix(): path for path in picture_files(root)})
        self.reference: dict[str, Faces] = {}

    def refer_to(self, found: Found) -> None:
        """Take what the raw detector finds in the unchanged pictures as reference."""
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
            "says how steady a detector is, not how right.",
            f"found: share of the reference faces that any detection overlaps with IoU above {MIN_IOU:g}. found sure: "
            f"the same by detections above {REFERENCE_SCORE:g} alone. Not one to one: several detections of a face are "
            "no mistake, and one detection may stand for two reference faces that it overlaps that much.",
            f"unmatched: detections above {REFERENCE_SCORE:g} that overlap no reference face with IoU above "
            f"{MIN_IOU:g}, over the number of reference faces; lower is better, though some may be real faces that the "
            "detector missed in the unchanged picture.",
        ]


_COCO_NOTE = (
    "COCO AP and AP50: the same detections by COCO's rules, which count those in pictures without faces, and give a "
    "detection the next best face where its best is taken; faces marked invalid or of no size are no objects. AP is of "
    "the 100 surest detections of a picture, AP50 of the 1,000 surest: a picture with more faces cannot reach 1."
)


class _Together(ImageScores):
    """The APs of several measures of the same pictures, by other names."""

    def __init__(self, parts: Mapping[str, FaceScores]) -> None:
        super().__init__(next(iter(parts.values())).image_ids)
        self.names = tuple(parts)
        self._parts = tuple(parts.values())

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        return np.stack([part.values(weights)["AP"] for part in self._parts])


def _with_coco(of_tool: Mapping[str, FaceScores], coco: Mapping[str, float]) -> Evaluation:
    scores = _Together(of_tool)
    return Evaluation({**scores.values(), **coco}, scores)


def coco_scores(boxes: Mapping[str, Sequence[Box]], found: Found) -> CocoScores:
    """COCO's scores of faces by picture; crowds stay crowds, boxes without size are left out."""
    ids = {name: number for number, name in enumerate(boxes, 1)}
    annotations: list[dict[str, Any]] = []
    for name, of_picture in boxes.items():
        for box in of_picture:
            area = box.xywh[2] * box.xywh[3]
            if area > 0:
                annotations.append(
                    dict(id=len(annotations) + 1, image_id=ids[name], category_id=1, bbox=list(box.xywh), area=area,
                         iscrowd=int(box.crowd))
                )  # fmt: skip
    truth = dict(
        images=[dict(id=number, file_name=name) for name, number in ids.items()],
        categories=[dict(id=1, name="face")],
        annotations=annotations,
    )
    detections = [
        dict(image_id=ids[name], category_id=1, bbox=[x1, y1, max(x2 - x1, 0), max(y2 - y1, 0)], score=score)
        for name in boxes
        for (x1, y1, x2, y2), score in zip(found[name].boxes.tolist(), found[name].scores.tolist(), strict=True)
    ]
    return CocoScores(truth, detections)


def _unreadable(path: Path) -> str | None:
    """Why the size of a picture of the fold files cannot be known."""
    try:
        picture_size(path)
    except ImageError as error:
        return str(error)
    return None


def _stem(name: str) -> str:
    return os.fspath(PurePosixPath(name).with_suffix(""))


def _by_stem(found: Mapping[str, Faces]) -> dict[str, Faces]:
    """Faces by the names that the official tools' files have."""
    names: dict[str, str] = {}
    for name in found:
        if (other := names.setdefault(_stem(name), name)) != name:
            raise ValueError(f"{other} and {name} would both become {_stem(name)}.txt: rename one of them")
    return {stem: found[name] for stem, name in names.items()}
