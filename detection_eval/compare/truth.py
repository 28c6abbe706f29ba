"""The ground truth of a config's test set, as one COCO annotation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from llie_preproc.configs import type_name
from llie_preproc.detection.sets import dataset_classes, inner_datasets
from llie_preproc.pictures import picture_size

from ..metrics.detections import read_truth


def ground_truth(cfg: Config) -> tuple[dict[str, Any], Path]:
    """The annotations that the test set of ``cfg`` is scored by, and the folder of its pictures.

    Where ``cfg`` evaluates by MMDetection's ``CocoMetric`` they are those of its file, of the dataset's classes. Any
    other dataset of MMDetection is read once, and what it calls ignored is a crowd.

    Raises:
        FileNotFoundError: No annotation file, or a picture is missing; the message names the first and their number.
        ValueError: Damaged annotations, none of the dataset's classes, or several sets in one.
    """
    dataset, *more = inner_datasets(cfg.test_dataloader.dataset)
    if more:
        raise ValueError(f"the config tests on {len(more) + 1} sets at once: name one with --test, or in the config")
    file = _coco_file(cfg)
    if file is None:
        truth, root = _of_dataset(dataset), Path()
    else:
        prefix = (dataset.get("data_prefix") or {}).get("img") or (dataset.get("data_prefix") or {}).get("img_path")
        truth = _of_classes(read_truth(file), dataset_classes(dataset), file)
        root = Path(dataset.get("data_root") or "", prefix or "").absolute()
    missing = [str(p) for image in truth["images"] if not (p := root / image["file_name"]).is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(truth['images'])} test pictures are missing: {missing[0]}")
    return truth, root


def _coco_file(cfg: Config) -> Path | None:
    given = cfg.get("test_evaluator") or {}
    for metric in [given] if isinstance(given, Mapping) else given:
        if type_name(metric) == "CocoMetric" and metric.get("ann_file"):
            return Path(metric["ann_file"]).absolute()
    return None


def _of_classes(truth: dict[str, Any], classes: Sequence[str], file: Path) -> dict[str, Any]:
    """Without the classes that the dataset does not name: ``CocoMetric`` leaves them out of its means."""
    kept = [each for each in truth["categories"] if not classes or each["name"] in classes]
    if not kept:
        raise ValueError(f"{file} has none of the dataset's classes: {', '.join(classes)}")
    ids = {each["id"] for each in kept}
    annotations = [each for each in truth["annotations"] if each["category_id"] in ids]
    return dict(truth, categories=kept, annotations=annotations)


def _of_dataset(config: Any) -> dict[str, Any]:
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(dict(config, pipeline=[], test_mode=True))
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(len(dataset)):
        entry = dataset.get_data_info(index)
        width, height = entry.get("width"), entry.get("height")
        if not width or not height:
            width, height = picture_size(entry["img_path"])
        file = str(Path(entry["img_path"]).absolute())
        images.append(dict(id=entry["img_id"], file_name=file, width=width, height=height))
        for box in entry["instances"]:
            annotations.append(dict(_annotation(box), image_id=entry["img_id"], id=len(annotations) + 1))
    classes = dataset.metainfo["classes"]
    categories = [dict(id=label, name=name) for label, name in enumerate(classes)]
    return dict(images=images, annotations=annotations, categories=categories)


def _annotation(instance: Mapping[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in instance["bbox"])
    return dict(
        bbox=[x1, y1, x2 - x1, y2 - y1],
        area=(x2 - x1) * (y2 - y1),
        category_id=int(instance["bbox_label"]),
        iscrowd=int(instance.get("ignore_flag", 0)),
    )
