"""The detector's config, and the sets that it trains and tests on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config

from ..config_files import read_config_file
from ..configs import find_enhancement

# What a dataset's config may keep when another set takes its place; the rest belongs to its data.
_OF_ANY_SET = {"type", "_scope_", "pipeline", "filter_cfg", "test_mode", "backend_args", "max_refetch"}


@dataclass(frozen=True)
class CocoSet:
    """A set to train or test on.

    Attributes:
        annotations: COCO annotation file.
        images: Folder that its file names are relative to.
    """

    annotations: Path
    images: Path


def read_config(name: str, options: Mapping[str, Any]) -> Config:
    """Read a detector's config that has no enhancer.

    Args:
        name: A file, or one of MMDetection's own, ``mmdet::retinanet/retinanet_r18_fpn_1x_coco.py``.
        options: Keys and values over it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It does not read, has no detector or no test set, or has an enhancer already.
    """
    cfg = read_config_file(name, options)
    check_detector_config(name, cfg, ("train_dataloader", "train_cfg", "optim_wrapper", "test_dataloader", "test_cfg"))
    if found := find_enhancement(cfg):
        raise ValueError(f"{name} enhances already ({found}): compare takes the plain config and --enhancers")
    return cfg


def check_detector_config(name: str, cfg: Config, needed: Sequence[str]) -> None:
    """Raise ``ValueError`` where a config lacks its detector, one of the keys in ``needed``, or a loader's dataset."""
    for key in ("model", *needed):
        if not isinstance(cfg.get(key), Mapping):
            raise ValueError(f"{name} has no {key}: it must be the config of an MMDetection detector")
    for loader in (key for key in needed if key.endswith("_dataloader")):
        if not isinstance(cfg[loader].get("dataset"), Mapping):
            raise ValueError(f"{name}: {loader} has no dataset, a dict with 'type'")


def use_sets(cfg: Config, train: CocoSet | None, test: CocoSet | None) -> Config:
    """A copy of ``cfg`` that trains and tests on other sets: data, classes and the detector's ``num_classes``.

    Where the config joins several sets, the pipeline of the first one stays.

    Raises:
        FileNotFoundError: No such annotation file or folder.
        ValueError: The sets have different classes.
    """
    if train is None and test is None:
        return cfg
    cfg = copy.deepcopy(cfg)
    before = dataset_classes(inner_datasets(cfg.train_dataloader.dataset)[0])
    chosen = {"train_dataloader": train, "val_dataloader": test, "test_dataloader": test}
    names = {_classes(each) for each in (train, test) if each is not None}
    if train is None or test is None:
        names.add(before)
    if len(names) > 1:
        raise ValueError(f"the sets differ in their classes: {'; '.join(', '.join(each) for each in sorted(names))}")
    classes = names.pop()
    for loader, each in chosen.items():
        if each is not None and cfg.get(loader):
            _replace(_only_first(cfg[loader]), each, classes)
    if test is not None:
        cfg.test_evaluator = dict(type="mmdet.CocoMetric", ann_file=str(test.annotations.resolve()), metric="bbox")
    _replace_num_classes(cfg.model, len(before), len(classes))
    return cfg


def inner_datasets(dataset: Any) -> list[Any]:
    """The datasets inside wrappers such as ``MultiImageMixDataset`` and ``ConcatDataset``; a plain one itself."""
    inside = [dataset["dataset"]] if "dataset" in dataset else dataset.get("datasets", ())
    return [found for each in inside for found in inner_datasets(each)] or [dataset]


def _classes(chosen: CocoSet) -> tuple[str, ...]:
    """In the order of the file, which is that of MMDetection's labels."""
    if not chosen.images.is_dir():
        raise FileNotFoundError(f"no folder {chosen.images}")
    try:
        return tuple(category["name"] for category in json.loads(chosen.annotations.read_bytes())["categories"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{chosen.annotations} is no COCO annotation file, whose 'categories' each have a 'name' "
            f"({type(error).__name__}: {error})"
        ) from error


def dataset_classes(dataset: Mapping) -> tuple[str, ...]:
    """The classes of a dataset's config, or its type's own."""
    given = (dataset.get("metainfo") or {}).get("classes")
    if given is None:
        kind = DATASETS.get(dataset["type"]) if isinstance(dataset["type"], str) else dataset["type"]
        given = getattr(kind, "METAINFO", {}).get("classes", ())
    return (given,) if isinstance(given, str) else tuple(given)


def _only_first(node: Any) -> Any:
    """Put the first of joined sets into their place, below wrappers too; returns it."""
    while "dataset" in node:
        while "datasets" in node["dataset"]:
            node["dataset"] = node["dataset"]["datasets"][0]
        node = node["dataset"]
    return node


def _replace(dataset: Any, chosen: CocoSet, classes: tuple[str, ...]) -> None:
    for stale in set(dataset) - _OF_ANY_SET:
        del dataset[stale]
    dataset.update(
        type="mmdet.CocoDataset",
        data_root="",
        ann_file=str(chosen.annotations.resolve()),
        data_prefix=dict(img=str(chosen.images.resolve())),
        metainfo=dict(classes=classes),
    )


def _replace_num_classes(node: Any, before: int, after: int) -> None:
    """Heads that told the old classes apart tell the new ones."""
    if isinstance(node, Mapping):
        if node.get("num_classes") == before:
            node["num_classes"] = after  # type: ignore[index]
        for value in node.values():
            _replace_num_classes(value, before, after)
    elif isinstance(node, list | tuple):
        for value in node:
            _replace_num_classes(value, before, after)
