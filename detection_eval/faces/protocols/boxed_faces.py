"""The base class of data sets with boxes of faces. It holds pictures and boxes, and adds COCO's AP to a set's own."""

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
    "COCO AP and AP50: the same detections by COCO's rules. These rules also count detections in pictures without "
    "faces, and match a detection to the next best face if its best face is taken; faces that are marked invalid or "
    "have no size are no objects. AP uses the 100 surest detections of a picture, AP50 the 1,000 surest, so that a "
    "picture with more faces cannot reach 1."
)


class BoxedFaces(Protocol):
    """A data set with boxes of faces. ``boxes`` holds the annotated boxes by the picture's name.

    Args:
        labels: Pictures and their annotations.

    Raises:
        ValueError: An annotation is damaged, or no annotated picture is present.
    """

    def __init__(self, labels: LabelSet) -> None:
        missing = [f"{w}: there is no picture {k!r} below {labels.root}" for k, w in labels.labelled.items()
                   if k not in labels.pictures]  # fmt: skip
        bare = [f"{path}: the picture has no annotation" for k, path in labels.pictures.items()
                if k not in labels.labelled]  # fmt: skip
        keys = sorted(set(labels.pictures) & set(labels.labelled), key=labels.name)
        if not keys:
            raise ValueError(
                f"no annotation belongs to a picture below {labels.root}; for example: {[*missing, *bare][0]}"
            )
        super().__init__({labels.name(key): labels.pictures[key] for key in keys}, missing + bare)
        self.boxes: dict[str, Sequence[Box]] = {
            # The formats that are read here do not use the size of the picture.
            labels.name(key): labels.read(key, (0, 0), Problems()).boxes
            for key in keys
        }

    def xywh(self, name: str) -> np.ndarray:
        """Return the boxes of a picture: ``(n, 4)`` left, top, width, height."""
        return np.array([box.xywh for box in self.boxes[name]], dtype=np.float64).reshape(-1, 4)

    def faces(self, name: str) -> np.ndarray:
        xywh = self.xywh(name)
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)

    def coco(self, names: Collection[str], found: Found) -> dict[str, float]:
        """Score the detections of these pictures by COCO's AP and AP50."""
        values = coco_scores({name: self.boxes[name] for name in names}, found).values()
        return {f"COCO {name}": values[name] for name in FACES_OF_COCO}


class _Together(ImageScores):
    """APs of several measures of the same pictures, each under its own name."""

    def __init__(self, parts: Mapping[str, ImageScores]) -> None:
        super().__init__(next(iter(parts.values())).image_ids)
        self.names = tuple(parts)
        self._parts = tuple(parts.values())

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        return np.stack([part.values(weights)["AP"] for part in self._parts])


def with_coco(of_tool: Mapping[str, ImageScores], coco: Mapping[str, float]) -> Evaluation:
    """Join the APs of a set's own tool, by name, with the scores of COCO."""
    scores = _Together(of_tool)
    return Evaluation({**scores.values(), **coco}, scores)


def coco_scores(boxes: Mapping[str, Sequence[Box]], found: Found) -> CocoScores:
    """Score faces by COCO's rules; crowds stay crowds, and boxes without size are left out."""
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
    """Return a picture's name without its suffix, as in the files of the official tools.

    Examples:
        >>> stem_of("0--Parade/1.jpg")
        '0--Parade/1'
    """
    return os.fspath(PurePosixPath(name).with_suffix(""))


def by_stem(found: Mapping[str, Faces]) -> dict[str, Faces]:
    """Rename faces as in the files of the official tools.

    Raises:
        ValueError: Two names differ only in their suffixes.
    """
    names: dict[str, str] = {}
    for name in found:
        if (other := names.setdefault(stem_of(name), name)) != name:
            raise ValueError(f"{other} and {name} would both become {stem_of(name)}.txt: rename one of them")
    return {stem: found[name] for stem, name in names.items()}
