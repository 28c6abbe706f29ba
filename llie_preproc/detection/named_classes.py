"""Matching labels to annotated classes by name, while MMDetection uses the order of the categories in the file."""

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
    """MMDetection's ``CocoDataset``, but with the class ``metainfo['classes'][i]`` as label ``i``.

    MMDetection numbers the classes in the order of the annotation file, whatever ``metainfo`` says, so that a class
    gets different labels from two files with different orders. The arguments are those of ``CocoDataset``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`; or the file
            and ``metainfo`` each have classes that the other lacks (:func:`llie_preproc.coco_json.match_classes`).

    Examples:
        >>> import contextlib, json, tempfile
        >>> from pathlib import Path
        >>> picture = dict(id=1, file_name="a.png", width=64, height=48)
        >>> box = dict(id=1, image_id=1, category_id=7, bbox=[8, 8, 16, 16], area=256, iscrowd=0)
        >>> kinds = [dict(id=7, name="bus"), dict(id=9, name="car")]
        >>> path = Path(tempfile.mkdtemp()) / "val.json"
        >>> _ = path.write_text(json.dumps(dict(images=[picture], annotations=[box], categories=kinds)))
        >>> metainfo, data_prefix = dict(classes=("car", "bus")), dict(img="")
        >>> with contextlib.redirect_stdout(None):
        ...     data = NameMatchedCocoDataset(ann_file=str(path), metainfo=metainfo, data_prefix=data_prefix)
        >>> data.get_data_info(0)["instances"][0]["bbox_label"]
        1
    """

    def load_data_list(self) -> list[dict]:
        """Read the annotations."""
        self._matched = False
        _check(self.ann_file, self.backend_args)
        return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict | list[dict]:
        """The information of one picture, with labels that are matched by name."""
        if not self._matched:
            # The parent has numbered the classes before its first call of this method, and uses the numbers after it.
            ids = category_ids(self.coco.dataset, self.metainfo["classes"], self.ann_file)
            self.cat_ids = list(ids.values())
            self.cat2label = {number: self.metainfo["classes"].index(name) for name, number in ids.items()}
            self._matched = True
        return super().parse_data_info(raw_data_info)


@METRICS.register_module()
class NameMatchedCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, but with the class ``dataset_meta['classes'][i]`` as label ``i``.

    If the annotation file lacks some of the detector's classes, detections of these are left out. If the detector
    lacks some of the file's classes, annotations of these are left out. The arguments are those of ``CocoMetric``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`; or, at
            evaluation, the file and the detector each have classes that the other lacks
            (:func:`llie_preproc.coco_json.match_classes`).
    """

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        _check(ann_file, options.get("backend_args"))
        super().__init__(ann_file=ann_file, **options)
        if self._coco_api is not None:
            _number_annotations(self._coco_api)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the scores of ``CocoMetric`` for the classes that the file and the detector share."""
        return super().compute_metrics(self.matched(results))

    def matched(self, results: list) -> list:
        """Renumber the labels of the results so that they count the shared classes, and set ``cat_ids`` accordingly."""
        if self._coco_api is None:
            # Ground truth that comes from the dataset has the detector's labels already.
            return results
        classes: Sequence[str] = self.dataset_meta["classes"]
        ids = category_ids(self._coco_api.dataset, classes, "the annotations")
        self.cat_ids = list(ids.values())
        place = np.full(len(classes), -1)
        place[[classes.index(name) for name in ids]] = np.arange(len(ids))
        return [(truth, _relabelled(found, place)) for truth, found in results]


def _check(ann_file: str | None, backend: Mapping[str, Any] | None) -> None:
    """Check a local file before pycocotools reads it without a check; files of a remote store are not checked."""
    if ann_file and not backend:
        read_annotations(ann_file)


def _number_annotations(coco: Any) -> None:
    """Give annotations the ids 1, 2, ..., because pycocotools takes the id 0 for no match and needs numbers."""
    for number, annotation in enumerate(coco.dataset.get("annotations", ()), start=1):
        annotation["id"] = number
    coco.createIndex()


def category_ids(annotations: Mapping[str, Any], classes: Sequence[str], source: str) -> dict[str, Any]:
    """Ids, by name, of the categories that are among ``classes``, in the order of ``classes``.

    Raises:
        ValueError: The names do not match (:func:`llie_preproc.coco_json.match_classes`).

    Examples:
        >>> annotations = dict(categories=[dict(id=7, name="bus"), dict(id=9, name="car")])
        >>> category_ids(annotations, ("car", "bus"), "val.json")
        {'car': 9, 'bus': 7}
    """
    ids = {category["name"]: category["id"] for category in annotations["categories"]}
    return {name: ids[name] for name in match_classes(classes, list(ids), source)}


def _relabelled(found: Mapping[str, Any], place: np.ndarray) -> dict[str, Any]:
    """Detections of one picture with their new labels, without those that have no new label."""
    labels = place[np.asarray(found["labels"], dtype=np.int64)]
    kept = labels >= 0
    return {name: _rows(value, kept) for name, value in found.items() if name != "labels"} | {"labels": labels[kept]}


def _rows(value: Any, kept: np.ndarray) -> Any:
    if isinstance(value, np.ndarray):
        return value[kept]
    # A list holds a mask for each row, as run lengths; a scalar is the picture's id.
    return [each for each, keep in zip(value, kept, strict=True) if keep] if isinstance(value, list) else value
