"""Matching labels to annotated classes by name, while MMDetection uses the order of the categories in the file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric

from ..class_mapping_files import Mapped, read_mapping
from ..class_names import ClassMatch, match_classes
from ..coco_json import read_annotations
from ..registry import DATASETS, METRICS


@DATASETS.register_module()
class NameMatchedCocoDataset(CocoDataset):
    """MMDetection's ``CocoDataset``, but with the class ``metainfo['classes'][i]`` as label ``i``.

    MMDetection numbers the classes in the order of the annotation file, whatever ``metainfo`` says, so that a class
    gets different labels from two files with different orders. Annotations of classes that the detector does not have
    are left out.

    Args:
        *args: Arguments of ``CocoDataset``.
        classes: Mapping from the detector's classes to those of the file, or the name or file of such a mapping
            (:func:`llie_preproc.class_mapping_files.read_mapping`). Other classes are matched by name.
        **options: Arguments of ``CocoDataset``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`; or the file
            and ``metainfo`` do not match (:func:`llie_preproc.class_names.match_classes`); or the set is one to train
            on, and each side has classes that the other lacks.

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

    def __init__(self, *args: Any, classes: Any = None, **options: Any) -> None:
        self._mapping = read_mapping(classes)
        super().__init__(*args, **options)

    def load_data_list(self) -> list[dict]:
        """Read the annotations."""
        self._matched = False
        _check(self.ann_file, self.backend_args)
        return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict | list[dict]:
        """The information of one picture, with labels that are matched by name."""
        if not self._matched:
            # The parent has numbered the classes before its first call of this method, and uses the numbers after it.
            match = _match(self.metainfo["classes"], self.coco.dataset, self.ann_file, self._mapping)
            if not self.test_mode:
                match.require_labels(self.ann_file, whole=False)
            labels = match.labels()
            named = {each["name"]: each["id"] for each in self.coco.dataset["categories"]}
            self.cat2label = {named[name]: label for name, label in labels.items()}
            self.cat_ids = list(self.cat2label)
            self._matched = True
        return super().parse_data_info(raw_data_info)


@METRICS.register_module()
class NameMatchedCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, but with the class ``dataset_meta['classes'][i]`` as label ``i``.

    If the annotation file lacks some of the detector's classes, detections of these are left out. If the detector
    lacks some of the file's classes, annotations of these are left out, with a warning. If several classes of the file
    belong to one class of the detector, they are evaluated as one.

    Args:
        ann_file: Annotation file; None for the ground truth of the dataset.
        classes: Mapping from the detector's classes to those of the file, or the name or file of such a mapping
            (:func:`llie_preproc.class_mapping_files.read_mapping`). Other classes are matched by name.
        **options: Arguments of ``CocoMetric``.

    Raises:
        ValueError: The annotation file breaks a rule of :func:`llie_preproc.coco_json.read_annotations`; or, at
            evaluation, its classes and the detector's do not match (:func:`llie_preproc.class_names.match_classes`).
    """

    def __init__(self, ann_file: str | None = None, classes: Any = None, **options: Any) -> None:
        _check(ann_file, options.get("backend_args"))
        self._mapping: Mapped = read_mapping(classes)
        super().__init__(ann_file=ann_file, **options)
        if self._coco_api is not None:
            _number_annotations(self._coco_api)
            self._annotated = self._coco_api.dataset

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the scores of ``CocoMetric`` for the classes that the file and the detector share."""
        return super().compute_metrics(self.matched(results))

    def matched(self, results: list) -> list:
        """Renumber the labels of the results so that they count the shared classes.

        The ground truth is restricted to these, and ``cat_ids`` are their ids.
        """
        if self._coco_api is None:
            # Ground truth that comes from the dataset has the detector's labels already.
            return results
        match = _match(self.dataset_meta["classes"], self._annotated, "the annotations", self._mapping)
        if match.unknown:
            warnings.warn("; ".join(match.notes), stacklevel=2)
        self._coco_api.dataset = match.truth(self._annotated)
        with contextlib.redirect_stdout(None):
            self._coco_api.createIndex()
        self.cat_ids = [category["id"] for category in self._coco_api.dataset["categories"]]
        names = [each.name for each in match.shared]
        place = np.array([-1 if name is None else names.index(name) for name in match.found_as.values()])
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


def _match(classes: Sequence[str], annotations: Mapping[str, Any], source: str, mapping: Mapped) -> ClassMatch:
    return match_classes(classes, [category["name"] for category in annotations["categories"]], source, mapping)


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
