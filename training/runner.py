"""Running a training with MMEngine, from the command line to its end."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from llie_preproc.commands.program import REFUSED, resumable
from llie_preproc.config_files import read_config_file
from llie_preproc.errors import CheckpointError, one_line
from llie_preproc.mm.console import quiet
from llie_preproc.mm.progress import ProgressBar
from llie_preproc.mm.runner_parts import join_without_gpu, saved_checkpoints
from llie_preproc.safe_loading import SafeRunner

from .config_checks import check_enhancer, check_names, check_options, check_schedules, list_evaluators
from .run_checkpoints import optimizer_names, read_run
from .work_folder import InterruptedTraining, TrainingRunner, WriteConfig

_AMP = "llie_preproc.AutocastOptimWrapper"
_CONSTRUCTOR = "llie_preproc.MethodOptimWrapperConstructor"
# A wrong config may raise these while the run is built, besides the errors (REFUSED) that every command reports.
_OF_CONFIGS = (TypeError, AttributeError, SyntaxError, NameError)


def going_on() -> contextlib.AbstractContextManager[None]:
    """Within the block, report an interrupt with a hint at how to continue the training."""
    return resumable("the same command with --resume goes on from the last checkpoint")


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Within the block, turn the exceptions of a wrong config into ``ValueError``.

    Examples:
        >>> with building():
        ...     raise TypeError("PSENet has no argument 'widht'")
        Traceback (most recent call last):
        ValueError: PSENet has no argument 'widht'
    """
    try:
        with quiet():
            yield
    except _OF_CONFIGS as error:
        raise ValueError(str(error)) from error


def train(runner: Runner) -> None:
    """Run a training.

    Raises:
        OSError: A file cannot be read before the first step is done.
        ValueError: The checkpoint does not fit, or the method refuses its first batch.
        DivergedError: The weights or the losses are not finite.
        RuntimeError: A later step failed.
        InterruptedTraining: The training was interrupted in a later step.
    """
    runner.register_hook(ProgressBar())
    try:
        with quiet():
            runner.train()
    except KeyboardInterrupt as interrupt:
        if not runner.iter:
            raise
        raise InterruptedTraining(*interrupt.args) from None
    except REFUSED as error:
        # Checkpoints are loaded just before the first step, so these errors may come from a wrong checkpoint.
        if not runner.iter and isinstance(error, (OSError, ValueError)):
            raise
        raise RuntimeError(f"the training failed in iteration {runner.iter + 1}: {one_line(error)}") from error


def training_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line, and set the folder that the run writes into."""
    cfg = read_config_file(args.config)
    if missing := [name for name in ("model", "train_dataloader", "optim_wrapper") if name not in cfg]:
        raise ValueError(f"{args.config} is not the config of a training: it has no {', '.join(missing)}")
    check_options(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    check_names(cfg)
    check_schedules(cfg)
    check_enhancer(cfg, args.config)
    cfg.work_dir = str(args.out or cfg.get("work_dir") or Path("work_dirs") / Path(args.config).stem)
    return cfg


def build_runner(cfg: Config, args: argparse.Namespace) -> TrainingRunner:
    """Build the Runner of a command line, and all that it needs, so that errors come before the first step.

    Args:
        cfg: Config from :func:`training_config`.
        args: Command line.
    """
    checkpoint = _starting_point(cfg, args.resume)
    cfg.launcher = args.launcher
    if args.launcher != "none":
        cfg.setdefault("model_wrapper_cfg", dict(type="llie_preproc.MethodDataParallel"))
        join_without_gpu(args.launcher)
    if args.amp:
        _autocast(cfg.optim_wrapper)
    list_evaluators(cfg)
    runner = TrainingRunner.from_cfg(cfg)
    runner.register_hook(WriteConfig(Path(cfg.filename).name, runner.cfg.pretty_text))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if cfg.get("resume") and (names := optimizer_names(runner.optim_wrapper)) != checkpoint.get("optimizers"):
        raise CheckpointError(
            f"{cfg.load_from} has the optimizers {checkpoint.get('optimizers')}, but this run has {names}"
        )
    if runner.param_schedulers is not None and not cfg.get("auto_scale_lr"):
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    _check_data(runner)
    return runner


def _starting_point(cfg: Config, resume: bool) -> dict[str, Any]:
    """Read the checkpoint that the run starts from, and name it in ``cfg``; empty if there is none."""
    last = last_checkpoint(cfg.work_dir, resume or cfg.get("resume", False))
    if resume and last:
        cfg.load_from, cfg.resume = str(last), True
    if not cfg.get("load_from"):
        return {}
    checkpoint = read_run(cfg.load_from)
    if cfg.get("resume"):
        # The seed determines the order of the samplers, which are built later.
        cfg.setdefault("randomness", {})["seed"] = checkpoint["meta"]["seed"]
    return checkpoint


def last_checkpoint(work_dir: str | Path, resume: bool) -> Path | None:
    """The last checkpoint of a work folder, or None if there is none.

    Raises:
        ValueError: There is a checkpoint, and ``resume`` is False.

    Examples:
        >>> import tempfile
        >>> last_checkpoint(tempfile.mkdtemp(), resume=True) is None
        True
    """
    saved = saved_checkpoints(work_dir)
    if saved and not resume:
        raise ValueError(
            f"{work_dir} has checkpoints of an earlier run, the last of which is {saved[-1].name}: continue with "
            "--resume, or choose another --out"
        )
    return saved[-1] if saved else None


def _check_data(runner: SafeRunner) -> None:
    loader = runner.train_loop.dataloader
    if not len(loader):
        raise ValueError(
            f"the training set of {len(loader.dataset)} is too small for a batch of {loader.batch_size} in each "
            "process: use a smaller batch, or drop_last=False"
        )
    # The batch size is None if a batch sampler decides.
    _check_set(loader.dataset, batched=loader.batch_size != 1)
    if runner.val_loop is not None:
        _check_set(runner.val_loop.dataloader.dataset)


def _check_set(dataset: Any, **options: bool) -> None:
    if hasattr(dataset, "check"):
        dataset.check(**options)


def _autocast(optim_wrapper: Any) -> None:
    """Set mixed precision for the single optimiser, or for each of several."""
    several = optim_wrapper.get("constructor") == _CONSTRUCTOR
    parts = [v for v in optim_wrapper.values() if isinstance(v, dict)] if several else [optim_wrapper]
    for part in parts:
        part["type"] = _AMP
