"""Train an enhancer: ``python -m training.train CONFIG``."""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from llie_preproc.errors import CheckpointError

from .hooks import saved_checkpoints

_AMP = "llie_preproc.AutocastOptimWrapper"
_CONSTRUCTOR = "llie_preproc.MethodOptimWrapperConstructor"
# What a wrong config, data folder or checkpoint raises while the run is built.
_REFUSALS = (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, SyntaxError)
_RUNNER_KEYS = {*inspect.signature(Runner).parameters, "model_wrapper_cfg", "find_unused_parameters", "sync_bn"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("config", help="a config file, for example mm_configs/enhancers/psenet_sice.py")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<config name>)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    parser.add_argument("--amp", action="store_true", help="mixed precision: autocast to bfloat16")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="KEY=VALUE over the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the training that the command line describes; returns its exit status."""
    args = parse_args(argv)
    try:
        runner = build_runner(args)
    except _REFUSALS as error:
        return _refuse(error)
    try:
        runner.train()
    except CheckpointError as error:
        # Checkpoints to resume or to start from are loaded just before the first step.
        return _refuse(error)
    return 0


def build_runner(args: argparse.Namespace) -> Runner:
    """The Runner of a command line, with everything that can be wrong before the first step built and checked."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    check_names(cfg)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    if args.resume and (saved := saved_checkpoints(cfg.work_dir)):
        cfg.load_from, cfg.resume = str(saved[-1]), True
    if cfg.get("load_from"):
        check_readable(cfg.load_from)
    check_optimizers(cfg.get("optim_wrapper", {}))
    cfg.launcher = args.launcher
    if args.launcher != "none":
        cfg.setdefault("model_wrapper_cfg", dict(type="llie_preproc.MethodDataParallel"))
        _join_without_gpu()
    if args.amp:
        _autocast(cfg.optim_wrapper)
    runner = Runner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    for loop in (runner.train_loop, runner.val_loop):
        dataset: Any = getattr(getattr(loop, "dataloader", None), "dataset", None)
        if hasattr(dataset, "check"):
            dataset.check()
    return runner


def check_names(cfg: Config) -> None:
    """Raise for a top-level name that looks like a misspelt one of the Runner's: it would be ignored.

    Raises:
        ValueError: There is one; the message has the likely name.
    """
    for name in set(cfg) - _RUNNER_KEYS:
        likely = difflib.get_close_matches(name, _RUNNER_KEYS, n=1, cutoff=0.85)
        if likely:
            raise ValueError(f"the config has {name!r}, which nothing reads; is {likely[0]!r} meant?")


def check_readable(path: str) -> None:
    """Raise unless a local file to start from can be the checkpoint of a run.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Damaged, or of another kind.
    """
    if "://" in path:
        return
    if not Path(path).is_file():
        raise FileNotFoundError(f"load_from: no file {path}")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"load_from: {path} is not of this run's enhancer and method, but damaged or no checkpoint of a run; the "
            "weights of an enhancer alone belong into model.enhancer.checkpoint"
        )


def check_optimizers(optim_wrapper: Mapping) -> None:
    """Raise ``KeyError`` for an optimiser that is not registered; MMEngine's own message does not name it."""
    for key, value in optim_wrapper.items():
        if key == "optimizer" and isinstance(value.get("type"), str) and OPTIMIZERS.get(value["type"]) is None:
            raise KeyError(f"no optimizer {value['type']!r} is registered")
        if key != "optimizer" and isinstance(value, Mapping):
            check_optimizers(value)


def _autocast(optim_wrapper: Any) -> None:
    """Mixed precision for the one optimiser, or for each of several."""
    several = optim_wrapper.get("constructor") == _CONSTRUCTOR
    parts = [v for v in optim_wrapper.values() if isinstance(v, dict)] if several else [optim_wrapper]
    for part in parts:
        part["type"] = _AMP


def _join_without_gpu() -> None:
    """MMEngine's own start of distributed training asks for CUDA; without it the processes talk through gloo."""
    if not torch.cuda.is_available() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def _refuse(error: Exception) -> int:
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
