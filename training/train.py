"""Train an enhancer: ``python -m training.train CONFIG``."""

from __future__ import annotations

from llie_preproc.commands.program import REFUSED, Parser, launch, resumable, run

if __name__ == "__main__":
    launch("training.train")

import argparse
import contextlib
import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from llie_preproc.config_files import read_config_file
from llie_preproc.errors import CheckpointError
from llie_preproc.mm.console import quiet
from llie_preproc.mm.progress import ProgressBar
from llie_preproc.ranks import LAUNCHERS
from llie_preproc.runs import join_without_gpu, saved_checkpoints
from llie_preproc.safe_loading import SafeRunner

from .hooks import optimizer_names, read_run
from .results import print_results

_AMP = "llie_preproc.AutocastOptimWrapper"
_CONSTRUCTOR = "llie_preproc.MethodOptimWrapperConstructor"
# What a wrong config raises while the run is built, beside what every program refuses.
_OF_CONFIGS = (TypeError, AttributeError, SyntaxError, NameError)
_RUNNER_KEYS = {
    *inspect.signature(Runner).parameters,
    "model_wrapper_cfg",
    "find_unused_parameters",
    "sync_bn",
    "compile",
    "activation_checkpointing",
    "efficient_conv_bn_eval",
}
_ENV_KEYS = {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(prog="python -m training.train", description=__doc__)
    parser.add_argument("config", help="a config file, for example mm_configs/enhancers/psenet_sice.py")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<config name>)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    parser.add_argument("--amp", action="store_true", help="mixed precision: autocast to bfloat16")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="KEY=VALUE over the config")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the training that the command line describes; returns its exit status."""
    return run(partial(_main, argv))


def _main(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    with going_on():
        with building():
            runner = build_runner(args)
        train(runner)
        print_results(runner)


def going_on() -> contextlib.AbstractContextManager[None]:
    """Inside, an interrupt is reported with a word on how a training goes on."""
    return resumable("the same command with --resume goes on from the last checkpoint")


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Inside, whatever a wrong config raises is refused."""
    try:
        with quiet():
            yield
    except _OF_CONFIGS as error:
        raise ValueError(str(error)) from error


def train(runner: Runner) -> None:
    """Run a training; what is wrong before the first step is done is refused.

    Raises:
        OSError, ValueError: The checkpoint does not fit, or the method refuses its first batch.
        RuntimeError: A later step failed.
    """
    runner.register_hook(ProgressBar())
    try:
        with quiet():
            runner.train()
    except REFUSED as error:
        # Checkpoints are loaded just before the first step.
        if not runner.iter and isinstance(error, (OSError, ValueError)):
            raise
        raise RuntimeError(f"the training failed in iteration {runner.iter + 1}") from error


def build_runner(args: argparse.Namespace) -> SafeRunner:
    """The Runner of a command line, with everything that can be wrong before the first step built and checked."""
    cfg = read_config_file(args.config)
    if missing := [name for name in ("model", "train_dataloader", "optim_wrapper") if name not in cfg]:
        raise ValueError(f"{args.config} is no config of a training: it has no {', '.join(missing)}")
    check_options(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    check_names(cfg)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    checkpoint = _starting_point(cfg, args.resume)
    cfg.launcher = args.launcher
    if args.launcher != "none":
        cfg.setdefault("model_wrapper_cfg", dict(type="llie_preproc.MethodDataParallel"))
        join_without_gpu(args.launcher)
    if args.amp:
        _autocast(cfg.optim_wrapper)
    list_evaluators(cfg)
    runner = SafeRunner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if cfg.get("resume") and (names := optimizer_names(runner.optim_wrapper)) != checkpoint.get("optimizers"):
        raise CheckpointError(f"{cfg.load_from} is of optimizers {checkpoint.get('optimizers')}, this run has {names}")
    if runner.param_schedulers is not None and not cfg.get("auto_scale_lr"):
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    _check_data(runner)
    return runner


def list_evaluators(cfg: Config) -> None:
    """Put single metrics into lists: with a key ``metrics`` MMEngine would take one for a whole evaluator."""
    for evaluator in ("val_evaluator", "test_evaluator"):
        if isinstance(cfg.get(evaluator), dict):
            cfg[evaluator] = [cfg[evaluator]]


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Raise for options over a config that would change nothing.

    Raises:
        ValueError: A name that only the config file itself uses, or None for an entry that is not there.
    """
    for path, value in options.items():
        *parents, leaf = path.split(".")
        if not parents and leaf not in _RUNNER_KEYS:
            raise ValueError(f"{leaf!r} is read by nothing once the config is loaded: set the keys that it went into")
        parent = cfg
        for name in parents:
            parent = parent.get(name) if isinstance(parent, Mapping | Config) else None
        if value is None and isinstance(parent, Mapping) and leaf not in parent:
            raise ValueError(f"{path}=None leaves nothing out: there are {', '.join(map(repr, parent))}")


def check_names(cfg: Config) -> None:
    """Raise for a name that looks like a misspelt one of the Runner's: it would be ignored.

    Raises:
        ValueError: There is one; the message has the likely name.
    """
    for name in set(cfg) - _RUNNER_KEYS:
        likely = difflib.get_close_matches(name, _RUNNER_KEYS, n=1, cutoff=0.85)
        if likely:
            raise ValueError(f"the config has {name!r}, which nothing reads; is {likely[0]!r} meant?")
    if unknown := set(cfg.get("env_cfg", {})) - _ENV_KEYS:
        raise ValueError(f"env_cfg has {sorted(unknown)}, which nothing reads; it takes {sorted(_ENV_KEYS)}")
    if cfg.get("randomness", {}).get("diff_rank_seed"):
        raise ValueError("randomness.diff_rank_seed is of no use: each iteration seeds each rank differently")
    check_optimizers(cfg.get("optim_wrapper", {}))


def check_optimizers(optim_wrapper: Mapping) -> None:
    """Raise ``KeyError`` for an optimiser that is not registered; MMEngine's own message does not name it."""
    for key, value in optim_wrapper.items():
        if key == "optimizer" and isinstance(value.get("type"), str) and OPTIMIZERS.get(value["type"]) is None:
            raise KeyError(f"no optimizer {value['type']!r} is registered")
        if key != "optimizer" and isinstance(value, Mapping):
            check_optimizers(value)


def _starting_point(cfg: Config, resume: bool) -> dict[str, Any]:
    """The checkpoint that the run starts from, which ``cfg`` then names; none: empty."""
    last = last_checkpoint(cfg.work_dir, resume or cfg.get("resume", False))
    if resume and last:
        cfg.load_from, cfg.resume = str(last), True
    if not cfg.get("load_from"):
        return {}
    checkpoint = read_run(cfg.load_from)
    if cfg.get("resume"):
        # Of before the samplers are built, which the seed orders.
        cfg.setdefault("randomness", {})["seed"] = checkpoint["meta"]["seed"]
    return checkpoint


def last_checkpoint(work_dir: str | Path, resume: bool) -> Path | None:
    """The last checkpoint of a work folder; None where there is none.

    Raises:
        ValueError: There is one, and the run does not go on from it.
    """
    saved = saved_checkpoints(work_dir)
    if saved and not resume:
        raise ValueError(
            f"{work_dir} has checkpoints of an earlier run, {saved[-1].name} the last: go on with --resume, or "
            "choose another --work-dir"
        )
    return saved[-1] if saved else None


def _check_data(runner: SafeRunner) -> None:
    loader = runner.train_loop.dataloader
    if not len(loader):
        raise ValueError(
            f"the training set of {len(loader.dataset)} gives no batch of {loader.batch_size} for each process: take a "
            "smaller batch, or drop_last=False"
        )
    # None where a batch sampler of one's own decides.
    _check_set(loader.dataset, batched=loader.batch_size != 1)
    if runner.val_loop is not None:
        _check_set(runner.val_loop.dataloader.dataset)


def _check_set(dataset: Any, **options: bool) -> None:
    if hasattr(dataset, "check"):
        dataset.check(**options)


def _autocast(optim_wrapper: Any) -> None:
    """Mixed precision for the one optimiser, or for each of several."""
    several = optim_wrapper.get("constructor") == _CONSTRUCTOR
    parts = [v for v in optim_wrapper.values() if isinstance(v, dict)] if several else [optim_wrapper]
    for part in parts:
        part["type"] = _AMP
