"""The plan of a comparison: its cells, their common settings, and the check whether a folder can be continued."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from llie_preproc import InferenceOptions, build_enhancer
from llie_preproc.commands.program import say
from llie_preproc.config_nodes import type_name
from llie_preproc.detection.coco_sets import inner_datasets
from llie_preproc.files import file_sha256
from llie_preproc.work_sharing import Ranks, alone

from ..metrics.detection_table import DETECTION_METRICS
from ..metrics.detections import read_truth
from ..shared.enhancers import NONE, Spec, network_config
from ..shared.provenance import command_line, versions
from ..shared.resume import as_read, differing, digests_of, require_resume
from .comparison_store import CELLS, JOINT, MODES, PHOTOGRAPHS, RAW, ZERO_SHOT, Cell, Comparison
from .light_axis import LightAxis, plan_of
from .truth import ground_truth

_PACKAGES = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "numpy")
# Keys of a plan that can differ when a comparison is continued.
_OF_THE_CALL = {"command", "versions", "device", "cells", "enhancers", "resamples", "bootstrap_seed", "metrics"}


@dataclass(frozen=True)
class Request:
    """Settings of a comparison.

    Attributes:
        config: Name of the detector's config, for the plan.
        plain: Config of the detector (:func:`llie_preproc.detection.coco_sets.read_config`), without any enhancer.
        specs: Descriptions of the enhancers by label (:func:`detection_eval.shared.enhancers.enhancer_specs`).
        modes: Modes out of :data:`detection_eval.compare.comparison_store.MODES`; ``zero-shot`` adds ``raw``.
        seeds: Seeds of the trainings.
        folder: Folder for all results.
        options: Options that the enhancers run with.
        resume: Whether to keep the finished cells of an earlier run in the folder, and to run only the others.
        detector: Checkpoint of a trained detector, which is only evaluated; None to train the detectors.
        metrics: Names out of :data:`detection_eval.metrics.detection_table.DETECTION_METRICS`.
        resamples, bootstrap_seed: Number of resamples, and seed, of the bootstrap over images.
        enhancer_lr_mult: Learning rate of the enhancer in mode joint, as a multiple of the detector's.
        amp: Whether to train in mixed precision.
        device: Device on which pictures are enhanced before the data loaders read them.
        ranks: Processes that share the work, which have joined already.
        share: Work that the processes share. With ``'cells'`` one process trains and evaluates a cell as if it were
            alone. With ``'batches'`` all processes train each cell together, and must be connected already
            (:func:`llie_preproc.mm.runner_parts.join_processes`).
        axis: Axis of light along which the test set is measured; None to measure it only as it is.
        lights: Places on the axis; empty without an axis. If detectors are trained, the place of the pictures as they
            are must be among them.
        photographs: Folder that keeps the pictures that are photographed again; None for one in ``folder``.
        command: Command line, for the plan.
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
    axis: LightAxis | None = None
    lights: Sequence[float] = ()
    photographs: Path | None = None
    command: str = field(default_factory=command_line)

    @property
    def photographs_dir(self) -> Path:
        """Folder that keeps the pictures that are photographed again."""
        return self.photographs or self.folder / PHOTOGRAPHS

    @property
    def over_cells(self) -> Ranks:
        """Processes that divide the cells among them."""
        return self.ranks if self.share == CELLS else alone()

    @property
    def in_cell(self) -> Ranks:
        """Processes that work on one cell together."""
        return alone() if self.share == CELLS else self.ranks

    @property
    def distributed(self) -> bool:
        """Whether MMEngine runs a cell in several processes."""
        return self.in_cell.size > 1


def begin(request: Request) -> Comparison:
    """Write the plan of a comparison: the requested cells, and the finished cells of earlier runs in its folder.

    Raises:
        FileNotFoundError: Annotations or pictures of the test set are missing.
        ValueError: The folder holds a comparison and ``resume`` is false; that comparison cannot be continued with
            these settings; the folder holds cells but no plan; no cell is left to run; a metric needs annotations that
            the test set lacks; the schedule of the config does not suit a comparison; or the processes find different
            files.
    """
    plain, specs, folder = request.plain, request.specs, request.folder
    earlier = Comparison.earlier(folder)
    require_resume(folder, earlier is not None or Comparison.is_orphaned(folder), request.resume)
    if Comparison.is_orphaned(folder):
        raise ValueError(f"{folder} holds cells but no plan: remove the folder, or choose another --out")
    if request.detector is None:
        _check_schedule(plain, request.modes)
    truth, image_root, match = ground_truth(plain)
    for note in [*match.notes, *match.ignored_note] if request.ranks.main else ():
        say(note)
    for metric in request.metrics:
        # If the annotations lack something that the metric needs, this is an error before any training.
        DETECTION_METRICS[metric].scores(truth, [])
    cells = _cells(request)
    if earlier:
        cells += [cell for cell in earlier.cells if cell not in cells and earlier.result(cell) is not None]
        specs = {**earlier.plan["enhancers"], **specs}
    plan = dict(
        config=request.config,
        config_sha256=_digest(plain.pretty_text),
        truth_sha256=_digest(json.dumps(truth, sort_keys=True)),
        pictures_sha256=_pictures_digest(request.ranks, image_root, truth),
        detector_sha256=file_sha256(request.detector) if request.detector else None,
        train_sha256=_train_digests(plain) if request.detector is None else None,
        image_root=str(image_root),
        classes=[category["name"] for category in truth["categories"]],
        found_as=match.found_as,
        class_notes=match.notes,
        enhancers={label: dict(spec) for label, spec in specs.items()},
        amp=request.amp,
        enhancer_lr_mult=request.enhancer_lr_mult,
        light=plan_of(request.axis),
        processes=request.in_cell.size,
        budget=_budget(plain) if request.detector is None else None,
        metrics=list(request.metrics),
        resamples=request.resamples,
        bootstrap_seed=request.bootstrap_seed,
        cells=[cell.entry for cell in sorted(cells, key=_order(cells, request.axis))],
        command=request.command,
        versions=versions(_PACKAGES),
        device=request.device,
    )
    plan = as_read(plan)
    if earlier:
        _check_same(earlier, plan)
    # The main process writes only after all processes have read the folder.
    request.ranks.require_same("the plan of the comparison", _digest(json.dumps(plan)))
    if request.ranks.main:
        Comparison.begin(folder, plan, truth)
    request.ranks.barrier()
    return Comparison(folder)


def _cells(request: Request) -> list[Cell]:
    """List the cells to evaluate.

    Raises:
        ValueError: There is none, because no enhancer can be trained in the requested modes.
    """
    cells = []
    for light, seed in itertools.product(request.lights or (None,), request.seeds):
        # Zero-shot evaluates the detector that is trained on raw pictures.
        if {RAW, ZERO_SHOT} & set(request.modes):
            cells.append(Cell(NONE, RAW, seed, light))
        for label in request.specs:
            cells += [Cell(label, mode, seed, light) for mode in MODES if mode in request.modes and mode != RAW]
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


def _order(cells: Sequence[Cell], axis: LightAxis | None) -> Callable[[Cell], tuple]:
    labels = list(dict.fromkeys(cell.enhancer for cell in cells))

    def key(cell: Cell) -> tuple:
        place = 0.0 if axis is None or cell.light is None else axis.place(cell.light)
        return place, cell.enhancer != NONE, labels.index(cell.enhancer), MODES.index(cell.mode), cell.seed

    return key


def _check_schedule(plain: Config, modes: Sequence[str]) -> None:
    """Refuse a schedule that needs validation or, in mode joint, has no learning rate for the enhancer."""
    schedulers = plain.get("param_scheduler") or []
    for each in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
        if "ReduceOnPlateau" in type_name(each):
            raise ValueError(f"{type_name(each)} needs validation scores, but nothing is validated while a cell trains")
    constructor = plain.optim_wrapper.get("constructor") or "DefaultOptimWrapperConstructor"
    if JOINT in modes and type_name({"type": constructor}) != "DefaultOptimWrapperConstructor":
        raise ValueError(
            f"mode joint: {type_name({'type': constructor})} chooses learning rates by the detector's parameter names, "
            "and has none for the enhancer: leave out joint or the constructor"
        )


def _train_files(plain: Config) -> list[Path]:
    """Return the paths of the training sets' annotations, which may be missing for formats without a file."""
    sets = inner_datasets(plain.train_dataloader.dataset)
    return [Path(each.get("data_root") or "", each.get("ann_file") or "") for each in sets]


def _train_digests(plain: Config) -> list[str]:
    return [file_sha256(path) for path in _train_files(plain) if path.is_file()]


def _pictures_digest(ranks: Ranks, root: Path, truth: Mapping[str, Any]) -> str:
    """Return a digest of the test pictures, which the main process reads."""
    if not ranks.main:
        return ranks.broadcast("")
    digests, failed = digests_of({image["file_name"]: root / image["file_name"] for image in truth["images"]})
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(truth['images'])} test pictures cannot be read: {min(failed.values())}"
        )
    return ranks.broadcast(_digest(json.dumps(digests, sort_keys=True)))


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
    """Count the pictures of COCO files; None if a file has another format."""
    if any(path.suffix != ".json" for path in files):
        return None
    return sum(len(read_truth(path)["images"]) for path in files)


def _check_same(earlier: Comparison, plan: Mapping[str, Any]) -> None:
    was, now = (None if light is None else light["kind"] for light in (earlier.plan.get("light"), plan["light"]))
    if None in (was, now) and was != now:
        raise ValueError(
            f"{earlier.folder} holds another comparison, {f'with --{was}' if was else 'of the pictures as they are'}, "
            f"and this one is {f'with --{now}' if now else 'of the pictures as they are'}: choose another --out"
        )
    # A plan of an earlier version may lack keys, which are not compared. If it lacks ``light``, it has no axis.
    keys = [key for key in plan if key not in _OF_THE_CALL and (key in earlier.plan or key == "light")]
    both = [label for label in plan["enhancers"] if label in earlier.plan["enhancers"]]
    old, new = (
        {**{key: each.get(key) for key in keys}, "enhancer": {label: each["enhancers"][label] for label in both}}
        for each in (earlier.plan, plan)
    )
    if changed := differing(old, new):
        raise ValueError(
            f"{earlier.folder} holds another comparison, which differs in {', '.join(changed)}: choose another --out"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
