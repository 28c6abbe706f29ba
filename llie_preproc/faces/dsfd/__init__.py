"""DSFD, the dual shot face detector, for MMDetection 3.x: its network, its training parts and its checkpoints."""

from ...errors import needs

with needs("llie_preproc.faces.dsfd"):
    from ...mm import finder
    from .assigner import FaceAnchorAssigner
    from .backbones import DSFDVGG, DSFDResNet
    from .data_anchor_sampling import DataAnchorSampling
    from .detector import DSFD
    from .head import DSFDHead
    from .neck import DSFDNeck
    from .public import convert_public


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
