"""What the sets with boxes of faces share: pictures and boxes of a label set, and COCO's AP beside that of a tool."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from llie_preproc.faces import Faces

from ...datasets.labels import Box, LabelSet, Problems
from ...metrics.coco import CocoScores
from ...metrics.matches import ImageScores
from .base import Evaluation, Found, Protocol

FACES_OF_COCO = ("AP", "AP50")
COCO_NOTE = (
    "COCO AP and AP50: the same detections by COCO's rules, which count those in pictures without faces, and give a "
    "detection the next best face where its best is taken; faces marked invalid or of no size are no objects. AP is of "
    "the 100 surest detections of a picture, AP50 of the 1,000 surest: a picture with more faces cannot reach 1."
)


class BoxedFaces(Protocol):
    """A set with boxes; ``boxes`` has all of each picture as the annotations list them.

    Args:
        labels: Pictures and their annotations.

    Raises:
        ValueError: A bad annotation; none is of a picture that is there.
    """

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


class _Together(ImageScores):
    """The APs of several measures of the same pictures, by other names."""

    def __init__(self, parts: Mapping[str, ImageScores]) -> None:
        super().__init__(next(iter(parts.values())).image_ids)
        self.names = tuple(parts)
        self._parts = tuple(parts.values())

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        return np.stack([part.values(weights)["AP"] for part in self._parts])


def with_coco(of_tool: Mapping[str, ImageScores], coco: Mapping[str, float]) -> Evaluation:
    """The APs of a set's own tool, by name, and COCO's beside them."""
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


def stem_of(name: str) -> str:
    """The name without its suffix, as the official tools' files have it."""
    return os.fspath(PurePosixPath(name).with_suffix(""))


def by_stem(found: Mapping[str, Faces]) -> dict[str, Faces]:
    """Faces by the names that the official tools' files have."""
    names: dict[str, str] = {}
    for name in found:
        if (other := names.setdefault(stem_of(name), name)) != name:
            raise ValueError(f"{other} and {name} would both become {stem_of(name)}.txt: rename one of them")
    return {stem: found[name] for stem, name in names.items()}
