"""Segment Anything on dark images: it sees them enhanced, while prompts and masks stay in the raw image's frame."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .models import PUBLIC_CHECKPOINTS, SAM_SIZES, build_sam

if TYPE_CHECKING:
    from .automatic import EnhancedSamAutomaticMaskGenerator
    from .predictor import EnhancedImage, EnhancedSamPredictor, decode_masks, sam_embeddings

__all__ = [
    "PUBLIC_CHECKPOINTS",
    "SAM_SIZES",
    "EnhancedImage",
    "EnhancedSamAutomaticMaskGenerator",
    "EnhancedSamPredictor",
    "build_sam",
    "decode_masks",
    "sam_embeddings",
]

_MODULES = {
    "EnhancedImage": ".predictor",
    "EnhancedSamAutomaticMaskGenerator": ".automatic",
    "EnhancedSamPredictor": ".predictor",
    "decode_masks": ".predictor",
    "sam_embeddings": ".predictor",
}


def __getattr__(name: str) -> Any:
    """Import a class or function that needs segment-anything when it is first used."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
