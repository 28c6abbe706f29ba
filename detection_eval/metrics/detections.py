"""Ground truth and detections in COCO's formats: read, checked, and as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..compare.results import read_json


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
    truth = read_json(Path(path))
    check_truth(truth, str(path))
    return truth


def read_detections(path: str | os.PathLike[str], truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a COCO results file of the images in ``truth``; it may be an empty list.

    Returns:
        The file's list; each entry has ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As :func:`read_truth`; also an image or a class that ``truth`` has not, a score that is not finite.
    """
    detections = read_json(Path(path))
    detection_boxes(detections, image_ids(truth), category_ids(truth), str(path))
    return detections


def image_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Ids of the images, sorted: the order of weights, and in which pycocotools goes through them."""
    return sorted(image["id"] for image in truth["images"])


def category_ids(truth: Mapping[str, Any]) -> list[Any]:
    """Ids of the classes, sorted."""
    return sorted(category["id"] for category in truth["categories"])


def check_truth(truth: Any, source: str = "annotations") -> None:
    """Check what :func:`read_truth` says.

    Args:
        truth: COCO annotations.
        source: What messages call it.

    Raises:
        ValueError: See there.
    """
    if not isinstance(truth, Mapping):
        raise ValueError(f"{source} holds {_kind(truth)}, expected COCO annotations: an object with 'images'")
    for field in ("images", "categories", "annotations"):
        if not isinstance(truth.get(field), list):
            raise ValueError(f"{source}: '{field}' is {_kind(truth.get(field))}, expected a list")
        _distinct(truth[field], "id", f"{source}: {field}")
    _distinct(truth["categories"], "name", f"{source}: categories")
    truth_boxes(truth, image_ids(truth), category_ids(truth), source)
    areas = _column(truth["annotations"], "area", f"{source}: annotations")
    _check(_numbers(areas, f"{source}: annotations", "area"), areas, f"{source}: annotations", "area")


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
        raise ValueError(f"{source} holds {_kind(detections)}, expected COCO results: a list")
    boxes = _boxes(detections, images, categories, source)
    scores = _column(detections, "score", source)
    values = _numbers(scores, source, "score")
    _check(values, scores, source, "score", least=-np.inf)
    return Boxes(boxes.image, boxes.category, boxes.box, values)


def _boxes(entries: Sequence[Any], images: Sequence[Any], categories: Sequence[Any], source: str) -> Boxes:
    image = _indices(entries, "image_id", images, source)
    category = _indices(entries, "category_id", categories, source)
    given = _column(entries, "bbox", source)
    box = _quadruples(given, source)
    _check(box, given, source, "bbox", least=np.array([-np.inf, -np.inf, 0, 0]))
    return Boxes(image, category, box, np.zeros(len(box)))


def _column(entries: Sequence[Any], field: str, source: str) -> list[Any]:
    try:
        return [entry[field] for entry in entries]
    except (KeyError, TypeError, IndexError):
        at = next(i for i, entry in enumerate(entries) if not isinstance(entry, Mapping) or field not in entry)
        raise ValueError(f"{source}[{at}] has no field '{field}': {_short(entries[at])}") from None


def _indices(entries: Sequence[Any], field: str, known: Sequence[Any], source: str) -> np.ndarray:
    index = {each: i for i, each in enumerate(known)}
    values = _column(entries, field, source)
    try:
        return np.array([index[each] for each in values], dtype=np.int64)
    except (KeyError, TypeError):
        at = next(i for i, each in enumerate(values) if not _is_in(each, index))
        raise ValueError(f"{source}[{at}]: {field} {_short(values[at])} is none of the annotation file's") from None


def _is_in(value: Any, index: Mapping[Any, int]) -> bool:
    return value.__hash__ is not None and value in index


def _distinct(entries: Iterable[Any], field: str, source: str) -> None:
    seen: dict[Any, int] = {}
    for i, value in enumerate(_column(list(entries), field, source)):
        if not isinstance(value, (int, str)):
            raise ValueError(f"{source}[{i}]: {field} {_short(value)} is neither a whole number nor a name")
        if isinstance(value, str) != isinstance(next(iter(seen), value), str):
            raise ValueError(f"{source}[{i}]: {field} {value!r}: some are whole numbers and some names")
        if value in seen:
            raise ValueError(f"{source}[{i}]: {field} {value!r} stands at [{seen[value]}] already")
        seen[value] = i


def _quadruples(values: Sequence[Any], source: str) -> np.ndarray:
    wrong = [i for i, each in enumerate(values) if not isinstance(each, Sequence) or len(each) != 4]
    if wrong:
        raise ValueError(f"{source}[{wrong[0]}]: bbox {_short(values[wrong[0]])}, expected [left, top, width, height]")
    return _numbers(values, source, "bbox").reshape(-1, 4)


def _numbers(values: Sequence[Any], source: str, field: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        at = next(i for i, each in enumerate(values) if not _is_numeric(each))
        raise ValueError(f"{source}[{at}]: {field} {_short(values[at])} is not numeric") from None


def _is_numeric(value: Any) -> bool:
    try:
        return np.array(value, dtype=np.float64) is not None
    except (TypeError, ValueError):
        return False


def _check(values: np.ndarray, given: Sequence[Any], source: str, field: str, least: Any = 0.0) -> None:
    good = np.isfinite(values) & (values >= least)
    rows = np.flatnonzero(~(good if good.ndim == 1 else good.all(axis=1)))
    if rows.size:
        wanted = "finite numbers" if np.all(np.isinf(least)) else "finite numbers, no negative size"
        raise ValueError(f"{source}[{rows[0]}]: {field} {_short(given[rows[0]])}, expected {wanted}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
