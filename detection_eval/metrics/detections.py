"""Ground truth and detections in COCO's formats: read, checked, and as arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llie_preproc.coco_json import (
    boxes,
    check_annotations,
    column,
    finite,
    indices,
    kind_of,
    read_annotations,
    read_json,
)


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images.

    Attributes:
        image: ``(N,)`` index of the image.
        category: ``(N,)`` index of the class.
        box: ``(N, 4)`` left, top, width, height in pixels, float64.
        score: ``(N,)`` float64; zeros for ground truth.
    """

    image: np.ndarray
    category: np.ndarray
    box: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: np.ndarray) -> Boxes:
        return Boxes(self.image[chosen], self.category[chosen], self.box[chosen], self.score[chosen])


def read_truth(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a COCO annotation file.

    Returns:
        The file's dict; ``images`` (``id``), ``categories`` (``id``, ``name``) and ``annotations`` (``id``,
        ``image_id``, ``category_id``, ``bbox``, ``area``) have been checked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, a field is missing, an id stands twice or belongs to nothing, a box or an area is
            negative or not finite; the message names the file, the entry and the field.
    """
    return read_annotations(path)


def read_detections(path: str | os.PathLike[str], truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a COCO results file of the images in ``truth``; it may be an empty list.

    Returns:
        The file's list; each entry has ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As :func:`read_truth`; also an image or a class that ``truth`` has not, a score that is not finite.
    """
    detections = read_json(path)
    detection_boxes(detections, image_ids(truth), category_ids(truth), str(path))
    return detections


def image_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Ids of the images, sorted: the order of weights, and in which pycocotools goes through them."""
    return sorted(image["id"] for image in truth["images"])


def category_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Ids of the classes, sorted."""
    return sorted(category["id"] for category in truth["categories"])


def check_truth(truth: Any, source: str = "annotations") -> None:
    """Check what :func:`read_truth` says (:func:`llie_preproc.coco_json.check_annotations`).

    Args:
        truth: COCO annotations.
        source: Name of the annotations in messages.

    Raises:
        ValueError: See there.
    """
    check_annotations(truth, source)


def truth_boxes(
    truth: Mapping[str, Any], images: Sequence[Any], categories: Sequence[Any], source: str = "annotations"
) -> Boxes:
    """The annotations as arrays, in their order; images and classes as indices into the sequences given.

    Raises:
        ValueError: See :func:`read_truth`.
    """
    return _boxes(truth["annotations"], images, categories, f"{source}: annotations")


def detection_boxes(
    detections: Any, images: Sequence[Any], categories: Sequence[Any], source: str = "detections"
) -> Boxes:
    """The detections as arrays, in their order; images and classes as indices into the sequences given.

    Raises:
        ValueError: See :func:`read_detections`.
    """
    if not isinstance(detections, Sequence) or isinstance(detections, str):
        raise ValueError(f"{source} holds {kind_of(detections)}, expected COCO results: a list")
    found = _boxes(detections, images, categories, source)
    scores = finite(column(detections, "score", source), source, "score")
    return Boxes(found.image, found.category, found.box, scores)


def _boxes(entries: Sequence[Any], images: Sequence[Any], categories: Sequence[Any], source: str) -> Boxes:
    image = indices(entries, "image_id", images, source)
    category = indices(entries, "category_id", categories, source)
    box = boxes(entries, source)
    return Boxes(image, category, box, np.zeros(len(box)))
