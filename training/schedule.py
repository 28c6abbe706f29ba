"""The schedules of a config, rewritten for another number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from llie_preproc.config_nodes import type_name

# These keys of a scheduler hold points in time. MMEngine's default for "never" lies beyond any training.
_POINTS = ("begin", "end", "step_size", "total_steps")
_LISTS = ("milestones", "periods")
_NEVER = 10**9


def set_epochs(cfg: Config, epochs: int, batches: int) -> None:
    """Set another number of epochs in a config. Its schedules keep their proportions.

    If the training loop counts epochs, schedules in epochs are scaled, and so are the epochs at which hooks begin or
    switch the pipeline. If the loop counts iterations, schedules and hooks in iterations are scaled. A schedule that
    has no time left after scaling is removed.

    >>> cfg = Config(dict(train_cfg=dict(max_epochs=12), param_scheduler=dict(type="MultiStepLR", milestones=[8, 11])))
    >>> set_epochs(cfg, epochs=24, batches=100)
    >>> cfg.train_cfg.max_epochs, cfg.param_scheduler[0].milestones
    (24, [16, 22])

    Args:
        cfg: Config, which is changed in place.
        epochs: Number of passes over the training set.
        batches: Number of iterations in an epoch; all processes together make one iteration.

    Raises:
        ValueError: The loop counts neither epochs nor iterations.
    """
    key = next((k for k in ("max_epochs", "max_iters") if k in cfg.train_cfg), None)
    if key is None:
        raise ValueError(f"--epochs needs a training loop with max_epochs or max_iters, got {dict(cfg.train_cfg)}")
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
    """If the loop counts epochs, end warm-ups in iterations with the first epoch at the latest."""
    if "max_epochs" not in cfg.train_cfg:
        return
    schedulers = schedulers_of(cfg)
    for scheduler in schedulers:
        if not scheduler.get("by_epoch", True) and not scheduler.get("begin", 0):
            scheduler["end"] = min(scheduler.get("end", _NEVER), batches)
    _leave_out_short(cfg, schedulers, batches)


def schedulers_of(cfg: Config) -> list[Any]:
    """The configs of the parameter schedulers as a list; a config may have one, several or none."""
    found = cfg.get("param_scheduler") or []
    return [found] if isinstance(found, Mapping) else list(found)


def counts_iterations(cfg: Config) -> bool:
    """Whether the loop or a schedule depends on the number of iterations in an epoch."""
    keys = [(each.get("by_epoch", True), each.get("convert_to_iter_based", False)) for each in schedulers_of(cfg)]
    return "max_iters" in cfg.train_cfg or any(converted or not by_epoch for by_epoch, converted in keys)


def _leave_out_short(cfg: Config, schedulers: list[Any], batches: int) -> None:
    """Remove schedules of a single step: MMEngine's warm-ups would stay at their first value."""
    if schedulers:
        cfg.param_scheduler = [each for each in schedulers if _steps(each, batches) > 1]


def _steps(scheduler: Any, batches: int) -> int:
    length = scheduler.get("end", _NEVER) - scheduler.get("begin", 0)
    return length * (batches if scheduler.get("convert_to_iter_based") else 1)


def _scaling(before: int, after: int) -> Callable[[int], int]:
    def scale(point: int) -> int:
        if not 0 < point < _NEVER:
            return point
        # Halves are rounded down: epoch 11 of 12 becomes 5 of 6, which is still before the end.
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
