"""DSFD, the dual shot face detector, in MMDetection 3.x: network, training parts, public checkpoints."""

from ...errors import require

require("mmdet", "llie_preproc.faces.dsfd")

from ...mm import finder  # noqa: E402
from .assigner import FaceAnchorAssigner  # noqa: E402
from .backbones import DSFDVGG, DSFDResNet  # noqa: E402
from .data_anchor_sampling import DataAnchorSampling  # noqa: E402
from .detector import DSFD  # noqa: E402
from .head import DSFDHead  # noqa: E402
from .neck import DSFDNeck  # noqa: E402
from .public import convert_public  # noqa: E402

finder.repair_mmdet()

__all__ = [
    "DSFD",
    "DSFDVGG",
    "DSFDHead",
    "DSFDNeck",
    "DSFDResNet",
    "DataAnchorSampling",
    "FaceAnchorAssigner",
    "convert_public",
]
