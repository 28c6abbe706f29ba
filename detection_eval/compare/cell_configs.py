"""From the plain config of a request to those of its cells."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

from mmengine.config import Config

from llie_preproc.detection import add_enhancer
from llie_preproc.detection.coco_sets import METRIC

from ..shared.enhancers import NONE, network_config
from .comparison_store import DETECTIONS, JOINT, RAW, Cell
from .plan import Request

_TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr")
_VALIDATION = ("val_dataloader", "val_cfg", "val_evaluator")
_TESTING = ("test_dataloader", "test_cfg", "test_evaluator")


def training_config(request: Request, cell: Cell, work_dir: Path) -> Config:
    """The config that trains a cell's detector: the plain one's budget, whatever the mode.

    No validation runs while it trains: the last checkpoint counts, none is chosen by its score.
    """
    cfg = _enhanced(request, cell)
    for key in (*_VALIDATION, *_TESTING):
        cfg[key] = None
    if request.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if cell.mode == JOINT:
        paramwise = dict(cfg.optim_wrapper.get("paramwise_cfg") or {})
        parts = dict(paramwise.get("custom_keys") or {}, **{"enhancer.": dict(lr_mult=request.enhancer_lr_mult)})
        cfg.optim_wrapper.paramwise_cfg = dict(paramwise, custom_keys=parts)
    cfg.default_hooks = dict(cfg.get("default_hooks") or {}, checkpoint=_checkpoints(cfg))
    # Starting weights may come from elsewhere; what has been done of a budget may not.
    cfg.resume = False
    return _run(cfg, request, cell, work_dir)


def _checkpoints(cfg: Config) -> dict[str, Any]:
    """As often as the config saves, where and with what an interrupted training goes on from."""
    given = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    kept = {key: given[key] for key in ("interval", "by_epoch") if key in given}
    if "max_iters" in cfg.train_cfg:
        kept["by_epoch"] = False
    return dict(kept, type="llie_preproc.AtomicCheckpointHook", max_keep_ckpts=1)


def testing_config(request: Request, cell: Cell, work_dir: Path, truth: Path, checkpoint: Path) -> Config:
    """The config that evaluates a checkpoint as a cell, by MMDetection's ``CocoMetric``, and keeps the detections."""
    cfg = _enhanced(request, cell)
    for key in (*_TRAINING, *_VALIDATION):
        cfg[key] = None
    prefix = str(work_dir / DETECTIONS)
    cfg.test_evaluator = [dict(type=METRIC, ann_file=str(truth), metric="bbox", outfile_prefix=prefix)]
    cfg.load_from, cfg.resume = str(checkpoint), False
    return _run(cfg, request, cell, work_dir)


def _enhanced(request: Request, cell: Cell) -> Config:
    if cell.enhancer == NONE or cell.mode == RAW:
        return copy.deepcopy(request.plain)
    spec, options = network_config(request.specs[cell.enhancer]), request.options.keywords()
    if cell.mode == JOINT:
        # As a plain detector does, from what fits of its checkpoint; how much must fit is checked for all modes alike.
        return add_enhancer(request.plain, spec, door="detector", trainable=True, strict=False, **options)
    # The enhancer is frozen and pictures come round many times: each is enhanced once, as it is stored, and kept.
    return add_enhancer(
        request.plain, spec, door="transform", position="after_load", cache_dir=str(request.folder / "cache"), **options
    )


def _run(cfg: Config, request: Request, cell: Cell, work_dir: Path) -> Config:
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=cell.seed)
    # They have joined by what every launcher's environment was turned into.
    cfg.launcher = "pytorch" if request.distributed else "none"
    # MMEngine keeps message hubs and visualizers by name for the whole process.
    cfg.experiment_name = f"{cell.name}-{uuid.uuid4().hex[:8]}"
    cfg.setdefault("default_scope", "mmdet")
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name
    return cfg
