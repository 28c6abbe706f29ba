"""The configs that train and test the cells of a comparison, made from its plain config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from llie_preproc.detection import add_enhancer
from llie_preproc.detection.coco_sets import METRIC
from llie_preproc.detection.enhanced_config import insert_after_loading
from llie_preproc.mm.run_settings import set_checkpoints, set_enhancer_lr, set_name, set_wrapper

from ..shared.enhancers import NONE, network_config
from .comparison_store import DETECTIONS, JOINT, RAW, Cell
from .plan import Request

_TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr")
_VALIDATION = ("val_dataloader", "val_cfg", "val_evaluator")
_TESTING = ("test_dataloader", "test_cfg", "test_evaluator")


def training_config(request: Request, cell: Cell, work_dir: Path) -> Config:
    """Make the config that trains a cell's detector, with the budget of the plain config in every mode.

    The detector is trained on the pictures as they are, even if the cell tests it in another light.
    No validation runs during the training: the last checkpoint counts, and none is chosen by its score.
    """
    cfg = _enhanced(request, cell)
    for key in (*_VALIDATION, *_TESTING):
        cfg[key] = None
    if request.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if cell.mode == JOINT:
        set_enhancer_lr(cfg, request.enhancer_lr_mult)
    # Without validation no checkpoint is the best.
    set_checkpoints(cfg, max_keep_ckpts=1, save_best=None)
    # A config may start from other weights, but it must not resume a training that has used a part of its budget.
    cfg.resume = False
    return _run(cfg, request, cell, work_dir)


def testing_config(
    request: Request,
    cell: Cell,
    work_dir: Path,
    truth: Path,
    checkpoint: Path,
    classes: Mapping[str, str | None] | None,
) -> Config:
    """Make the config that tests a checkpoint as a cell, by MMDetection's ``CocoMetric``, and keeps the detections.

    Args:
        request: Settings of all cells.
        cell: Cell to test.
        work_dir: Folder of the cell.
        truth: Annotation file of the measured classes.
        checkpoint: Weights of the detector.
        classes: Mapping from the detector's classes to those of ``truth``; None to match them by name.
    """
    cfg = _enhanced(request, cell)
    for key in (*_TRAINING, *_VALIDATION):
        cfg[key] = None
    prefix = str(work_dir / DETECTIONS)
    cfg.test_evaluator = [dict(type=METRIC, ann_file=str(truth), metric="bbox", outfile_prefix=prefix, classes=classes)]
    if request.axis is not None and cell.light is not None and cell.light != request.axis.as_is:
        relight = request.axis.transform(cell.light, request.photographs_dir)
        insert_after_loading(cfg.test_dataloader, relight, "test_dataloader")
    cfg.load_from, cfg.resume = str(checkpoint), False
    return _run(cfg, request, cell, work_dir)


def _enhanced(request: Request, cell: Cell) -> Config:
    if cell.enhancer == NONE or cell.mode == RAW:
        return copy.deepcopy(request.plain)
    spec, options = network_config(request.specs[cell.enhancer]), request.options.keywords()
    if cell.mode == JOINT:
        # As for a plain detector, only a part of the checkpoint must fit; it is checked later that this part is enough.
        return add_enhancer(request.plain, spec, door="detector", trainable=True, strict=False, **options)
    # The enhancer is frozen and the training repeats pictures, so each stored picture is enhanced once and cached.
    return add_enhancer(
        request.plain, spec, door="transform", position="after_load", cache_dir=str(request.folder / "cache"), **options
    )


def _run(cfg: Config, request: Request, cell: Cell, work_dir: Path) -> Config:
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=cell.seed)
    # The processes have joined by the variables of PyTorch, which were set whatever the launcher.
    cfg.launcher = "pytorch" if request.distributed else "none"
    cfg.setdefault("default_scope", "mmdet")
    set_name(cfg, cell.name)
    set_wrapper(cfg)
    return cfg
