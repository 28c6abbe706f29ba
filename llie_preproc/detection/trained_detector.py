"""Building a trained detector of MMDetection from its config and its checkpoint, without running code of the file."""

from __future__ import annotations

import os
import warnings

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn

from ..checkpoints import LoadReport, check_weights, is_counter
from ..errors import CheckpointError
from ..mm import finder
from ..mm.runner_parts import read_checkpoint
from ..safe_loading import safe_loading
from .coco_sets import checkpoint_classes

# A checkpoint must have at least this share of the detector's tensors.
_MIN_MATCHED = 0.9


def build_trained_detector(cfg: Config, checkpoint: str | os.PathLike[str] | None) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the detector of a config on the CPU, with the weights of a checkpoint.

    Args:
        cfg: Config of a detector of MMDetection 3.x, with or without an enhancer.
        checkpoint: File that MMEngine wrote or that holds a state dict, or a URL of one that ends in
            ``#sha256=<digest>``. No code of the file is run. None keeps the weights that the config builds.

    Returns:
        Detector in training mode, and the names of the checkpoint's classes; no names if it has none.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        CheckpointError: The checkpoint is damaged or unsafe, or does not fit.

    Examples:
        >>> model = dict(
        ...     type="RetinaNet",
        ...     data_preprocessor=dict(type="DetDataPreprocessor"),
        ...     backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
        ...     neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
        ...     bbox_head=dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8),
        ... )
        >>> detector, names = build_trained_detector(Config(dict(model=model)), checkpoint=None)
        >>> type(detector).__name__, names
        ('RetinaNet', ())
    """
    # Modules of MMDetection that were imported before the stand-in for its operators hold placeholders.
    finder.repair_mmdet()
    register_all_modules(init_default_scope=False)
    with safe_loading(), DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmdet"):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        return model, _load(model, checkpoint)


def _load(model: nn.Module, checkpoint: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Load the checkpoint and return the names of its classes, or none if it does not name them."""
    if checkpoint is None:
        return ()
    content = read_checkpoint(checkpoint)
    # Distributed training adds the prefix, which MMEngine's own loading removes too.
    state = {name.removeprefix("module."): value for name, value in content.get("state_dict", content).items()}
    check_weights(state, model, checkpoint)
    try:
        keys = model.load_state_dict(state, strict=False)
    except (RuntimeError, CheckpointError) as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    missing, total = tuple(keys.missing_keys), len(model.state_dict())
    report = LoadReport(total - len(missing), total, missing, tuple(keys.unexpected_keys), ()).without(is_counter)
    report.check(f"{checkpoint} is not a checkpoint of this {type(model).__name__}", _MIN_MATCHED)
    if report.missing:
        warnings.warn(f"{checkpoint}: {report}", stacklevel=4)
    return checkpoint_classes(content)
