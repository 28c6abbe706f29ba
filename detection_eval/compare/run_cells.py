"""The run of a comparison's cells: train if the mode trains, evaluate, and measure the time."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from llie_preproc.checkpoints import match_report
from llie_preproc.commands.program import raise_if_interrupted, say
from llie_preproc.errors import one_line
from llie_preproc.files import atomic_path, real_path, write_text
from llie_preproc.mm.console import quiet
from llie_preproc.mm.progress import ProgressBar
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints, unwrapped
from llie_preproc.numbered_draws import seed_draws
from llie_preproc.safe_loading import SafeRunner
from llie_preproc.seeds import own_random_state
from llie_preproc.work_sharing import Ranks

from ..metrics.detections import read_detections, read_truth
from ..shared.fill_cache import fill_cache
from .cell_configs import testing_config, training_config
from .comparison_store import JOINT, RAW, RETRAINED, ZERO_SHOT, Cell, Comparison
from .plan import Request, begin
from .tables import measure, write_tables
from .timing import measure_times

# Least share of matching weights: a checkpoint for another number of classes only lacks the last layers.
_LEAST_MATCHED = 0.5
_ERROR = "error.txt"


class SameStart(Hook):
    """Hook that seeds again before weights are initialised, because building an enhancer may draw random numbers."""

    def before_run(self, runner: Runner) -> None:
        """Set the seed of the run again."""
        runner.set_randomness(**runner._randomness_cfg)


def compare(request: Request) -> tuple[Comparison, list[str]]:
    """Run the unfinished cells of a request, score the finished ones, and write the tables.

    Returns:
        Comparison, and a message for each cell that failed. ``error.txt`` in the cell's folder has the traceback.

    Raises:
        FileNotFoundError, ValueError: :func:`detection_eval.compare.plan.begin` refuses the request.
        CheckpointError: The detector's checkpoint is unsafe or damaged.
    """
    comparison = begin(request)
    ranks = request.over_cells
    detector = _safe_copy(request.detector, comparison, request.ranks) if request.detector else None
    # Cells that train a detector come before those that only test it.
    waiting = sorted(_by_length(comparison.unfinished()), key=lambda cell: comparison.trainer(cell) != cell)
    names = request.ranks.broadcast([cell.name for cell in waiting])
    cells = {cell.name: cell for cell in comparison.cells}
    failed = []
    for number in ranks.take(len(names)):
        cell = cells[names[number]]
        trainer = comparison.trainer(cell)
        if detector is None and trainer != cell and trainer.name in names:
            ranks.wait_for(trainer.name)
        _say(request, f"[{number + 1}/{len(names)}] {cell.name}")
        failed += _attempt(comparison, request, cell, detector)
        ranks.announce(cell.name)
        # Runners refer to themselves, so that without this their models would stay on the device.
        gc.collect()
    failed = sorted(itertools.chain.from_iterable(ranks.gather(failed)))
    if request.ranks.main:
        write_tables(comparison, measure(comparison))
    return comparison, failed


def _by_length(cells: Sequence[Cell]) -> list[Cell]:
    """Sort cells: those that others start from come first, then long ones, so that processes end at similar times."""
    return sorted(cells, key=lambda cell: (RAW, JOINT, RETRAINED, ZERO_SHOT).index(cell.mode))


def _say(request: Request, line: str) -> None:
    if request.over_cells.size > 1:
        line += f" (process {request.ranks.rank})"
    if request.in_cell.main:
        say(line)


def _attempt(comparison: Comparison, request: Request, cell: Cell, detector: Path | None) -> list[str]:
    """Run a cell, and return a list with a message if it failed."""
    try:
        # The result must not depend on what ran before in this process.
        with own_random_state(cell.seed):
            run_cell(comparison, request, cell, detector)
    except Exception as error:
        # An interruption kills workers, which is no failure of the cell.
        raise_if_interrupted()
        # The other processes of the cell would wait forever if this one went on to the next cell.
        if request.distributed:
            raise
        write_text(comparison.cell_folder(cell) / _ERROR, traceback.format_exc())
        return [f"{cell.name}: {type(error).__name__}: {one_line(error)}"]
    return []


def run_cell(comparison: Comparison, request: Request, cell: Cell, detector: Path | None = None) -> None:
    """Run one cell to its result, from where an earlier attempt stopped.

    Args:
        comparison: Comparison that gets the result.
        request: Settings of all cells.
        cell: Cell to run. If it tests the detector of another cell, that cell must be finished.
        detector: Checkpoint of a trained detector, which is only evaluated; None to train the detector.

    Raises:
        CheckpointError: The checkpoint to start from belongs to another detector.
        ValueError: A picture cannot be enhanced, the cell that trains the detector is not finished, or detections are
            not finite.
    """
    folder = comparison.cell_folder(cell)
    seconds, steps = None, None
    if detector is not None:
        checkpoint = detector
    elif comparison.trainer(cell) != cell:
        checkpoint = _checkpoint_of(comparison, comparison.trainer(cell))
    else:
        seconds, steps = _train(training_config(request, cell, folder), cell, request)
        checkpoint = saved_checkpoints(folder)[-1]
    found_as = comparison.plan["found_as"]
    test = testing_config(request, cell, folder, comparison.truth_path, checkpoint, found_as)
    metrics, times = _evaluate(test, cell, request, exact=detector is not None)
    if request.in_cell.main:
        # Reading the detections here makes a diverged training a failure of this cell, not of the table.
        _sort(comparison.detections_path(cell), read_truth(comparison.truth_path))
        (folder / _ERROR).unlink(missing_ok=True)
        result = dict(
            metrics=metrics,
            checkpoint=_relative(checkpoint, comparison.folder),
            iterations=steps,
            timing=dict(times, train_seconds=seconds),
        )
        comparison.finish(cell, result)
    request.in_cell.barrier()


def _sort(path: Path, truth: dict[str, Any]) -> None:
    """Sort saved detections by falling score: VisDrone's official program needs this order, COCO's does not."""
    detections = read_detections(path, truth)
    write_text(path, json.dumps(sorted(detections, key=lambda each: -each["score"])))


def _safe_copy(path: Path, comparison: Comparison, ranks: Ranks) -> Path:
    """Read a trained detector's weights by the restricted unpickler, and write them again for MMEngine to load."""
    checkpoint = read_checkpoint(path)
    target = comparison.folder / "detector.pth"
    if ranks.main:
        with atomic_path(target) as temporary:
            torch.save({"state_dict": checkpoint.get("state_dict", checkpoint), "meta": {}}, temporary)
    ranks.barrier()
    return target


def _checkpoint_of(comparison: Comparison, trainer: Cell) -> Path:
    result = comparison.result(trainer)
    if result is None:
        raise ValueError(f"the detector of {trainer.name} is not trained yet")
    return comparison.folder / result["checkpoint"]


def _train(cfg: Config, cell: Cell, request: Request) -> tuple[float | None, int]:
    """Train; return the seconds, or None if an earlier training was resumed, and the number of iterations."""
    _fill(cfg, cell, request)
    saved = saved_checkpoints(cfg.work_dir)
    if saved:
        read_checkpoint(saved[-1])
        cfg.load_from, cfg.resume = str(saved[-1]), True
    seed_draws(cfg)
    runner = _runner(cfg, cell, request)
    if not saved and cfg.get("load_from"):
        _check_start(unwrapped(runner.model), cfg.load_from, _LEAST_MATCHED)
    start = time.perf_counter()
    with quiet():
        runner.train()
    # All processes read the last checkpoint, which the first process writes.
    request.in_cell.barrier()
    return None if saved else round(time.perf_counter() - start, 1), runner.iter


def _evaluate(cfg: Config, cell: Cell, request: Request, exact: bool) -> tuple[dict[str, float], dict[str, Any]]:
    _fill(cfg, cell, request)
    runner = _runner(cfg, cell, request)
    if exact:
        _check_start(unwrapped(runner.model), cfg.load_from, 1.0)
    with quiet():
        metrics = runner.test()
        model, dataset = unwrapped(runner.model), runner.test_dataloader.dataset
        times = measure_times(model, dataset, request.device) if request.in_cell.main else {}
    request.in_cell.barrier()
    return {key: float(value) for key, value in metrics.items()}, times


def _runner(cfg: Config, cell: Cell, request: Request) -> Runner:
    with quiet():
        runner = SafeRunner.from_cfg(cfg)
    runner.register_hook(SameStart())
    runner.register_hook(ProgressBar(cell.name, shown=request.ranks.main))
    return runner


def _fill(cfg: Config, cell: Cell, request: Request) -> None:
    """Enhance the pictures on ``device``, because the data loaders' workers would enhance them on the CPU."""
    if cell.mode in (RAW, JOINT):
        return
    with quiet():
        report = fill_cache(cfg, request.device, request.in_cell, progress=request.ranks.main)
    if report.failed:
        raise ValueError(f"{len(report.failed)} pictures cannot be enhanced: {report.failed[0]}")
    request.in_cell.barrier()


def _check_start(model: nn.Module, path: str, least: float) -> None:
    checkpoint = read_checkpoint(path)
    report = match_report(getattr(model, "detector", model), checkpoint.get("state_dict", checkpoint))
    report.check(f"{path} is no checkpoint of this detector", least)


def _relative(path: Path, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(real_path(path).relative_to(real_path(folder)))
    return str(real_path(path))
