"""Low-light and extreme-light enhancement in front of detectors, face detectors and SAM."""

import sys

from . import mmcv_ops
from .inference import build_enhancer, enhance
from .version import __version__

# Before anything imports mmdet: its models do not import where mmcv lacks its operators.
mmcv_ops.install()
if sys.modules.get("mmengine"):
    # As when a config names this package in custom_imports: its model may be plain, and load what is not for it.
    from .checkpoint_names import watch_models

    watch_models()

__all__ = ["__version__", "build_enhancer", "enhance"]
