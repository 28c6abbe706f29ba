"""MTCNN (Zhang et al., 2016) with the trained weights that are part of facenet-pytorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import needs
from .face_detector import Faces, check_images

with needs("llie_preproc.faces.MTCNN"):
    import facenet_pytorch

# Side of the window that the first network slides over the image pyramid.
_WINDOW = 12


class MTCNN:
    """Face detection by multi-task cascaded convolutional networks; nothing is downloaded.

    Args:
        min_face_size: Side, in pixels, of the smallest face that is searched for.
        thresholds: Confidences that a candidate needs after the proposal, the refinement and the output network.
        factor: Ratio of neighbouring levels of the image pyramid, in (0, 1).
        batch_size: Number of images of one size that run together.
        device: Device that the networks run on.

    Raises:
        ValueError: An argument is outside its range.

    Examples:
        >>> detector = MTCNN(min_face_size=40)
        >>> [len(faces) for faces in detector.detect([np.zeros((48, 64, 3), np.uint8)])]
        [0]
    """

    def __init__(
        self,
        min_face_size: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
    ) -> None:
        if min_face_size < 1 or batch_size < 1:
            raise ValueError(f"min_face_size and batch_size must be positive, got {min_face_size} and {batch_size}")
        if not 0 < factor < 1 or len(thresholds) != 3 or not all(0 <= t <= 1 for t in thresholds):
            raise ValueError(f"factor must be in (0, 1) and three thresholds in [0, 1], got {factor} and {thresholds}")
        self.min_face_size, self.batch_size = min_face_size, batch_size
        self._network = facenet_pytorch.MTCNN(
            min_face_size=min_face_size,
            thresholds=list(thresholds),
            factor=factor,
            keep_all=True,
            select_largest=False,
            device=torch.device(device),
        )

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` RGB uint8 of any sizes.

        In an image smaller than ``min_face_size`` no face is found.

        Raises:
            TypeError: An image is not an array, or not of dtype uint8.
            ValueError: An image has another shape.
        """
        check_images(images)
        results = [Faces.none() for _ in images]
        large = [i for i, image in enumerate(images) if self._fits_window(image)]
        large.sort(key=lambda i: images[i].shape)
        start = 0
        while start < len(large):
            shape = images[large[start]].shape
            batch = [i for i in large[start : start + self.batch_size] if images[i].shape == shape]
            for i, faces in zip(batch, self._detect_equal(np.stack([images[i] for i in batch])), strict=True):
                results[i] = faces
            start += len(batch)
        return results

    def _fits_window(self, image: np.ndarray) -> bool:
        # This is the arithmetic of facenet-pytorch, which fails if its pyramid has no level.
        return min(image.shape[:2]) * (_WINDOW / self.min_face_size) >= _WINDOW

    def _detect_equal(self, images: np.ndarray) -> list[Faces]:
        """Find the faces of images ``(N, H, W, 3)`` of one size."""
        boxes, scores = self._network.detect(images)
        return [
            Faces.none() if b is None else Faces(np.asarray(b, np.float32), np.asarray(s, np.float32))
            for b, s in zip(boxes, scores, strict=True)
        ]
