"""Schedules of a config for another number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from llie_preproc.config_nodes import type_name

# A scheduler's points in time; MMEngine's default for "never" is beyond any training.
_POINTS = ("begin", "end", "step_size", "total_steps")
_LISTS = ("milestones", "periods")
_NEVER = 10**9


def set_epochs(cfg: Config, epochs: int, batches: int) -> None:
    """Let a config train for another number of epochs, and its schedules keep their proportions.

    In a loop that counts epochs, schedules in epochs are scaled, and so is when hooks switch the pipeline or begin. In
    one that counts iterations, those in iterations are. A schedule that scaling leaves no time for goes.

    Args:
        cfg: Changed in place.
        epochs: How often the training set is gone through.
        batches: Iterations in an epoch, all processes stepping together.

    Raises:
        ValueError: The loop counts neither.
    """
    key = next((k for k in ("max_epochs", "max_iters") if k in cfg.train_cfg), None)
    if key is None:
        raise ValueError(f"--epochs wants a training loop with max_epochs or max_iters, got {dict(cfg.train_cfg)}")
    by_epoch = key == "max_epochs"
    before, after = cfg.train_cfg[key], epochs if by_epoch else epochs * batches
    scale = _scaling(before, after)
    cfg.train_cfg[key] = after
    if intervals := cfg.train_cfg.get("dynamic_intervals"):
        cfg.train_cfg.dynamic_intervals = [(scale(point), interval) for point, interval in intervals]
    schedulers = schedulers_of(cfg)
    for scheduler in schedulers:
        if scheduler.get("by_epoch", True) == by_epoch:
            _scale_scheduler(scheduler, scale)
    _leave_out_short(cfg, schedulers, batches)
    for hook in _hooks(cfg):
        if hook.get("by_epoch", True) == by_epoch:
            _scale_hook(hook, scale, before)


def shorten_warmup(cfg: Config, batches: int) -> None:
    """End warm-ups that are counted in iterations by the end of the first epoch; loops that count epochs only."""
    if "max_epochs" not in cfg.train_cfg:
        return
    schedulers = schedulers_of(cfg)
    for scheduler in schedulers:
        if not scheduler.get("by_epoch", True) and not scheduler.get("begin", 0):
            scheduler["end"] = min(scheduler.get("end", _NEVER), batches)
    _leave_out_short(cfg, schedulers, batches)


def schedulers_of(cfg: Config) -> list[Any]:
    """The configs of the parameter schedulers, of which there may be one, several or none."""
    found = cfg.get("param_scheduler") or []
    return [found] if isinstance(found, Mapping) else list(found)


def counts_iterations(cfg: Config) -> bool:
    """Whether the number of iterations in an epoch matters to the loop or the schedules."""
    keys = [(each.get("by_epoch", True), each.get("convert_to_iter_based", False)) for each in schedulers_of(cfg)]
    return "max_iters" in cfg.train_cfg or any(converted or not by_epoch for by_epoch, converted in keys)


def _leave_out_short(cfg: Config, schedulers: list[Any], batches: int) -> None:
    """MMEngine's warm-ups of a single step would stay at what they begin with."""
    if schedulers:
        cfg.param_scheduler = [each for each in schedulers if _steps(each, batches) > 1]


def _steps(scheduler: Any, batches: int) -> int:
    length = scheduler.get("end", _NEVER) - scheduler.get("begin", 0)
    return length * (batches if scheduler.get("convert_to_iter_based") else 1)


def _scaling(before: int, after: int) -> Callable[[int], int]:
    def scale(point: int) -> int:
        if not 0 < point < _NEVER:
            return point
        # Halves go down: 11 of 12 epochs is 5 of 6, still before the end.
        return max(1, math.ceil(point * after / before - 0.5))

    return scale


def _scale_scheduler(scheduler: Any, scale: Callable[[int], int]) -> None:
    begin = scheduler.get("begin", 0)
    whole = scheduler.get("T_max") == scheduler.get("end", _NEVER) - begin
    for key in _POINTS:
        if key in scheduler:
            scheduler[key] = scale(scheduler[key])
    for key in _LISTS:
        if key in scheduler:
            scheduler[key] = [scale(point) for point in scheduler[key]]
    if whole:
        scheduler["T_max"] = max(1, scheduler["end"] - scheduler.get("begin", 0))
    elif "T_max" in scheduler:
        scheduler["T_max"] = scale(scheduler["T_max"])


def _hooks(cfg: Config) -> list[Any]:
    return [*(cfg.get("custom_hooks") or []), *(each for each in (cfg.get("default_hooks") or {}).values() if each)]


def _scale_hook(hook: Any, scale: Callable[[int], int], before: int) -> None:
    for key in ("switch_epoch", "begin_epoch", *(["begin"] if type_name(hook) == "StagedTraining" else [])):
        if hook.get(key):
            hook[key] = scale(hook[key])
    if hook.get("num_last_epochs"):
        hook["num_last_epochs"] = scale(before) - scale(before - hook["num_last_epochs"])
