"""From the plain config of a request to those of its cells."""

from __future__ import annotations

import copy
from pathlib import Path

from mmengine.config import Config

from llie_preproc.detection import add_enhancer
from llie_preproc.detection.coco_sets import METRIC
from llie_preproc.mm.run_settings import set_checkpoints, set_enhancer_lr, set_name, set_wrapper

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
        set_enhancer_lr(cfg, request.enhancer_lr_mult)
    # Nothing is validated, so none is the best.
    set_checkpoints(cfg, max_keep_ckpts=1, save_best=None)
    # Starting weights may come from elsewhere; what has been done of a budget may not.
    cfg.resume = False
    return _run(cfg, request, cell, work_dir)


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
    cfg.setdefault("default_scope", "mmdet")
    set_name(cfg, cell.name)
    set_wrapper(cfg)
    return cfg
