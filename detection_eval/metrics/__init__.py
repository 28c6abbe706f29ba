"""MMEngine metrics."""

from llie_preproc.errors import require

require("mmengine", "detection_eval.metrics")
require("torchmetrics", "detection_eval.metrics")

from .image_quality import ImageQuality, image_quality  # noqa: E402

__all__ = ["ImageQuality", "image_quality"]
