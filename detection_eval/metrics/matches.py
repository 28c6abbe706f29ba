"""Matching of detections to ground truth, and precision and recall for any weighting of the images.

A weight says how often an image counts. Matching does not depend on the weights, so it is done once. Between equal
scores the order of the images decides; copies of an image are next to each other in this order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .detections import Boxes

IOUS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of COCO and VisDrone."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the precision."""
UNMATCHED, TRUE, ABSORBED = 0, 1, 2
"""Outcomes of a detection at a threshold: not matched, matched to an object that counts, matched to an ignored one."""

# With this number of weightings at once, the running sums stay in the processor's cache.
_CHUNK = 32


class ImageScores(ABC):
    """The base class of scores of a set of images, each of which may be left out or counted several times.

    Attributes:
        image_ids: Ids of the images, in the order of the weights.
        names: Names of the scores.
    """

    names: tuple[str, ...] = ()

    def __init__(self, image_ids: Sequence[Any]) -> None:
        self.image_ids = list(image_ids)

    @abstractmethod
    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        """The scores ``(len(names), B)`` for weights ``(B, n_images)`` int64; nan where a score is undefined."""

    def values(self, weights: np.ndarray | None = None) -> dict[str, Any]:
        """The scores in [0, 1] by name; nan where no ground truth defines a score.

        Args:
            weights: Number of times that each image counts, ``(n_images,)``, or ``(B, n_images)`` for ``B`` weightings
                at once. None counts each image once.

        Returns:
            Floats, or arrays ``(B,)`` for ``B`` weightings.

        Raises:
            ValueError: The weights have another shape, or a weight is negative or not a whole number.
        """
        count = len(self.image_ids)
        given = np.ones(count, dtype=np.int64) if weights is None else np.asarray(weights)
        if given.ndim not in (1, 2) or given.shape[-1] != count:
            raise ValueError(f"weights of shape {given.shape}, expected ({count},) or (B, {count})")
        rows = np.atleast_2d(given)
        if (rows < 0).any() or (rows != np.floor(rows)).any():
            raise ValueError("weights say how often an image counts: whole numbers from 0, not " + _first_bad(rows))
        parts = [self._weighted(rows[i : i + _CHUNK].astype(np.int64)) for i in range(0, len(rows), _CHUNK)]
        table = np.concatenate([np.empty((len(self.names), 0)), *parts], axis=1)
        if given.ndim == 1:
            return {name: float(row[0]) for name, row in zip(self.names, table, strict=True)}
        return dict(zip(self.names, table, strict=True))


def _first_bad(rows: np.ndarray) -> str:
    return str(rows[(rows < 0) | (rows != np.floor(rows))][0])


def rank(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Rank the detections of each image and class by falling score; equal scores keep their order.

    Returns:
        The order of the detections by image, class and falling score, and for each detection, in that order, the
        number of detections of the same image and class before it.
    """
    order = np.lexsort((-boxes.score, boxes.category, boxes.image))
    return order, position(boxes.image[order], boxes.category[order])


def position(*keys: np.ndarray) -> np.ndarray:
    """The number of entries before each entry in its run of equal ``keys``, ``(N,)``; each key is ``(N,)``.

    >>> position(np.array([7, 7, 7, 8, 8])).tolist()
    [0, 1, 2, 0, 1]
    """
    count = len(keys[0])
    starts = np.ones(count, dtype=bool)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    first = np.flatnonzero(starts)
    return np.arange(count) - np.repeat(first, np.diff(np.append(first, count)))


def match(detections: Boxes, truth: Boxes, absorbing: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Match each detection, best score first, to the object of its image and class that it overlaps most.

    An object is matched once. Objects that count come before ignored objects; of equal overlaps the later object wins.
    An absorbing object takes any number of detections; its overlap is the share of the detection inside it.

    Args:
        detections: ``D`` detections in the order of :func:`rank`.
        truth: ``G`` objects.
        absorbing: Whether each object is absorbing, ``(G,)`` bool.
        ignored: Whether each object is ignored, ``(A, G)`` bool, for ``A`` ways to choose the objects that count. An
            absorbing object must be ignored in all of them.

    Returns:
        The outcomes, ``(A, len(IOUS), D)`` int8: :data:`UNMATCHED`, :data:`TRUE` or :data:`ABSORBED`.
    """
    outcome = np.zeros((len(detections), len(ignored), len(IOUS)), dtype=np.int8)
    pairs = _overlapping(detections, truth, absorbing)
    free = np.ones((len(truth) + 1, len(ignored), len(IOUS)), dtype=bool)
    free[-1] = False
    ignored = np.concatenate([ignored.T, np.ones((1, len(ignored)), dtype=bool)])[:, :, None]
    takes_one = np.append(~absorbing, False)
    for chosen in pairs.rounds(detections):
        candidates = pairs.objects[chosen]
        eligible = free[candidates] & (pairs.iou[chosen][:, :, None, None] >= IOUS)
        passed_over = ignored[candidates]
        found = np.zeros((len(chosen), *free.shape[1:]), dtype=np.int8)
        for kind, open_to in ((ABSORBED, eligible & passed_over), (TRUE, eligible & ~passed_over)):
            found[open_to.any(axis=1)] = kind
        wanted = eligible & (passed_over == (found == ABSORBED)[:, None])
        taken = np.take_along_axis(candidates[:, :, None, None], wanted.argmax(axis=1)[:, None], axis=1)[:, 0]
        which, area, threshold = np.nonzero((found != UNMATCHED) & takes_one[taken])
        free[taken[which, area, threshold], area, threshold] = False
        outcome[pairs.detection[chosen]] = found
    return np.ascontiguousarray(outcome.transpose(1, 2, 0))


@dataclass(frozen=True)
class _Overlaps:
    """The objects to which each detection may be matched.

    Each row is for one detection. It lists the objects by falling overlap; of equal overlaps the later object is first.

    Attributes:
        detection: Indices of the detections, ``(P,)``, rising.
        objects: Indices of the objects, ``(P, C)``. Unused places at the end of a row hold the number of all objects.
        iou: Overlaps, ``(P, C)``.
    """

    detection: np.ndarray
    objects: np.ndarray
    iou: np.ndarray

    def rounds(self, detections: Boxes) -> Iterator[np.ndarray]:
        """The rows in the order of matching.

        Each array holds at most one row of an image and class, so its rows can be matched at once.
        """
        turn = position(detections.image[self.detection], detections.category[self.detection])
        order = np.argsort(turn, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(turn[order])) + 1) if len(order) else []


def _overlapping(detections: Boxes, truth: Boxes, absorbing: np.ndarray) -> _Overlaps:
    found, objects, overlap = _pairs(detections, truth, absorbing)
    order = np.lexsort((-objects, -overlap, found))
    found, objects, overlap = found[order], objects[order], overlap[order]
    column, rows = position(found), np.unique(found)
    row = np.searchsorted(rows, found)
    width = column.max(initial=-1) + 1
    table = np.full((len(rows), width), len(truth))
    iou = np.zeros((len(rows), width))
    table[row, column], iou[row, column] = objects, overlap
    return _Overlaps(rows, table, iou)


def _pairs(detections: Boxes, truth: Boxes, absorbing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of a detection and an object that overlap enough for the least threshold, and their overlaps.

    Both have the same image and class.
    """
    by_image = np.argsort(truth.image, kind="stable")
    images, starts = np.unique(detections.image, return_index=True)
    ends = np.searchsorted(detections.image, images, side="right")
    first = np.searchsorted(truth.image[by_image], images, side="left")
    last = np.searchsorted(truth.image[by_image], images, side="right")
    parts = []
    for start, end, begin, stop in np.stack([starts, ends, first, last], axis=1):
        objects = by_image[begin:stop]
        overlap = overlaps(detections.box[start:end], truth.box[objects], absorbing[objects])
        overlap[detections.category[start:end, None] != truth.category[objects]] = 0
        row, column = np.nonzero(overlap >= IOUS[0])
        parts.append((start + row, objects[column], overlap[row, column]))
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, np.zeros(0)
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))  # type: ignore[return-value]


def overlaps(detections: np.ndarray, objects: np.ndarray, absorbing: np.ndarray) -> np.ndarray:
    """Intersection over union; for an absorbing object, intersection over the area of the detection.

    Areas are width times height, without the pixel that some tools add.

    >>> detections, objects = np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 0, 4, 4]])
    >>> overlaps(detections, objects, np.array([True])).tolist()
    [[0.5]]

    Args:
        detections: Boxes ``(D, 4)``, left, top, width, height.
        objects: Boxes ``(G, 4)``, likewise.
        absorbing: Whether each object is absorbing, ``(G,)`` bool.

    Returns:
        The overlaps, ``(D, G)`` in [0, 1].
    """
    found, there = detections[:, None], objects[None]
    sides = np.minimum(found[..., :2] + found[..., 2:], there[..., :2] + there[..., 2:])
    sides -= np.maximum(found[..., :2], there[..., :2])
    common = sides[..., 0] * sides[..., 1]
    area = found[..., 2] * found[..., 3]
    whole = np.where(absorbing, area, area + there[..., 2] * there[..., 3] - common)
    result = np.zeros(common.shape)
    return np.divide(common, whole, out=result, where=(sides > 0).all(axis=2))


class Ranking:
    """The detections of one class by falling score, and their outcomes at every threshold.

    Args:
        image: Indices of the images, ``(N,)``.
        counted: Whether each detection is a false positive if it is not matched, ``(N,)`` bool.
        outcome: Outcomes of :func:`match`, ``(T, N)``.
    """

    def __init__(self, image: np.ndarray, counted: np.ndarray, outcome: np.ndarray) -> None:
        self._plain = image[counted]
        # Only matched detections differ between thresholds.
        rows = np.flatnonzero((outcome != UNMATCHED).any(axis=0))
        outcome, plain = outcome[:, rows], counted[rows]
        self._before = np.cumsum(counted)[rows]
        self._image = image[rows]
        self._true = [np.flatnonzero(each == TRUE) for each in outcome]
        changes = [(each == TRUE).astype(np.int8) - plain for each in outcome]
        changes = [np.where(each == UNMATCHED, 0, change) for each, change in zip(outcome, changes, strict=True)]
        self._changed = [np.flatnonzero(each) for each in changes]
        self._change = [each[rows] for each, rows in zip(changes, self._changed, strict=True)]

    def curves(self, weights: np.ndarray, thresholds: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The numbers of true positives, and of all detections that count, up to each true positive.

        Args:
            weights: Weights of the images, ``(B, n_images)`` int64.
            thresholds: Indices into :data:`IOUS`.

        Yields:
            Two arrays ``(B, n_true)`` int64 for each threshold.
        """
        plain = _running(weights.take(self._plain, axis=1))
        for t in thresholds:
            true, changed = self._true[t], self._changed[t]
            reached = np.cumsum(weights.take(self._image[true], axis=1), axis=1)
            counted = plain.take(self._before[true], axis=1)
            if len(changed):
                more = _running(weights.take(self._image[changed], axis=1) * self._change[t])
                counted += more[:, np.searchsorted(changed, true, side="right")]
            yield reached, counted


def _running(columns: np.ndarray) -> np.ndarray:
    """The sums of the first 0, 1 ... n columns, ``(B, n + 1)``."""
    sums = np.zeros((len(columns), columns.shape[1] + 1), dtype=columns.dtype)
    np.cumsum(columns, axis=1, out=sums[:, 1:])
    return sums


def at_recalls(reached: np.ndarray, counted: np.ndarray, objects: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The largest precision at each of :data:`RECALLS` or beyond it; 0 where the recall is not reached.

    Args:
        reached: Numbers of true positives of :meth:`Ranking.curves`, ``(B, n)``.
        counted: Numbers of detections that count of :meth:`Ranking.curves`, ``(B, n)``.
        objects: Numbers of objects, ``(B,)``.
        needed: Numbers of objects that each recall needs (:func:`least_found`), which all thresholds of a class share.

    Returns:
        The precisions, ``(B, 101)``; nan where there is no object.
    """
    row = np.arange(len(reached))[:, None]
    # One search serves all rows, because each row is lifted above those before it.
    step = reached[:, -1:].max(initial=0) + 2
    lift = row * step
    at = np.searchsorted((reached + lift).ravel(), np.minimum(needed, step - 1) + lift)
    # pycocotools adds this small number to avoid 0 / 0. It changes the result if only one detection counts.
    padded = np.concatenate([_envelope(reached / (counted + np.spacing(1))), np.zeros((len(row), 1))], axis=1)
    # Each row has one column more than those that were searched.
    result = padded.ravel().take(at + row)
    result[objects == 0] = np.nan
    return result


def least_found(objects: np.ndarray) -> np.ndarray:
    """The least number of found objects that reaches each of :data:`RECALLS` in floating point.

    >>> least_found(np.array([2]))[0, [0, 50, 51]].tolist()
    [1, 1, 2]

    Args:
        objects: Numbers of objects, ``(B,)``.

    Returns:
        Numbers of at least 1, ``(B, 101)``.
    """
    count = np.maximum(objects, 1)[:, None]
    needed = np.ceil(RECALLS * count)
    needed -= (needed - 1) / count >= RECALLS
    needed += needed / count < RECALLS
    return np.maximum(needed.astype(np.int64), 1)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The largest value in each column and those after it."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def area_under(reached: np.ndarray, counted: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The area ``(B,)`` under the envelope of the precision at all points; nan where there is no object.

    The arguments are the first three of :func:`at_recalls`.
    """
    gained = np.diff(reached, axis=1, prepend=0)
    area = (gained * _envelope(reached / np.maximum(counted, 1))).sum(axis=1)
    return np.divide(area, objects, out=np.full(len(objects), np.nan), where=objects > 0)
