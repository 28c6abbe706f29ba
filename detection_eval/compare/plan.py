"""The plan of a comparison: its cells, what they share, and whether a folder may be gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from llie_preproc import InferenceOptions, build_enhancer
from llie_preproc.commands.program import say
from llie_preproc.config_nodes import type_name
from llie_preproc.detection.coco_sets import dataset_classes, inner_datasets
from llie_preproc.files import file_sha256
from llie_preproc.work_sharing import Ranks, alone

from ..metrics.detection_table import DETECTION_METRICS
from ..metrics.detections import read_truth
from ..shared.enhancers import NONE, Spec, network_config
from ..shared.provenance import command_line, versions
from ..shared.resume import as_read, differing, require_resume
from .comparison_store import CELLS, JOINT, MODES, RAW, ZERO_SHOT, Cell, Comparison
from .truth import ground_truth

_PACKAGES = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "numpy")
_SHOWN = 5
# What may differ when a comparison is gone on with.
_OF_THE_CALL = {"command", "versions", "device", "cells", "enhancers", "resamples", "bootstrap_seed", "metrics"}


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        config: Name of the detector's config, for the record.
        plain: That config (:func:`detection_eval.compare.cell_configs.read_config`), without any enhancer.
        specs: The enhancers by label (:func:`detection_eval.shared.enhancers.enhancer_specs`).
        modes: Out of :data:`detection_eval.compare.comparison_store.MODES`; ``zero-shot`` brings ``raw`` with it.
        seeds: Of the trainings.
        folder: Folder where everything goes.
        options: How the enhancers are run.
        resume: Keep the finished cells of an earlier run in the folder, and do the others.
        detector: Checkpoint of a trained detector to evaluate as it is; None: cells train.
        metrics: Names out of :data:`detection_eval.metrics.detection_table.DETECTION_METRICS`.
        resamples, bootstrap_seed: Of the bootstrap over images.
        enhancer_lr_mult: Joint mode: the enhancer's learning rate, as a multiple of the detector's.
        amp: Train in mixed precision.
        device: Where enhancers run ahead of the data loaders.
        ranks: The processes that share the work, which have met already.
        share: What they share: ``'cells'``, each trained and evaluated by one process as if it were alone, or the
            ``'batches'`` of each cell, whose trainings are then distributed ones; for those MMEngine's processes have
            joined already.
    """

    config: str
    plain: Config
    specs: Mapping[str, Spec]
    modes: Sequence[str]
    seeds: Sequence[int]
    folder: Path
    options: InferenceOptions = InferenceOptions()  # noqa: RUF009  (it is frozen)
    resume: bool = False
    detector: Path | None = None
    metrics: Sequence[str] = ("coco",)
    resamples: int = 1000
    bootstrap_seed: int = 0
    enhancer_lr_mult: float = 0.1
    amp: bool = False
    device: str = "cpu"
    ranks: Ranks = field(default_factory=alone)
    share: str = CELLS
    command: str = field(default_factory=command_line)

    @property
    def over_cells(self) -> Ranks:
        """The processes that have cells of their own."""
        return self.ranks if self.share == CELLS else alone()

    @property
    def in_cell(self) -> Ranks:
        """The processes that work on one cell together."""
        return alone() if self.share == CELLS else self.ranks

    @property
    def distributed(self) -> bool:
        """Whether MMEngine runs a cell in several processes."""
        return self.in_cell.size > 1


def begin(request: Request) -> Comparison:
    """The comparison in the request's folder: the cells that are asked for, and the finished ones of earlier calls.

    Raises:
        FileNotFoundError: Annotations or pictures of the test set are missing.
        ValueError: The folder holds a comparison that is not to be gone on with, or that differs in more than its
            cells; a metric needs annotations that the test set does not have; the config's schedule cannot be kept to;
            or processes find other files.
    """
    plain, specs, folder = request.plain, request.specs, request.folder
    earlier = Comparison.earlier(folder)
    require_resume(folder, earlier is not None, request.resume)
    if request.detector is None:
        _check_schedule(plain, request.modes)
    truth, image_root = ground_truth(plain)
    _say_left_out(request, [category["name"] for category in truth["categories"]])
    for metric in request.metrics:
        # Says now what the metric misses in the annotations.
        DETECTION_METRICS[metric].scores(truth, [])
    cells = _cells(request)
    if earlier:
        cells += [cell for cell in earlier.cells if cell not in cells and earlier.result(cell) is not None]
        specs = {**earlier.plan["enhancers"], **specs}
    plan = dict(
        config=request.config,
        config_sha256=_digest(plain.pretty_text),
        truth_sha256=_digest(json.dumps(truth, sort_keys=True)),
        detector_sha256=file_sha256(request.detector) if request.detector else None,
        train_sha256=_train_digests(plain) if request.detector is None else None,
        image_root=str(image_root),
        classes=[category["name"] for category in truth["categories"]],
        enhancers={label: dict(spec) for label, spec in specs.items()},
        amp=request.amp,
        enhancer_lr_mult=request.enhancer_lr_mult,
        processes=request.in_cell.size,
        budget=_budget(plain) if request.detector is None else None,
        metrics=list(request.metrics),
        resamples=request.resamples,
        bootstrap_seed=request.bootstrap_seed,
        cells=[[cell.enhancer, cell.mode, cell.seed] for cell in sorted(cells, key=_order(cells))],
        command=request.command,
        versions=versions(_PACKAGES),
        device=request.device,
    )
    plan = as_read(plan)
    if earlier:
        _check_same(earlier, plan)
    # Nobody writes before all have read what is there.
    request.ranks.require_same("the plan of the comparison", _digest(json.dumps(plan)))
    if request.ranks.main:
        Comparison.begin(folder, plan, truth)
    request.ranks.barrier()
    return Comparison(folder)


def _say_left_out(request: Request, scored: Sequence[str]) -> None:
    known = dataset_classes(inner_datasets(request.plain.test_dataloader.dataset)[0])
    unseen = [name for name in known if name not in set(scored)]
    if unseen and request.ranks.main:
        say(
            f"left out of the scores: {len(unseen)} of the detector's {len(known)} classes, which the test set does "
            f"not have ({', '.join(unseen[:_SHOWN])}{' ...' if len(unseen) > _SHOWN else ''})"
        )


def _cells(request: Request) -> list[Cell]:
    """What is to be evaluated.

    Raises:
        ValueError: Nothing is, because no enhancer can be trained in the modes asked for.
    """
    cells = []
    for seed in request.seeds:
        # Zero-shot evaluates the detector of raw pictures.
        if {RAW, ZERO_SHOT} & set(request.modes):
            cells.append(Cell(NONE, RAW, seed))
        for label in request.specs:
            cells += [Cell(label, mode, seed) for mode in MODES if mode in request.modes and mode != RAW]
    specs = request.specs if JOINT in request.modes else {}
    reasons = {label: build_enhancer(network_config(spec)).training_refusal for label, spec in specs.items()}
    refused = {label: f"{label}, joint ({reason})" for label, reason in reasons.items() if reason}
    cells = [cell for cell in cells if cell.mode != JOINT or cell.enhancer not in refused]
    if not cells:
        left_out = f": {'; '.join(refused.values())}" if refused else ""
        raise ValueError(f"nothing is left to compare in modes {', '.join(request.modes)}{left_out}")
    if refused and request.ranks.main:
        say(f"left out: {'; '.join(refused.values())}")
    return cells


def _order(cells: Sequence[Cell]) -> Callable[[Cell], tuple]:
    labels = list(dict.fromkeys(cell.enhancer for cell in cells))
    return lambda cell: (cell.enhancer != NONE, labels.index(cell.enhancer), MODES.index(cell.mode), cell.seed)


def _check_schedule(plain: Config, modes: Sequence[str]) -> None:
    """Refuse what would give another budget than the config's, or not the same one in every mode."""
    schedulers = plain.get("param_scheduler") or []
    for each in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
        if "ReduceOnPlateau" in type_name(each):
            raise ValueError(f"{type_name(each)} follows the validation, and nothing is validated while a cell trains")
    constructor = plain.optim_wrapper.get("constructor") or "DefaultOptimWrapperConstructor"
    if JOINT in modes and type_name({"type": constructor}) != "DefaultOptimWrapperConstructor":
        raise ValueError(
            f"mode joint: {type_name({'type': constructor})} goes by the detector's own parameter names, and has no "
            "learning rate for the enhancer; leave joint out, or the constructor"
        )


def _train_files(plain: Config) -> list[Path]:
    """Where the annotations of the training sets are; not every format has a file."""
    sets = inner_datasets(plain.train_dataloader.dataset)
    return [Path(each.get("data_root") or "", each.get("ann_file") or "") for each in sets]


def _train_digests(plain: Config) -> list[str]:
    return [file_sha256(path) for path in _train_files(plain) if path.is_file()]


def _budget(plain: Config) -> dict[str, Any]:
    files = _train_files(plain)
    return dict(
        train_cfg={key: value for key, value in plain.train_cfg.to_dict().items() if key != "val_interval"},
        batch_size=plain.train_dataloader.get("batch_size"),
        optimizer=plain.optim_wrapper.get("optimizer", {}).get("type"),
        train_set=", ".join(map(str, files)),
        train_images=_images(files),
    )


def _images(files: Sequence[Path]) -> int | None:
    """How many pictures COCO files have; None where one is of another format."""
    if any(path.suffix != ".json" for path in files):
        return None
    return sum(len(read_truth(path)["images"]) for path in files)


def _check_same(earlier: Comparison, plan: Mapping[str, Any]) -> None:
    # An earlier version's plan may lack a key.
    keys = [key for key in plan if key not in _OF_THE_CALL and key in earlier.plan]
    both = [label for label in plan["enhancers"] if label in earlier.plan["enhancers"]]
    old, new = (
        {**{key: each[key] for key in keys}, "enhancer": {label: each["enhancers"][label] for label in both}}
        for each in (earlier.plan, plan)
    )
    if changed := differing(old, new):
        raise ValueError(
            f"{earlier.folder} holds another comparison, which differs in {', '.join(changed)}: choose another --out"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
