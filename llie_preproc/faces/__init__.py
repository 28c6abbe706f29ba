"""Face detectors behind one protocol, and the enhancer in front of them."""

from typing import TYPE_CHECKING, Any

from .protocol import EnhancedFaceDetector, FaceDetector, Faces

if TYPE_CHECKING:
    from .mtcnn import MTCNN

__all__ = ["MTCNN", "EnhancedFaceDetector", "FaceDetector", "Faces"]


def __getattr__(name: str) -> Any:
    """Import a detector when it is first asked for: each needs an extra."""
    if name == "MTCNN":
        from .mtcnn import MTCNN

        return MTCNN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
