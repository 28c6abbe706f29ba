"""Filling of a cache: all pictures of a config are enhanced on one device before a detector is trained or tested."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llie_preproc  # noqa: F401  before mmdet: it provides a stand-in for mmcv's operators if those are not compiled

# isort: split
import cv2
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from llie_preproc.config_doors import refuse_second_door
from llie_preproc.config_nodes import nodes, type_name
from llie_preproc.detection import Enhance
from llie_preproc.detection.coco_sets import check_set
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import why_failed
from llie_preproc.work_sharing import Ranks, alone

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# Transforms that give the same picture each time. Entries made after other transforms would never be found again.
_FIXED = ("Resize", "FixScaleResize", "Pad", "RestoreScaleFactor", "Photograph")


@dataclass
class CacheReport:
    """Result of :func:`fill_cache`.

    Attributes:
        found: Number of pictures that the cache had already.
        made: Number of pictures that were enhanced.
        seconds: Wall-clock time, which includes reading.
        failed: Message for each picture that could not be read or enhanced.
    """

    found: int = 0
    made: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)


def fill_cache(cfg: Config, device: str = "cpu", ranks: Ranks | None = None, progress: bool = True) -> CacheReport:
    """Fill the caches of a config's ``Enhance`` transforms with the entries that its data loaders will look for.

    Datasets inside others (``MultiImageMixDataset``, ``ConcatDataset``, ``RepeatDataset``) are found too.

    Args:
        cfg: MMDetection config; it is not changed.
        device: Device that the networks run on. It is not part of an entry's key, so workers on the CPU find what a GPU
            made. Results of two devices may differ by rounding.
        ranks: Processes that share the pictures; None for this process alone. The report is about the share of this
            process.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: No ``Enhance`` has a ``cache_dir``, one comes after a transform that does not give the same picture
            each time, or the config also enhances in another place (its detector or data preprocessor).
        FileNotFoundError: An annotation file is missing.
    """
    register_all_modules(init_default_scope=False)
    init_default_scope(cfg.get("default_scope") or "mmdet")
    name = cfg.filename or "the config"
    refuse_second_door(cfg, name)
    report, start = CacheReport(), time.perf_counter()
    work = _unique(each for name in _LOADERS for each in _cached_datasets((cfg.get(name) or {}).get("dataset")))
    if not work:
        raise ValueError(f"{name} has no Enhance with cache_dir in the pipelines of {', '.join(_LOADERS)}")
    for dataset, _ in work:
        check_set(dataset)
    for dataset, position in work:
        _fill(dataset, position, device, ranks or alone(), report, progress)
    report.seconds = time.perf_counter() - start
    return report


def _cached_datasets(dataset: Mapping[str, Any] | None) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield each dataset that enhances with a cache, and the place of that ``Enhance`` in its pipeline."""
    for node in nodes(dataset):
        pipeline = node.get("pipeline") or ()
        for position in (number for number, transform in enumerate(pipeline) if _caches(transform)):
            if "dataset" in node or "datasets" in node:
                raise ValueError(
                    f"{type_name(node)}: an Enhance with cache_dir must stand in the pipeline of the dataset inside"
                )
            for before in pipeline[:position]:
                _require_fixed(before)
            yield node, position


def _caches(transform: Any) -> bool:
    if not isinstance(transform, Mapping) or not transform.get("cache_dir"):
        return False
    return type_name(transform) in (Enhance.__name__, *enhancer_classes())


def _require_fixed(transform: Any) -> None:
    name = type_name(transform)
    # A gamma that is not drawn is fixed too.
    fixed = name in _FIXED or (name == "GammaShift" and isinstance(transform["gamma"], int | float))
    if not (name.startswith("Load") or fixed or _caches(transform)):
        raise ValueError(
            f"{name} stands before an Enhance with cache_dir, so that no cached picture is found again: place the "
            "Enhance right after loading"
        )


def _unique(work: Iterator[tuple[Mapping[str, Any], int]]) -> list[tuple[Mapping[str, Any], int]]:
    """Drop repetitions, because the test set is often the validation set."""
    found: list[tuple[Mapping[str, Any], int]] = []
    for each in work:
        if each not in found:
            found.append(each)
    return found


def _fill(
    config: Mapping[str, Any], position: int, device: str, ranks: Ranks, report: CacheReport, progress: bool
) -> None:
    enhance = TRANSFORMS.build(config["pipeline"][position]).to(device)
    dataset = DATASETS.build({**config, "pipeline": []})
    load = Compose(config["pipeline"][:position])
    name = Path(config.get("ann_file") or type_name(config)).stem
    share = list(ranks.share(range(len(dataset))))
    for index in tqdm(share, desc=f"enhancing ({name})", unit="image", disable=not progress):
        entry = dataset.get_data_info(index)
        try:
            made = enhance.fill(load(entry))
        # MMCV's loader raises AssertionError for a file that does not decode.
        except (OSError, ValueError, TypeError, AssertionError, cv2.error) as error:
            name = entry.get("img_path", index)
            report.failed.append(f"{name}: {why_failed(name, error)}")
            continue
        report.made += made
        report.found += not made
