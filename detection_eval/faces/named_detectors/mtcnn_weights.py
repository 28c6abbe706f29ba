"""The face detector MTCNN with the weights that come with its package."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

from llie_preproc.errors import needs
from llie_preproc.faces import FaceDetector

from .base import NamedDetector, face_detector


@face_detector("mtcnn")
class NamedMtcnn(NamedDetector):
    """MTCNN of the package facenet-pytorch."""

    def made_with(self, checkpoint: str | None) -> dict[str, str]:
        """Return the version of the package."""
        # The import shows whether the packages that facenet_pytorch itself needs are installed.
        with needs("--detector mtcnn"):
            import_module("facenet_pytorch")
        return dict(facenet_pytorch=version("facenet-pytorch"))

    def build(self, checkpoint: str | None, device: str) -> FaceDetector:
        """Build MTCNN."""
        from llie_preproc.faces import MTCNN

        return MTCNN(device=device)
