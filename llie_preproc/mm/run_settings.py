"""Settings of a run that every command of this project makes in a config before a Runner is built of it."""

from __future__ import annotations

import uuid
from typing import Any

from ..errors import needs

with needs("llie_preproc.mm.run_settings"):
    from mmengine.config import Config
    from mmengine.device import get_device

# Arguments of a checkpoint hook by which an interrupted run could not go on, or would not be found.
_NOT_RESUMABLE = ("out_dir", "filename_tmpl", "save_optimizer", "save_param_scheduler", "save_last")


def set_name(cfg: Config, name: str) -> None:
    """Give a run a name of its own: MMEngine keeps message hubs and visualizers by name for the whole process.

    Args:
        cfg: Config that is changed.
        name: Words that the name begins with.
    """
    cfg.experiment_name = f"{name}-{uuid.uuid4().hex[:8]}"
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name


def set_wrapper(cfg: Config) -> None:
    """Let MMEngine wrap the model of a distributed run on the CPU too, where it would name a CUDA device.

    Args:
        cfg: Config that is changed; its ``launcher`` says whether the run is distributed.
    """
    if cfg.get("launcher", "none") == "none" or get_device() != "cpu":
        return
    unused = cfg.get("find_unused_parameters", False)
    cfg.setdefault("model_wrapper_cfg", dict(type="MMDistributedDataParallel", find_unused_parameters=unused))
    cfg.model_wrapper_cfg.update(device_ids=None)


def set_checkpoints(cfg: Config, **others: Any) -> None:
    """Let a training save all that it goes on from after an interruption, where that is looked for.

    How often is what the config says.

    >>> hooks = dict(checkpoint=dict(interval=5, save_last=False))
    >>> cfg = Config(dict(train_cfg=dict(max_epochs=2), default_hooks=hooks))
    >>> set_checkpoints(cfg, max_keep_ckpts=1)
    >>> cfg.default_hooks.checkpoint
    {'interval': 5, 'max_keep_ckpts': 1, 'type': 'llie_preproc.AtomicCheckpointHook'}

    Args:
        cfg: Config that is changed.
        **others: Arguments of :class:`~llie_preproc.mm.runner_parts.AtomicCheckpointHook` that replace the config's.
    """
    hooks = dict(cfg.get("default_hooks") or {})
    given = hooks.get("checkpoint") or {}
    kept = {key: value for key, value in given.items() if key not in _NOT_RESUMABLE} | others
    if "max_iters" in cfg.train_cfg:
        kept["by_epoch"] = False
    cfg.default_hooks = dict(hooks, checkpoint=dict(kept, type="llie_preproc.AtomicCheckpointHook"))


def set_enhancer_lr(cfg: Config, lr_mult: float) -> None:
    """Set the learning rate of the enhancer of an ``EnhancedDetector``.

    Args:
        cfg: Config that is changed.
        lr_mult: Learning rate, as a multiple of the detector's.
    """
    paramwise = dict(cfg.optim_wrapper.get("paramwise_cfg") or {})
    keys = dict(paramwise.get("custom_keys") or {})
    keys["enhancer."] = dict(keys.get("enhancer.") or {}, lr_mult=lr_mult)
    cfg.optim_wrapper.paramwise_cfg = dict(paramwise, custom_keys=keys)
