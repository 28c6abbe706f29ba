"""Reading a detector's config, and exchanging the sets that it trains and tests on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from ..checkpoints import local_file
from ..class_mapping_files import Mapped, read_mapping
from ..class_names import match_classes
from ..coco_json import read_annotations, require_pictures
from ..config_doors import find_enhancement
from ..config_files import read_config_file
from ..config_nodes import nodes, type_name
from ..files import real_path
from ..mm.runner_parts import read_checkpoint
from ..registry import DATASETS as OURS

DATASET, METRIC = "llie_preproc.NameMatchedCocoDataset", "llie_preproc.NameMatchedCocoMetric"
_BY_NAME = ("CocoDataset", "NameMatchedCocoDataset")
_MATCHING = ("NameMatchedCocoMetric", "CocoIntervalMetric", "VisDroneMetric")

# A dataset's config keeps these keys when another set takes its place; all other keys belong to its data.
_OF_ANY_SET = {"type", "_scope_", "pipeline", "filter_cfg", "test_mode", "backend_args", "max_refetch"}


@dataclass(frozen=True)
class CocoSet:
    """A set to train or test on.

    Attributes:
        annotations: COCO annotation file.
        images: Folder that the file names in ``annotations`` are relative to.

    Examples:
        >>> CocoSet(Path("night/val.json"), Path("night/images")).images.name
        'images'
    """

    annotations: Path
    images: Path

    @classmethod
    def given(cls, pair: Sequence[str] | None) -> CocoSet | None:
        """Make the set of a command line's pair ``ANNOTATIONS IMAGES``; None stays None.

        Raises:
            ValueError: The pair is a folder and then a file.

        Examples:
            >>> CocoSet.given(["val.json", "images"]).annotations.name
            'val.json'
        """
        if pair is None:
            return None
        annotations, images = map(Path, pair)
        if annotations.is_dir() and images.is_file():
            raise ValueError(
                f"{annotations} {images}: expected a COCO file and then its folder of pictures, got the folder first"
            )
        return cls(annotations, images)


def read_config(name: str, options: Mapping[str, Any]) -> Config:
    """Read the config of a detector without an enhancer.

    Args:
        name: Path of a file, or name of one of MMDetection's own configs, such as
            ``mmdet::retinanet/retinanet_r18_fpn_1x_coco.py``.
        options: Keys and values that replace those of the config.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file cannot be read as a config, or it lacks the detector or a set, or it has an enhancer.
    """
    cfg = read_config_file(name, options)
    check_detector_config(name, cfg, ("train_dataloader", "train_cfg", "optim_wrapper", "test_dataloader", "test_cfg"))
    if found := find_enhancement(cfg):
        raise ValueError(f"{name} enhances already ({found}): compare takes the plain config and --enhancer")
    return cfg


def check_detector_config(name: str, cfg: Config, needed: Sequence[str]) -> None:
    """Raise ``ValueError`` if a config lacks its detector, one of the keys in ``needed``, or a loader's dataset.

    Examples:
        >>> check_detector_config("plain.py", Config(dict(model=dict(type="RetinaNet"))), ["test_cfg"])
        Traceback (most recent call last):
        ValueError: plain.py has no test_cfg: it must be the config of an MMDetection detector
    """
    for key in ("model", *needed):
        if not isinstance(cfg.get(key), Mapping):
            raise ValueError(f"{name} has no {key}: it must be the config of an MMDetection detector")
    for loader in (key for key in needed if key.endswith("_dataloader")):
        if not isinstance(cfg[loader].get("dataset"), Mapping):
            raise ValueError(f"{name}: {loader} has no dataset, a dict with 'type'")


def use_sets(
    cfg: Config,
    train: CocoSet | None,
    test: CocoSet | None,
    classes: Sequence[str] | None = None,
    trains: bool = True,
    mapping: Mapped | None = None,
) -> Config:
    """Copy ``cfg`` with other sets to train and test on: their data, their classes and the detector's ``num_classes``.

    Annotated classes are matched to the detector's by name, in the sets of ``cfg`` too; their order in the files does
    not matter. The test set of a detector that is not trained may have other classes than the detector, as long as they
    share one. If the config joins several sets, the new set uses the pipeline of the first one.

    Args:
        cfg: Config of the detector; it is not changed.
        train: Set to train on; None keeps that of ``cfg``.
        test: Set to test and validate on; None keeps those of ``cfg``.
        classes: Names of the detector's classes in the order of its labels; None takes those of the training set.
        trains: Whether the config will be used to train; if not, its own training set may have other classes.
        mapping: Mapping from the detector's classes to those of the test set
            (:func:`llie_preproc.class_names.match_classes`).

    Raises:
        FileNotFoundError: An annotation file or a folder does not exist.
        ValueError: Annotations are damaged. Or the config is for training, no mapping is given, and a set has a class
            that the detector does not know. Or the test set and the detector share no class. The message names the
            classes.
    """
    cfg = copy.deepcopy(cfg)
    before = dataset_classes(inner_datasets(cfg.train_dataloader.dataset)[0])
    if classes is None:
        classes = before if train is None else set_classes(train)
    chosen = {"train_dataloader": train, "val_dataloader": test, "test_dataloader": test}
    if train is not None:
        match_classes(classes, set_classes(train), str(train.annotations)).require_labels(str(train.annotations))
    if test is not None:
        match = match_classes(classes, set_classes(test), str(test.annotations), mapping)
        if trains and not mapping:
            match.require_known(str(test.annotations))
    for loader, each in chosen.items():
        own = None if loader == "train_dataloader" else mapping or {}
        if cfg.get(loader) and each is not None:
            _replace(_only_first(cfg[loader]), each, tuple(classes), own)
        elif cfg.get(loader) and (trains or own is not None):
            for dataset in inner_datasets(cfg[loader].dataset):
                _match_by_name(dataset, before, tuple(classes), f"the {loader} of the config", own)
    if test is not None:
        cfg.test_evaluator = dict(type=METRIC, ann_file=str(real_path(test.annotations)), metric="bbox")
    for key in ("val_evaluator", "test_evaluator"):
        given = cfg.get(key) or []
        for metric in given if isinstance(given, list | tuple) else [given]:
            if type_name(metric) == "CocoMetric":
                metric.update(type=METRIC)
            if mapping and type_name(metric) in _MATCHING:
                metric["classes"] = dict(mapping)
    # Every head that had as many outputs as there were classes gets as many as there are now.
    for node in nodes(cfg.model):
        if node.get("num_classes") == len(before):
            node["num_classes"] = len(classes)
    return cfg


def set_classes(chosen: CocoSet) -> tuple[str, ...]:
    """Names of the classes of a set, in the order of its file, after a check of the whole file.

    Raises:
        FileNotFoundError: The file or the folder does not exist.
        ValueError: The annotations are damaged (:mod:`llie_preproc.coco_json`).
    """
    if not chosen.images.is_dir():
        raise FileNotFoundError(f"no folder {chosen.images}")
    return _checked_classes(chosen.annotations)


def _checked_classes(path: Path) -> tuple[str, ...]:
    """Names of the classes of an annotation file that MMDetection will read, in the order of the file."""
    stat = path.stat()
    return _read_classes(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read_classes(path: Path, changed: int, size: int) -> tuple[str, ...]:
    # The time and the size of the file are arguments so that a file that has changed is read again.
    truth = read_annotations(path)
    require_pictures(truth, str(path))
    return tuple(category["name"] for category in truth["categories"])


def _match_by_name(
    dataset: Any, before: tuple[str, ...], classes: tuple[str, ...], source: str, mapping: Mapped | None
) -> None:
    """Let one of the config's own sets find the detector's labels by name, and check its annotation file.

    Args:
        dataset: Config of the set, which is changed.
        before: Names of the config's classes.
        classes: Names of the detector's classes.
        source: Name of the set in messages.
        mapping: Mapping to the classes of a set to test on, which may be empty; None for a set to train on.
    """
    own, kind = dataset_classes(dataset), type_name(dataset)
    if kind not in _BY_NAME and (mapping or (own and classes != before and set(own) != set(classes))):
        raise ValueError(f"{source}: {kind} cannot match its {len(own)} classes to the detector's: give a COCO set")
    if own and classes != before:
        if mapping is None:
            match_classes(classes, own, source).require_labels(source)
        dataset["metainfo"] = dict(dataset.get("metainfo") or {}, classes=classes)
    if kind == "CocoDataset":
        dataset["type"] = DATASET
    if mapping:
        dataset["classes"] = dict(mapping)
    file, named = _coco_file(dataset), dataset_classes(dataset)
    if file is None:
        return
    annotated = _checked_classes(file)
    if named:
        match = match_classes(named, annotated, str(file), mapping or read_mapping(dataset.get("classes")))
        if mapping is None:
            match.require_labels(str(file), whole=False)
    if kind not in _BY_NAME and named and list(named) != [name for name in annotated if name in set(named)]:
        raise ValueError(
            f"{file}: {kind} numbers classes in the order of this file, which is not that of the config: reorder them, "
            f"or change the type of the set to CocoDataset"
        )


def check_set(dataset: Mapping[str, Any]) -> None:
    """Check the annotation file of a ``CocoDataset``'s config, because pycocotools does not.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged (:mod:`llie_preproc.coco_json`).
    """
    if (file := _coco_file(dataset)) is not None:
        _checked_classes(file)


def require_training_set(cfg: Config) -> None:
    """Raise ``FileNotFoundError`` if a local annotation file of the config's own training set does not exist."""
    for dataset in inner_datasets(cfg.train_dataloader.dataset):
        file = _annotation_file(dataset)
        if file is not None and not file.exists():
            raise FileNotFoundError(
                f"{file}: no such file. It is the training set of the config: --train names another one, and "
                "--detector-checkpoint names the weights of a detector that is not to be trained"
            )


def _annotation_file(dataset: Any) -> Path | None:
    """The local path of a set's annotations; None if the set names none, or if they are not local."""
    named = dataset.get("ann_file") and not dataset.get("backend_args")
    return Path(dataset.get("data_root") or "", dataset["ann_file"]) if named else None


def _coco_file(dataset: Any) -> Path | None:
    """The local annotation file of a set in COCO's format; None for other sets, and if there is no such file."""
    file = _annotation_file(dataset)
    return file if file is not None and file.exists() and _reads_coco(dataset) else None


def _reads_coco(dataset: Any) -> bool:
    """Whether a set is MMDetection's ``CocoDataset`` or a subclass of it that reads the same annotation format."""
    kind = dataset["type"]
    kind = (DATASETS.get(kind) or OURS.get(kind)) if isinstance(kind, str) else kind
    made_from = isinstance(kind, type) and issubclass(kind, CocoDataset)
    return made_from and getattr(kind, "COCOAPI", None) is CocoDataset.COCOAPI


def checkpoint_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes that a checkpoint records for its detector, in the order of its labels; empty if none.

    Examples:
        >>> checkpoint_classes({"meta": {"dataset_meta": {"classes": ("car", "bus")}}})
        ('car', 'bus')
    """
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    named = meta.get("dataset_meta")
    named = {str(key).lower(): value for key, value in named.items()} if isinstance(named, Mapping) else {}
    classes = named.get("classes") or meta.get("CLASSES") or ()
    names = (classes,) if isinstance(classes, str) else classes
    return tuple(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()


def starting_classes(cfg: Config, train: CocoSet | None) -> tuple[str, ...] | None:
    """Names of the classes of a training that starts from the checkpoint ``cfg.load_from``, if any.

    They are the classes of the training set. If the checkpoint has the same classes in another order, its order is
    kept, because its last layers number them so.

    Raises:
        FileNotFoundError: The annotations, the pictures or the checkpoint do not exist.
        ValueError: The annotations are damaged.
        CheckpointError: The checkpoint is damaged or unsafe.
    """
    names = dataset_classes(inner_datasets(cfg.train_dataloader.dataset)[0]) if train is None else set_classes(train)
    source = str(cfg.get("load_from") or "")
    # A URL without a digest is not read here. It is refused later, when it is loaded.
    readable = source and ("://" not in source or "#sha256=" in source)
    start = checkpoint_classes(read_checkpoint(local_file(source))) if readable else ()
    return start if sorted(start) == sorted(names) else names


def inner_datasets(dataset: Any) -> list[Any]:
    """List the datasets inside wrappers such as ``MultiImageMixDataset`` and ``ConcatDataset``.

    Examples:
        >>> inner_datasets(dict(type="ConcatDataset", datasets=[dict(type="CocoDataset")]))
        [{'type': 'CocoDataset'}]
        >>> inner_datasets(dict(type="CocoDataset"))
        [{'type': 'CocoDataset'}]
    """
    inside = [dataset["dataset"]] if "dataset" in dataset else dataset.get("datasets", ())
    return [found for each in inside for found in inner_datasets(each)] or [dataset]


def dataset_classes(dataset: Mapping) -> tuple[str, ...]:
    """Names of the classes of a dataset's config, or else of its type.

    Examples:
        >>> dataset_classes(dict(type="CocoDataset", metainfo=dict(classes=("car", "bus"))))
        ('car', 'bus')
        >>> len(dataset_classes(dict(type="CocoDataset")))
        80
    """
    given = (dataset.get("metainfo") or {}).get("classes")
    if given is None:
        kind = DATASETS.get(dataset["type"]) if isinstance(dataset["type"], str) else dataset["type"]
        given = getattr(kind, "METAINFO", {}).get("classes", ())
    return (given,) if isinstance(given, str) else tuple(given)


def _only_first(node: Any) -> Any:
    """Replace joined sets by the first of them, inside wrappers too, and return it."""
    while "dataset" in node:
        while "datasets" in node["dataset"]:
            node["dataset"] = node["dataset"]["datasets"][0]
        node = node["dataset"]
    return node


def _replace(dataset: Any, chosen: CocoSet, classes: tuple[str, ...], mapping: Mapped | None) -> None:
    for stale in set(dataset) - _OF_ANY_SET:
        del dataset[stale]
    dataset.update(
        type=DATASET,
        data_root="",
        ann_file=str(real_path(chosen.annotations)),
        data_prefix=dict(img=str(real_path(chosen.images))),
        metainfo=dict(classes=classes),
    )
    if mapping:
        dataset["classes"] = dict(mapping)
