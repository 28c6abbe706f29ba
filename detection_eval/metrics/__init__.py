"""Metrics of enhanced images: plain functions, a set of them by name, and the MMEngine metric. Scores of detections."""

from llie_preproc.errors import require

require("mmengine", "detection_eval.metrics")
require("torchmetrics", "detection_eval.metrics")

from .bootstrap import Interval, differences, intervals, resample  # noqa: E402
from .coco import CocoScores  # noqa: E402
from .detections import read_detections, read_truth  # noqa: E402
from .eme import eme  # noqa: E402
from .fid import frechet_distance, inception_features, read_inception  # noqa: E402
from .fsim import fsim_bands, fsimc  # noqa: E402
from .gt_mean import match_mean  # noqa: E402
from .image_quality import ImageQuality, image_quality  # noqa: E402
from .loe import lightness_order_error  # noqa: E402
from .lpips import lpips, read_lpips  # noqa: E402
from .niqe import NiqeModel, niqe, read_niqe_model  # noqa: E402
from .psnr import psnr  # noqa: E402
from .rmse import rmse  # noqa: E402
from .sre import sre  # noqa: E402
from .ssim import ssim, ssim_piq, ssim_skimage  # noqa: E402
from .suite import QualitySettings, QualitySuite, metric_names  # noqa: E402
from .visdrone import VisDroneScores  # noqa: E402

__all__ = [
    "CocoScores",
    "ImageQuality",
    "Interval",
    "NiqeModel",
    "QualitySettings",
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
