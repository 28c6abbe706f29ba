"""Face detectors with one interface, an enhancer in front of them, and a vote over several views of a picture."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .face_detector import EnhancedFaceDetector, FaceDetector, Faces
from .voting import Pass, VotedFaceDetector, box_voting, fddb_passes, wider_passes

if TYPE_CHECKING:
    from .mmdetection import MMDetFaceDetector
    from .mtcnn import MTCNN

__all__ = [
    "MTCNN",
    "EnhancedFaceDetector",
    "FaceDetector",
    "Faces",
    "MMDetFaceDetector",
    "Pass",
    "VotedFaceDetector",
    "box_voting",
    "fddb_passes",
    "wider_passes",
]

_MODULES = {"MTCNN": ".mtcnn", "MMDetFaceDetector": ".mmdetection"}


def __getattr__(name: str) -> Any:
    """Import a detector when it is first used, because each needs an extra."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
