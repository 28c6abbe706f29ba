"""Settings that every command of this project makes in a config before it builds a Runner."""

from __future__ import annotations

import uuid
from typing import Any

from ..errors import needs

with needs("llie_preproc.mm.run_settings"):
    from mmengine.config import Config
    from mmengine.device import get_device

# With these arguments of a checkpoint hook, an interrupted run could not resume or would not find its checkpoints.
_NOT_RESUMABLE = ("out_dir", "filename_tmpl", "save_optimizer", "save_param_scheduler", "save_last")


def set_name(cfg: Config, name: str) -> None:
    """Give a run a unique name, because MMEngine keeps message hubs and visualizers by name for the whole process.

    Args:
        cfg: Config, which is changed.
        name: Words that the name begins with.

    Examples:
        >>> cfg = Config(dict())
        >>> set_name(cfg, "compare")
        >>> cfg.experiment_name.startswith("compare-")
        True
    """
    cfg.experiment_name = f"{name}-{uuid.uuid4().hex[:8]}"
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name


def set_wrapper(cfg: Config) -> None:
    """Let MMEngine wrap the model of a distributed run on the CPU, without naming a CUDA device as it usually does.

    Args:
        cfg: Config, which is changed; its ``launcher`` tells whether the run is distributed.

    Examples:
        >>> cfg = Config(dict(launcher="none"))
        >>> set_wrapper(cfg)
        >>> "model_wrapper_cfg" in cfg
        False
    """
    if cfg.get("launcher", "none") == "none" or get_device() != "cpu":
        return
    unused = cfg.get("find_unused_parameters", False)
    cfg.setdefault("model_wrapper_cfg", dict(type="MMDistributedDataParallel", find_unused_parameters=unused))
    cfg.model_wrapper_cfg.update(device_ids=None)


def set_checkpoints(cfg: Config, **others: Any) -> None:
    """Let a training save all that it needs to resume after an interruption, where the resumed run looks for it.

    The interval of the config is kept.

    Args:
        cfg: Config, which is changed.
        **others: Arguments of :class:`~llie_preproc.mm.runner_parts.AtomicCheckpointHook` that replace the config's.

    Examples:
        >>> hooks = dict(checkpoint=dict(interval=5, save_last=False))
        >>> cfg = Config(dict(train_cfg=dict(max_epochs=2), default_hooks=hooks))
        >>> set_checkpoints(cfg, max_keep_ckpts=1)
        >>> cfg.default_hooks.checkpoint
        {'interval': 5, 'max_keep_ckpts': 1, 'type': 'llie_preproc.AtomicCheckpointHook'}
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
        cfg: Config, which is changed.
        lr_mult: Factor from the detector's learning rate to the enhancer's.

    Examples:
        >>> cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01))))
        >>> set_enhancer_lr(cfg, 0.1)
        >>> cfg.optim_wrapper.paramwise_cfg
        {'custom_keys': {'enhancer.': {'lr_mult': 0.1}}}
    """
    paramwise = dict(cfg.optim_wrapper.get("paramwise_cfg") or {})
    keys = dict(paramwise.get("custom_keys") or {})
    keys["enhancer."] = dict(keys.get("enhancer.") or {}, lr_mult=lr_mult)
    cfg.optim_wrapper.paramwise_cfg = dict(paramwise, custom_keys=keys)
