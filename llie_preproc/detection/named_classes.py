"""Labels matched to annotated classes by name, where MMDetection goes by the order of the categories in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric

from ..coco_json import match_classes, read_annotations
from ..registry import DATASETS, METRICS


@DATASETS.register_module()
class NameMatchedCocoDataset(CocoDataset):
    """MMDetection's ``CocoDataset``, whose label ``i`` is the class ``metainfo['classes'][i]``.

    MMDetection numbers the classes in the order that the annotation file has them in, whatever ``metainfo`` says: two
    files of the same classes in another order give one class two labels. Arguments are those of ``CocoDataset``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`; or the file
            and ``metainfo`` each have classes that the other lacks (:func:`llie_preproc.coco_json.match_classes`).
    """

    def load_data_list(self) -> list[dict]:
        """Read the annotations."""
        self._matched = False
        _check(self.ann_file, self.backend_args)
        return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict | list[dict]:
        """The information of one picture, its labels by name."""
        if not self._matched:
            # The parent has numbered the classes by now, and looks them up from here on.
            ids = category_ids(self.coco.dataset, self.metainfo["classes"], self.ann_file)
            self.cat_ids = list(ids.values())
            self.cat2label = {number: self.metainfo["classes"].index(name) for name, number in ids.items()}
            self._matched = True
        return super().parse_data_info(raw_data_info)


@METRICS.register_module()
class NameMatchedCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, which takes label ``i`` for the class ``dataset_meta['classes'][i]``.

    Where the annotation file has fewer classes than the detector, detections of the others are left out; where it has
    more, its annotations of the others are. Arguments are those of ``CocoMetric``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`. On
            evaluation: the file and the detector each have classes that the other lacks
            (:func:`llie_preproc.coco_json.match_classes`).
    """

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        _check(ann_file, options.get("backend_args"))
        super().__init__(ann_file=ann_file, **options)
        if self._coco_api is not None:
            _number_annotations(self._coco_api)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As ``CocoMetric``, of the classes that the file and the detector share."""
        return super().compute_metrics(self.matched(results))

    def matched(self, results: list) -> list:
        """The results with labels that number the shared classes; sets ``cat_ids`` accordingly."""
        if self._coco_api is None:
            # Ground truth out of the dataset has the detector's own labels.
            return results
        classes: Sequence[str] = self.dataset_meta["classes"]
        ids = category_ids(self._coco_api.dataset, classes, "the annotations")
        self.cat_ids = list(ids.values())
        place = np.full(len(classes), -1)
        place[[classes.index(name) for name in ids]] = np.arange(len(ids))
        return [(truth, _relabelled(found, place)) for truth, found in results]


def _check(ann_file: str | None, backend: Mapping[str, Any] | None) -> None:
    """Check a file before pycocotools reads it, which takes what it finds; one of a remote store is taken as it is."""
    if ann_file and not backend:
        read_annotations(ann_file)


def _number_annotations(coco: Any) -> None:
    """Give annotations the ids 1, 2, ...: pycocotools takes a match with the id 0 for none, and texts for no number."""
    for number, annotation in enumerate(coco.dataset.get("annotations", ()), start=1):
        annotation["id"] = number
    coco.createIndex()


def category_ids(annotations: Mapping[str, Any], classes: Sequence[str], source: str) -> dict[str, Any]:
    """Ids of the categories by name, those that ``classes`` have too, in the order of ``classes``.

    Raises:
        ValueError: See :func:`llie_preproc.coco_json.match_classes`.
    """
    ids = {category["name"]: category["id"] for category in annotations["categories"]}
    return {name: ids[name] for name in match_classes(classes, list(ids), source)}


def _relabelled(found: Mapping[str, Any], place: np.ndarray) -> dict[str, Any]:
    """Detections of one picture by new labels, without those that have none."""
    labels = place[np.asarray(found["labels"], dtype=np.int64)]
    kept = labels >= 0
    return {name: _rows(value, kept) for name, value in found.items() if name != "labels"} | {"labels": labels[kept]}


def _rows(value: Any, kept: np.ndarray) -> Any:
    if isinstance(value, np.ndarray):
        return value[kept]
    # Masks are a list of run lengths; an id stays as it is.
    return [each for each, keep in zip(value, kept, strict=True) if keep] if isinstance(value, list) else value
