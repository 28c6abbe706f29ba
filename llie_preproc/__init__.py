"""Low-light and extreme-light enhancement in front of detectors, face detectors and SAM."""

from . import configs, mmcv_ops
from .inference import build_enhancer, enhance
from .version import __version__

# Before anything imports mmdet: its models do not import where mmcv lacks its operators.
mmcv_ops.install()
configs.lend_backbone()

__all__ = ["__version__", "build_enhancer", "enhance"]
