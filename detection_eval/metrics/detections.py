"""Ground truth and detections in COCO's formats: reading, checking, and conversion to arrays."""

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
        image: Index of the image, ``(N,)``.
        category: Index of the class, ``(N,)``.
        box: Left, top, width and height in pixels, ``(N, 4)`` float64.
        score: Score of the detection, ``(N,)`` float64; zero for ground truth.
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

    Args:
        path: File of the annotations.

    Returns:
        Content of the file. The fields ``images`` (``id``), ``categories`` (``id``, ``name``) and ``annotations``
        (``id``, ``image_id``, ``category_id``, ``bbox``, ``area``) have been checked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON, a field is missing, an id occurs twice or refers to nothing, or a box or an
            area is negative or not finite; the message names the file, the entry and the field.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from llie_preproc.files import write_json
        >>> content = dict(images=[dict(id=1)], categories=[dict(id=1, name="car")], annotations=[])
        >>> with TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "truth.json"), content)
        ...     read_truth(f"{folder}/truth.json")["categories"]
        [{'id': 1, 'name': 'car'}]
    """
    return read_annotations(path)


def read_detections(path: str | os.PathLike[str], truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a COCO results file, whose list of detections may be empty.

    Args:
        path: File of the detections.
        truth: COCO annotations of the images.

    Returns:
        Content of the file, a list; each entry has ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON, a field is missing, ``truth`` lacks an image or a class, a box is negative or
            not finite, or a score is not finite; the message names the file, the entry and the field.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from llie_preproc.files import write_json
        >>> truth = dict(images=[dict(id=1)], categories=[dict(id=1, name="car")], annotations=[])
        >>> found = [dict(image_id=1, category_id=1, bbox=[10, 20, 30, 40], score=0.9)]
        >>> with TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "found.bbox.json"), found)
        ...     read_detections(f"{folder}/found.bbox.json", truth) == found
        True
    """
    detections = read_json(path)
    detection_boxes(detections, image_ids(truth), category_ids(truth), str(path))
    return detections


def image_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Return the ids of the images, sorted. Weights of images have this order, as in pycocotools."""
    return sorted(image["id"] for image in truth["images"])


def category_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Return the ids of the classes, sorted."""
    return sorted(category["id"] for category in truth["categories"])


def check_truth(truth: Any, source: str = "annotations") -> None:
    """Check annotations by the rules of :func:`llie_preproc.coco_json.check_annotations`.

    Args:
        truth: COCO annotations.
        source: Name of the annotations in messages.

    Raises:
        ValueError: The annotations break a rule.
    """
    check_annotations(truth, source)


def truth_boxes(
    truth: Mapping[str, Any], images: Sequence[Any], categories: Sequence[Any], source: str = "annotations"
) -> Boxes:
    """Convert annotations to arrays, in their order.

    Args:
        truth: COCO annotations.
        images: Ids of the images, which :attr:`Boxes.image` points into.
        categories: Ids of the classes, which :attr:`Boxes.category` points into.
        source: Name of the annotations in messages.

    Raises:
        ValueError: An annotation breaks a rule of :func:`read_truth`.
    """
    return _boxes(truth["annotations"], images, categories, f"{source}: annotations")


def detection_boxes(
    detections: Any, images: Sequence[Any], categories: Sequence[Any], source: str = "detections"
) -> Boxes:
    """Convert detections to arrays, in their order.

    Args:
        detections: COCO results.
        images: Ids of the images, which :attr:`Boxes.image` points into.
        categories: Ids of the classes, which :attr:`Boxes.category` points into.
        source: Name of the detections in messages.

    Raises:
        ValueError: A detection breaks a rule of :func:`read_detections`.
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
