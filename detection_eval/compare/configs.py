"""From the plain config of a request to those of its cells."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path

from mmengine.config import Config

from llie_preproc.detection import add_enhancer

from .networks import network_config
from .plan import Request
from .results import DETECTIONS, JOINT, NONE, RAW, Cell

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
        parts = cfg.optim_wrapper.setdefault("paramwise_cfg", {}).setdefault("custom_keys", {})
        parts["enhancer."] = dict(lr_mult=request.enhancer_lr_mult)
    hooks = cfg.setdefault("default_hooks", {})
    kept = {k: v for k, v in hooks.get("checkpoint", {}).items() if k not in ("save_best", "rule", "published_keys")}
    hooks["checkpoint"] = dict(kept, type="llie_preproc.AtomicCheckpointHook", max_keep_ckpts=1)
    if cfg.train_cfg.get("type") == "IterBasedTrainLoop":
        hooks["checkpoint"]["by_epoch"] = False
    cfg.randomness = dict(cfg.get("randomness", {}), seed=cell.seed)
    return _run(cfg, request, cell, work_dir)


def testing_config(request: Request, cell: Cell, work_dir: Path, truth: Path, checkpoint: Path) -> Config:
    """The config that evaluates a checkpoint as a cell, by MMDetection's ``CocoMetric``, and keeps the detections."""
    cfg = _enhanced(request, cell)
    for key in (*_TRAINING, *_VALIDATION):
        cfg[key] = None
    prefix = str(work_dir / DETECTIONS)
    cfg.test_evaluator = [dict(type="mmdet.CocoMetric", ann_file=str(truth), metric="bbox", outfile_prefix=prefix)]
    cfg.load_from, cfg.resume = str(checkpoint), False
    return _run(cfg, request, cell, work_dir)


def _enhanced(request: Request, cell: Cell) -> Config:
    if cell.enhancer == NONE or cell.mode == RAW:
        return copy.deepcopy(request.plain)
    spec = network_config(request.specs[cell.enhancer])
    if cell.mode == JOINT:
        return add_enhancer(request.plain, spec, door="detector", trainable=True)
    # The enhancer is frozen and pictures come round many times: each is enhanced once, as it is stored, and kept.
    return add_enhancer(
        request.plain, spec, door="transform", position="after_load", cache_dir=str(request.folder / "cache")
    )


def _run(cfg: Config, request: Request, cell: Cell, work_dir: Path) -> Config:
    cfg.work_dir, cfg.launcher = str(work_dir), request.launcher
    # MMEngine keeps message hubs and visualizers by name for the whole process.
    cfg.experiment_name = f"{cell.name}-{uuid.uuid4().hex[:8]}"
    if "visualizer" in cfg:
        cfg.visualizer.name = cfg.experiment_name
    return cfg
