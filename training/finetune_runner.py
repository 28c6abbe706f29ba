"""The Runner of a finetuning."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from mmengine.config import Config

from llie_preproc.config_files import naming_missing_files
from llie_preproc.mm.run_settings import set_name, set_wrapper
from llie_preproc.mm.runner_parts import join_processes, read_checkpoint
from llie_preproc.numbered_draws import seed_draws

from .finetune_config import finetuning_config
from .runner import last_checkpoint
from .work_folder import TrainingRunner, WriteConfig


def build_runner(args: argparse.Namespace) -> TrainingRunner:
    """Build the Runner of a command line, and all that it needs, so that errors come before the first step.

    Raises:
        FileNotFoundError: The config, the data or a checkpoint does not exist.
        KeyError: The enhancer or another type is not registered.
        ValueError: Options or the config do not fit together, the work folder is that of an earlier run, or there are
            no data.
    """
    _check_numbers(args)
    join_processes(args.launcher)
    work_dir = work_folder(args)
    last = last_checkpoint(work_dir, args.resume)
    cfg = finetuning_config(args)
    if cfg.get("load_from"):
        # A bad checkpoint is refused here, before anything is written.
        read_checkpoint(cfg.load_from)
    written = cfg.pretty_text
    _place(cfg, args, work_dir, last)
    with naming_missing_files(cfg):
        runner = TrainingRunner.from_cfg(cfg)
        runner.register_hook(WriteConfig("finetune.py", written))
        _check_data(runner.train_loop.dataloader.dataset, "the training set")
        if runner.val_loop is not None:
            _check_data(runner.val_loop.dataloader.dataset, "the validation set")
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    # The learning rate is scaled only here; otherwise it would be scaled again at the start of the training.
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    runner.auto_scale_lr = None
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def work_folder(args: argparse.Namespace) -> Path:
    """The folder that a run writes into.

    Examples:
        >>> work_folder(argparse.Namespace(out=None, detector="configs/night.py")).as_posix()
        'work_dirs/finetune_night'
    """
    return Path(args.out or Path("work_dirs") / f"finetune_{Path(args.detector).stem}")


def _check_numbers(args: argparse.Namespace) -> None:
    least = dict(epochs=1, train_batch_size=1, accumulate=1, seed=0, enhancer_lr_mult=0.0, lr=0.0)
    for name, smallest in least.items():
        value = getattr(args, name)
        if value is not None and not smallest <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {smallest}, got {value}")


def _place(cfg: Config, args: argparse.Namespace, work_dir: Path, last: Path | None) -> None:
    """Set the folder, the launcher and the checkpoint of a run, which are not part of the config that it writes."""
    cfg.work_dir, cfg.launcher = str(work_dir), args.launcher
    seed_draws(cfg)
    if last is not None:
        cfg.load_from, cfg.resume = str(last), True
        # The seed determines the order of the samplers, which are built later.
        cfg.randomness.seed = read_checkpoint(last)["meta"]["seed"]
    set_wrapper(cfg)
    set_name(cfg, work_dir.name)


def _check_data(dataset: Any, name: str) -> None:
    if not len(dataset):
        raise ValueError(f"{name} has no picture with an annotation of its classes")
    # Sets that mix others, or that hold clips, have no information about a single picture.
    info = dataset.get_data_info(0) if hasattr(dataset, "get_data_info") else None
    first = str(info.get("img_path", "")) if isinstance(info, dict) else ""
    if first and "://" not in first and not getattr(dataset, "backend_args", None) and not Path(first).is_file():
        raise FileNotFoundError(f"{name}: there is no picture {first}")
