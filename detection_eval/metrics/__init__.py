"""Metrics of enhanced images (functions, a suite by name, an MMEngine metric), and scores of detections."""

from typing import Any

from llie_preproc.errors import Extras

from .bootstrap import Interval, differences, intervals, resample
from .coco import CocoScores
from .detections import read_detections, read_truth
from .eme import eme
from .fid import frechet_distance, inception_features, read_inception
from .fsim import fsim_bands, fsimc
from .gt_mean import match_mean
from .loe import lightness_order_error
from .lpips import lpips, read_lpips
from .niqe import NiqeModel, niqe, read_niqe_model
from .psnr import psnr
from .rmse import rmse
from .sre import sre
from .ssim import ssim, ssim_piq, ssim_skimage
from .suite import QualitySuite, metric_names, metric_settings
from .visdrone import VisDroneScores

_NEEDS = Extras("mm")
with _NEEDS:
    from .image_quality import ImageQuality, image_quality


__all__ = [
    "CocoScores",
    "ImageQuality",
    "Interval",
    "NiqeModel",
    "QualitySuite",
    "VisDroneScores",
    "differences",
    "eme",
    "frechet_distance",
    "fsim_bands",
    "fsimc",
    "image_quality",
    "inception_features",
    "intervals",
    "lightness_order_error",
    "lpips",
    "match_mean",
    "metric_names",
    "metric_settings",
    "niqe",
    "psnr",
    "read_detections",
    "read_inception",
    "read_lpips",
    "read_niqe_model",
    "read_truth",
    "resample",
    "rmse",
    "sre",
    "ssim",
    "ssim_piq",
    "ssim_skimage",
]


def __getattr__(name: str) -> Any:
    """Name the extra that the MMEngine metric needs, if it is not installed."""
    if name in ("ImageQuality", "image_quality"):
        _NEEDS.check(f"detection_eval.metrics.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
