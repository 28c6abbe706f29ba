"""Changes between two detectors, picture by picture: annotated objects that are found or missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.matches import overlaps as box_overlaps

MIN_IOU = 0.5


@dataclass(frozen=True)
class Matches:
    """Matches of one picture's detections with its annotated objects, for all score thresholds at once.

    A detection takes its object before detections with lower scores choose. A higher threshold therefore does not
    change the matches of the detections that remain.

    Attributes:
        boxes: Annotated objects, ``(n, 4)`` x1 y1 x2 y2 in pixels, without crowd regions.
        classes: Category ids of the objects, ``(n,)``.
        found_at: Score of the detection that took each object, ``(n,)``; minus infinity if none took it.
        false_boxes: Detections that took no object and lie in no crowd region, ``(m, 4)``.
        false_classes: Category ids of these detections, ``(m,)``.
        false_scores: Scores of these detections, ``(m,)``.
    """

    boxes: np.ndarray
    classes: np.ndarray
    found_at: np.ndarray
    false_boxes: np.ndarray
    false_classes: np.ndarray
    false_scores: np.ndarray

    def found(self, threshold: float) -> np.ndarray:
        """Mark the objects, ``(n,)`` bool, that a detection with at least the threshold's score took."""
        return self.found_at >= threshold

    def false(self, threshold: float) -> np.ndarray:
        """Mark the false detections, ``(m,)`` bool, that have at least the threshold's score."""
        return self.false_scores >= threshold


@dataclass(frozen=True)
class Change:
    """Change between two detectors in one picture.

    Attributes:
        image_id: Id of the picture.
        found: How many more annotated objects the second detector finds; negative if it finds fewer.
        fewer_false: How many fewer false detections the second detector has; negative if it has more.
    """

    image_id: int
    found: int
    fewer_false: int

    @property
    def rank(self) -> tuple[int, int]:
        """Key to sort by, largest for the best change: found objects count first, then false detections."""
        return self.found, self.fewer_false


def match(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], min_iou: float = MIN_IOU
) -> dict[int, Matches]:
    """Match detections with annotated objects, by picture and class, as COCO's evaluation does.

    In descending order of scores each detection takes the free object that it overlaps most, with an IoU of at least
    ``min_iou``. A detection that takes none is left out if at least the share ``min_iou`` of its area lies in a crowd
    region. The number of detections of a picture is not limited.

    Args:
        truth: COCO annotations.
        detections: COCO results of images in ``truth``.
        min_iou: Least overlap of a match.

    Returns:
        Matches by image id, in the order of ``truth['images']``.

    Examples:
        >>> car = dict(image_id=1, category_id=1, bbox=[0, 0, 10, 10])
        >>> truth = dict(images=[dict(id=1)], annotations=[car])
        >>> match(truth, [dict(car, score=0.8)])[1].found(threshold=0.5)
        array([ True])
    """
    objects, found = _grouped(truth["annotations"]), _grouped(detections)
    return {
        image["id"]: _match_image(objects.get(image["id"], {}), found.get(image["id"], {}), min_iou)
        for image in truth["images"]
    }


def best_threshold(matches: Iterable[Matches]) -> float:
    """Find the score threshold with the highest F1 over all pictures.

    ``F1 = 2 TP / (detections at or above the threshold + annotated objects)``. The highest of several such thresholds
    is returned, and 0 if there are no detections.
    """
    every = list(matches)
    found = np.concatenate([np.empty(0), *(m.found_at for m in every)])
    true_scores = found[np.isfinite(found)]
    scores = np.concatenate([true_scores, *(m.false_scores for m in every)])
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(order < len(true_scores))
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + len(found))
    # Detections of equal score pass a threshold together, so the F1 of the last of them counts.
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    return float(ordered[last][np.argmax(f1[last])])


def changes(
    before: Mapping[int, Matches], after: Mapping[int, Matches], thresholds: tuple[float, float]
) -> list[Change]:
    """Rank pictures by the change from one detector to another.

    Args:
        before: Matches of the first detector (:func:`match`).
        after: Matches of the second detector in the same pictures.
        thresholds: Least scores that count in ``before`` and in ``after``.

    Returns:
        Changes, the most improved picture first; equal ones keep the order of ``before``.
    """
    found = [_change(i, before[i], after[i], thresholds) for i in before]
    return sorted(found, key=lambda change: change.rank, reverse=True)


def extremes(ranked: Sequence[Change], count: int) -> tuple[list[Change], list[Change]]:
    """Choose the most improved and the most worsened pictures, each at most ``count``, the largest change first.

    Pictures without a change are in neither list.

    Args:
        ranked: Result of :func:`changes`.
        count: Largest length of each list.
    """
    improved = [change for change in ranked if change.rank > (0, 0)]
    worsened = [change for change in reversed(ranked) if change.rank < (0, 0)]
    return improved[:count], worsened[:count]


def _change(image_id: int, before: Matches, after: Matches, thresholds: tuple[float, float]) -> Change:
    first, second = thresholds
    found = int(after.found(second).sum()) - int(before.found(first).sum())
    fewer = int(before.false(first).sum()) - int(after.false(second).sum())
    return Change(image_id, found, fewer)


def _grouped(entries: Iterable[Mapping[str, Any]]) -> dict[int, dict[int, list[Mapping[str, Any]]]]:
    """Group entries by image, then by category."""
    groups: dict[int, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        groups[entry["image_id"]][entry["category_id"]].append(entry)
    return groups


def _match_image(
    objects: Mapping[int, list[Mapping[str, Any]]], found: Mapping[int, list[Mapping[str, Any]]], min_iou: float
) -> Matches:
    parts = [
        _match_class(category, objects.get(category, []), found.get(category, []), min_iou)
        for category in sorted({*objects, *found})
    ]
    empty = Matches(np.empty((0, 4)), *(np.empty(0),) * 2, np.empty((0, 4)), *(np.empty(0),) * 2)
    return Matches(*(np.concatenate(columns) for columns in zip(*map(_columns, [empty, *parts]), strict=True)))


def _columns(matches: Matches) -> tuple[np.ndarray, ...]:
    false = matches.false_boxes, matches.false_classes, matches.false_scores
    return matches.boxes, matches.classes, matches.found_at, *false


def _match_class(
    category: int, objects: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], min_iou: float
) -> Matches:
    single = [o for o in objects if not o.get("iscrowd", 0)]
    crowds = [o for o in objects if o.get("iscrowd", 0)]
    boxes = _boxes(found)
    scores = np.array([d["score"] for d in found], dtype=float)
    overlaps = box_overlaps(boxes, _boxes(single), np.zeros(len(single), bool))
    found_at = np.full(len(single), -np.inf)
    free = np.zeros(len(found), bool)
    for index in np.argsort(-scores, kind="stable").tolist():
        taken = _best_free(overlaps[index], found_at, min_iou)
        if taken is None:
            free[index] = True
        else:
            found_at[taken] = scores[index]
    free &= ~(box_overlaps(boxes, _boxes(crowds), np.ones(len(crowds), bool)) >= min_iou).any(axis=1)
    return Matches(
        _corners(_boxes(single)),
        np.full(len(single), category),
        found_at,
        _corners(boxes[free]),
        np.full(int(free.sum()), category),
        scores[free],
    )


def _best_free(overlaps: np.ndarray, found_at: np.ndarray, min_iou: float) -> int | None:
    if not len(overlaps):
        return None
    open_overlaps = np.where(np.isneginf(found_at), overlaps, -1)
    # COCO's evaluation also takes the last of equal overlaps.
    best = len(overlaps) - 1 - int(np.argmax(open_overlaps[::-1]))
    return best if open_overlaps[best] >= min_iou else None


def _boxes(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Collect boxes, ``(n, 4)`` x y w h."""
    return np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4)


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
