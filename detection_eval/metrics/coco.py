"""COCO's box AP, as in MMDetection's ``CocoMetric``, for any weighting of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llie_preproc.coco_json import column, finite, flags

from .detection_table import detection_metric
from .detections import category_ids, detection_boxes, image_ids, truth_boxes
from .matches import IOUS, RECALLS, ImageScores, Ranking, at_recalls, least_found, match, rank

# These are the ranges of the annotations' ``area``: all, small, medium and large. Both ends belong to a range.
_AREAS = np.array([[0, 1e5], [0, 32], [32, 96], [96, 1e5]]) ** 2
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
# AP counts the best 100 detections of an image and class. For the other scores CocoMetric uses the last of its
# ``proposal_nums``, 1000.
_FEW, _MANY = 100, 1000
_EVERY = tuple(range(len(IOUS)))


@dataclass(frozen=True)
class _Cut:
    """The part of the detections and objects that scores look at.

    Attributes:
        names: Names of the scores.
        area: Index of the range of areas.
        limit: Largest number of detections of an image and class.
        thresholds: Indices of the IoU thresholds. Several names have one threshold each; a single name is the mean over
            all.
    """

    names: tuple[str, ...]
    area: int
    limit: int
    thresholds: tuple[int, ...]


_CUTS = (
    _Cut(("AP",), _ALL, _FEW, _EVERY),
    _Cut(("AP50", "AP75"), _ALL, _MANY, (0, 5)),
    _Cut(("APs",), _SMALL, _MANY, _EVERY),
    _Cut(("APm",), _MEDIUM, _MANY, _EVERY),
    _Cut(("APl",), _LARGE, _MANY, _EVERY),
)


@detection_metric("coco", "COCO")
class CocoScores(ImageScores):
    """Box AP of COCO: ``AP`` over IoU 0.5 to 0.95, ``AP50``, ``AP75``, and ``APs``, ``APm`` and ``APl`` by area.

    The values are, to the last digit, those of pycocotools with ``maxDets`` 100, 300, 1000 in MMDetection's
    ``CocoMetric``: AP counts the 100 best detections of an image and class, the other scores count the 1000 best.
    There is one exception: an annotation with the id 0 counts like any other, while pycocotools counts a detection that
    is matched to it as a false positive.

    >>> box = dict(image_id=1, category_id=1, bbox=[10, 20, 40, 50])
    >>> truth = dict(images=[dict(id=1)], categories=[dict(id=1, name="car")])
    >>> truth["annotations"] = [dict(box, id=1, area=2000, iscrowd=0)]
    >>> round(CocoScores(truth, [dict(box, score=0.9)]).values()["AP"], 4)
    1.0

    Args:
        truth: COCO annotations (:func:`~detection_eval.metrics.detections.read_truth`).
        detections: COCO results of the images of ``truth``.

    Raises:
        ValueError: A field of an entry is missing or wrong.
    """

    names = tuple(name for cut in _CUTS for name in cut.names)

    def __init__(self, truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(image_ids(truth))
        ids = category_ids(truth)
        names = {category["id"]: category["name"] for category in truth["categories"]}
        self.class_names = [names[each] for each in ids]
        objects = truth_boxes(truth, self.image_ids, ids)
        entries = truth["annotations"]
        crowd = flags(entries, "iscrowd", "annotations")
        area = finite(column(entries, "area", "annotations"), "annotations", "area", least=0)
        ignored = crowd | ~_within(area)

        found = detection_boxes(detections, self.image_ids, ids)
        order, place = rank(found)
        found, place = found[order[place < _MANY]], place[place < _MANY]
        outcome = match(found, objects, crowd, ignored)
        inside = _within(found.box[:, 2] * found.box[:, 3])

        self._objects = np.zeros((len(_AREAS), len(ids), len(self.image_ids)), dtype=np.int64)
        for counts, passed_over in zip(self._objects, ignored, strict=True):
            np.add.at(counts, (objects.category[~passed_over], objects.image[~passed_over]), 1)
        self._rankings: dict[tuple[int, int], list[Ranking]] = {}
        by_score = np.argsort(-found.score, kind="stable")
        of_class = [by_score[found.category[by_score] == k] for k in range(len(ids))]
        for area_index, limit in [(cut.area, cut.limit) for cut in _CUTS]:
            self._rankings[area_index, limit] = [
                Ranking(found.image[rows], inside[area_index, rows], outcome[area_index][:, rows])
                for rows in (rows[place[rows] < limit] for rows in of_class)
            ]

    def by_class(self) -> dict[str, float]:
        """``AP`` of each class by its name, nan for a class without ground truth; their mean is ``AP``."""
        table = self._precision(_CUTS[0], np.ones((1, len(self.image_ids)), dtype=np.int64), self._every)[0]
        return {name: float(table[:, :, k].mean()) for k, name in enumerate(self.class_names)}

    def precision_recall(self, iou: float = 0.5) -> dict[str, np.ndarray]:
        """The interpolated precision of each class at the recalls 0, 0.01 ... 1.

        It counts objects of all areas and the best 1000 detections of an image and class.

        Returns:
            Precisions ``(101,)`` by the name of the class; nan for a class without ground truth.

        Raises:
            ValueError: ``iou`` is not one of 0.5, 0.55 ... 0.95.
        """
        near = np.flatnonzero(np.isclose(IOUS, iou))
        if not near.size:
            raise ValueError(f"iou is {iou}, expected one of {', '.join(f'{each:g}' for each in IOUS)}")
        cut = _Cut((f"AP{100 * iou:.0f}",), _ALL, _MANY, (int(near[0]),))
        table = self._precision(cut, np.ones((1, len(self.image_ids)), dtype=np.int64), self._every)
        return {name: table[0, 0, :, k] for k, name in enumerate(self.class_names)}

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        means = []
        for cut in _CUTS:
            # A class without an object has no precision in any weighting, and there may be many such classes.
            table = self._precision(cut, weights, np.flatnonzero(self._objects[cut.area].any(axis=1)))
            means += [_mean(part) for part in np.split(table, len(cut.names), axis=1)]
        return np.stack(means)

    @property
    def _every(self) -> np.ndarray:
        """Indices of all classes."""
        return np.arange(len(self.class_names))

    def _precision(self, cut: _Cut, weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The precision at recalls, ``(B, T, 101, len(classes))``; nan for a class without an object."""
        rankings = self._rankings[cut.area, cut.limit]
        table = np.empty((len(classes), len(weights), len(cut.thresholds), len(RECALLS)))
        for place, k in enumerate(classes):
            objects = weights @ self._objects[cut.area, k]
            needed = least_found(objects)
            for t, (reached, counted) in enumerate(rankings[k].curves(weights, cut.thresholds)):
                table[place, :, t] = at_recalls(reached, counted, objects, needed)
        return np.ascontiguousarray(np.moveaxis(table, 0, -1))


def _within(area: np.ndarray) -> np.ndarray:
    """Whether each of ``N`` areas lies in each of ``A`` ranges, ``(A, N)``."""
    return (area >= _AREAS[:, :1]) & (area <= _AREAS[:, 1:])


def _mean(table: np.ndarray) -> np.ndarray:
    """The mean ``(B,)`` of the defined values over all axes but the first, in pycocotools' order; nan without any."""
    rows = table.reshape(len(table), -1)
    return np.array([defined.mean() if (defined := row[~np.isnan(row)]).size else np.nan for row in rows])
