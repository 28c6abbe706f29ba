"""The ground truth of a config's test set, as one COCO annotation file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from llie_preproc.class_mapping_files import read_mapping
from llie_preproc.class_names import ClassMatch, match_classes
from llie_preproc.coco_json import require_pictures
from llie_preproc.config_nodes import type_name
from llie_preproc.detection.coco_sets import dataset_classes, inner_datasets
from llie_preproc.pictures import picture_size

from ..metrics.detections import read_truth

_OF_COCO = ("CocoMetric", "NameMatchedCocoMetric", "CocoIntervalMetric")


def ground_truth(cfg: Config) -> tuple[dict[str, Any], Path, ClassMatch]:
    """Read the annotations of a config's test set, and find the folder of its pictures.

    If the config evaluates by MMDetection's ``CocoMetric``, the annotations are those of the metric's file for the
    classes that the detector shares with it. Without such a file they are those of the set's own COCO file. Any other
    dataset of MMDetection is read once, and its ignored boxes become crowds.

    Args:
        cfg: Config with a test set.

    Returns:
        Annotations, folder of the pictures, and the match of the detector's classes with those of the set.

    Raises:
        FileNotFoundError: The annotation file or pictures are missing; the message has the number of missing pictures
            and the first one.
        ValueError: The annotations are damaged or have none of the detector's classes, or the config tests on several
            sets or on a part of the pictures of its annotation file.
    """
    dataset, *more = inner_datasets(cfg.test_dataloader.dataset)
    if more:
        raise ValueError(
            f"the config tests on {len(more) + 1} sets, expected one: name it with --test or in the config"
        )
    file = _coco_file(cfg) or _own_file(dataset)
    if file is None:
        truth, root = _of_dataset(dataset)
        match = _matched(dataset, truth, "the test set")
    else:
        prefix = (dataset.get("data_prefix") or {}).get("img") or (dataset.get("data_prefix") or {}).get("img_path")
        _require_whole(dataset, file)
        truth = read_truth(file)
        require_pictures(truth, str(file))
        match = _matched(dataset, truth, str(file))
        root = Path(dataset.get("data_root") or "", prefix or "").absolute()
    missing = [str(p) for image in truth["images"] if not (p := root / image["file_name"]).is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(truth['images'])} test pictures are missing: {missing[0]}")
    return match.truth(truth), root, match


def _coco_file(cfg: Config) -> Path | None:
    given = cfg.get("test_evaluator") or {}
    for metric in [given] if isinstance(given, Mapping) else given:
        if type_name(metric) in _OF_COCO and metric.get("ann_file"):
            return Path(metric["ann_file"]).absolute()
    return None


def _own_file(dataset: Mapping[str, Any]) -> Path | None:
    """The local annotation file of a set that matches classes by name: the labels that it gives follow its mapping."""
    if type_name(dataset) != "NameMatchedCocoDataset" or not dataset.get("ann_file") or dataset.get("backend_args"):
        return None
    return Path(dataset.get("data_root") or "", dataset["ann_file"]).absolute()


def _require_whole(dataset: Mapping[str, Any], file: Path) -> None:
    """Refuse a test set that leaves out pictures of its annotation file, whose objects would count as missed."""
    part = {key: dataset.get(key) for key in ("indices", "filter_cfg")}
    if dataset.get("test_mode"):
        # MMDetection filters no pictures then.
        part["filter_cfg"] = None
    for key, value in part.items():
        if value:
            raise ValueError(
                f"the config tests on a part of {file} ({key}={value!r}), expected all pictures: remove {key}"
            )


def _matched(dataset: Mapping[str, Any], truth: Mapping[str, Any], source: str) -> ClassMatch:
    annotated = [each["name"] for each in truth["categories"]]
    return match_classes(dataset_classes(dataset) or annotated, annotated, source, read_mapping(dataset.get("classes")))


def _of_dataset(config: Any) -> tuple[dict[str, Any], Path]:
    """Read the annotations of a dataset, and find the folder that the names of their pictures are relative to."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(dict(config, pipeline=[], test_mode=True))
    images: list[dict] = []
    files: list[Path] = []
    annotations: list[dict] = []
    for index in range(len(dataset)):
        entry = dataset.get_data_info(index)
        width, height = entry.get("width"), entry.get("height")
        if not width or not height:
            width, height = picture_size(entry["img_path"])
        files.append(Path(os.path.normpath(Path(entry["img_path"]).absolute())))
        images.append(dict(id=entry["img_id"], width=width, height=height))
        for box in entry["instances"]:
            annotations.append(dict(_annotation(box), image_id=entry["img_id"], id=len(annotations) + 1))
    classes = dataset.metainfo["classes"]
    categories = [dict(id=label, name=name) for label, name in enumerate(classes)]
    root = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    named = [
        dict(image, file_name=file.relative_to(root).as_posix()) for image, file in zip(images, files, strict=True)
    ]
    return dict(images=named, annotations=annotations, categories=categories), root


def _annotation(instance: Mapping[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in instance["bbox"])
    return dict(
        bbox=[x1, y1, x2 - x1, y2 - y1],
        area=(x2 - x1) * (y2 - y1),
        category_id=int(instance["bbox_label"]),
        iscrowd=int(instance.get("ignore_flag", 0)),
    )
