"""Checks of the config of a run, before anything is built."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from llie_preproc.config_nodes import nodes, type_name
from llie_preproc.enhancers.names import enhancer_in

from .schedule import schedulers_of

_RUNNER_KEYS = {
    *inspect.signature(Runner).parameters,
    "model_wrapper_cfg",
    "find_unused_parameters",
    "sync_bn",
    "compile",
    "activation_checkpointing",
    "efficient_conv_bn_eval",
}
_ONE_CYCLE = {"OneCycleLR", "OneCycleParamScheduler"}
# MMEngine's default for the share of a one-cycle schedule in which the rate rises.
_PCT_START = 0.3
_ENV_KEYS = {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}


def list_evaluators(cfg: Config) -> None:
    """Put single metrics into lists, because MMEngine reads a single metric with a key ``metrics`` as an evaluator.

    Examples:
        >>> cfg = Config(dict(val_evaluator=dict(type="PictureScores", metrics=["psnr"])))
        >>> list_evaluators(cfg)
        >>> len(cfg.val_evaluator)
        1
    """
    for evaluator in ("val_evaluator", "test_evaluator"):
        if isinstance(cfg.get(evaluator), dict):
            cfg[evaluator] = [cfg[evaluator]]


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse options that would change nothing in a config.

    Args:
        cfg: Config that the options are for.
        options: Values by key; dots separate the keys of nested dicts.

    Raises:
        ValueError: An option has a name that only the config file itself uses, or removes (by None) a key that does not
            exist.

    Examples:
        >>> cfg = Config(dict(model=dict(width=32)))
        >>> check_options(cfg, {"model.width": 16})
        >>> check_options(cfg, {"model.depth": None})
        Traceback (most recent call last):
        ValueError: model.depth=None removes nothing: the keys are 'width'
    """
    for path, value in options.items():
        *parents, leaf = path.split(".")
        if not parents and leaf not in _RUNNER_KEYS:
            raise ValueError(f"{leaf!r} is not used after the config is loaded: set the keys that use its value")
        parent = cfg
        for name in parents:
            parent = parent.get(name) if isinstance(parent, Mapping | Config) else None
        if value is None and isinstance(parent, Mapping) and leaf not in parent:
            raise ValueError(f"{path}=None removes nothing: the keys are {', '.join(map(repr, parent))}")


def check_names(cfg: Config) -> None:
    """Refuse a config with a key that looks like a misspelt key of the Runner, which would ignore it.

    Raises:
        ValueError: There is such a key (the message names the likely right one), or an unknown key in ``env_cfg``, or
            ``randomness.diff_rank_seed`` is true.
        KeyError: An optimiser is not registered.

    Examples:
        >>> check_names(Config(dict(train_dataloder=dict())))
        Traceback (most recent call last):
        ValueError: the config has 'train_dataloder', which is not used; is 'train_dataloader' meant?
    """
    for name in set(cfg) - _RUNNER_KEYS:
        likely = difflib.get_close_matches(name, _RUNNER_KEYS, n=1, cutoff=0.85)
        if likely:
            raise ValueError(f"the config has {name!r}, which is not used; is {likely[0]!r} meant?")
    if unknown := set(cfg.get("env_cfg", {})) - _ENV_KEYS:
        raise ValueError(f"env_cfg has {sorted(unknown)}, which are not used; its keys are {sorted(_ENV_KEYS)}")
    if cfg.get("randomness", {}).get("diff_rank_seed"):
        raise ValueError("randomness.diff_rank_seed must not be set: each iteration seeds each rank differently")
    check_optimizers(cfg.get("optim_wrapper", {}))


def check_enhancer(cfg: Config, name: str) -> None:
    """Refuse a model whose enhancer is not registered.

    Args:
        cfg: Config of the run.
        name: Name of the config file, for the message.

    Raises:
        ValueError: The enhancer is not registered; the message names the file and the nearest enhancers.

    Examples:
        >>> check_enhancer(Config(dict(model=dict(enhancer=dict(type="PSENet")))), "psenet.py")
    """
    if isinstance(cfg.model, Mapping):
        enhancer_in({"model": dict(cfg.model)}, name)


def check_optimizers(optim_wrapper: Mapping) -> None:
    """Raise ``KeyError`` for an optimiser that is not registered; unlike MMEngine's message, this one names it.

    Examples:
        >>> check_optimizers(dict(optimizer=dict(type="Adamm")))
        Traceback (most recent call last):
        KeyError: "no optimizer 'Adamm' is registered"
    """
    for node in nodes(optim_wrapper):
        kind = (node.get("optimizer") or {}).get("type")
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise KeyError(f"no optimizer {kind!r} is registered")


def check_schedules(cfg: Config) -> None:
    """Refuse a one-cycle schedule that is shorter than the training, or that MMEngine cannot compute.

    Raises:
        ValueError: ``total_steps`` of such a schedule is below the steps that the training loop takes, or its rise has
            no step.

    Examples:
        >>> one_cycle = dict(type="OneCycleLR", eta_max=0.1, total_steps=5, by_epoch=False)
        >>> check_schedules(Config(dict(train_cfg=dict(max_iters=5), param_scheduler=[one_cycle])))
        >>> check_schedules(Config(dict(train_cfg=dict(max_iters=9), param_scheduler=[one_cycle])))
        Traceback (most recent call last):
        ValueError: param_scheduler.0.total_steps must be at least train_cfg.max_iters=9, got 5
    """
    loop = cfg.get("train_cfg") or {}
    for number, scheduler in enumerate(schedulers_of(cfg)):
        key = "max_epochs" if scheduler.get("by_epoch", True) else "max_iters"
        total = scheduler.get("total_steps")
        if key not in loop or total is None or type_name(scheduler) not in _ONE_CYCLE:
            continue
        # A scheduler steps after each step of the loop that lies before its own end.
        begin, last = scheduler.get("begin", 0), loop[key]
        if min(scheduler.get("end", math.inf) - 1, last) - begin > total:
            after = f" less begin={begin}" if begin else ""
            raise ValueError(
                f"param_scheduler.{number}.total_steps must be at least train_cfg.{key}={last}{after}, got {total}"
            )
        # MMEngine would divide by the length of a rise of no steps.
        share = scheduler.get("pct_start", _PCT_START)
        if share * total == 1:
            raise ValueError(
                f"param_scheduler.{number}: pct_start={share} of total_steps={total} leaves no step for the rate's rise"
            )
