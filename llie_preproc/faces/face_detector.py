"""What every face detector takes and gives, and the enhancer in front of any of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS
from ..inference import FrozenEnhancer
from ..inference_options import InferenceOptions, OptionKeywords, shows_options

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Faces:
    """The faces of one image.

    Attributes:
        boxes: ``(n, 4)`` float32, x1 y1 x2 y2 in pixels of the image that was given; they may leave the frame.
        scores: ``(n,)`` float32 confidences in [0, 1].
    """

    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4) or self.scores.ndim != 1:
            raise ValueError(f"boxes must be (n, 4) and scores (n,), got {self.boxes.shape} and {self.scores.shape}")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Faces:
        """No face."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def above(self, score: float) -> Faces:
        """Those with a confidence above ``score``."""
        kept = self.scores > score
        return Faces(self.boxes[kept], self.scores[kept])


class FaceDetector(Protocol):
    """Anything that finds faces."""

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` RGB uint8, of any sizes; one :class:`Faces` for each, in order."""
        ...


class EnhancedFaceDetector:
    """Any face detector that sees enhanced images; boxes come back in the frame of the image given.

    Args:
        detector: The detector.
        enhancer: As for :func:`llie_preproc.build_enhancer`; a super-resolving one shows the detector a larger image.
        checkpoint: As for :func:`llie_preproc.build_enhancer`.
        device: Where the enhancer runs; by default where it is.
        **options: Those of :class:`~llie_preproc.InferenceOptions`. The detector sees RGB images in whatever channel
            order they are given.

    Raises:
        ValueError: An option that is none of its values, or that the enhancer cannot be run with.
    """

    @shows_options()
    def __init__(
        self,
        detector: FaceDetector,
        enhancer: str | Mapping | Enhancer,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        device: str | torch.device | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        self.detector = detector
        self.frozen = FrozenEnhancer(enhancer, InferenceOptions.of(options), checkpoint=checkpoint, device=device)

    @property
    def enhancer(self) -> Enhancer:
        """The network."""
        return self.frozen.enhancer

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` uint8, of any sizes, in the channel order of the options."""
        enhanced = self.frozen(list(images))
        if self.frozen.options.channel_order == "bgr":
            enhanced = [np.ascontiguousarray(image[..., ::-1]) for image in enhanced]
        scale = self.frozen.scale
        return [Faces(found.boxes / scale, found.scores) for found in self.detector.detect(enhanced)]


def check_images(images: Sequence[np.ndarray]) -> None:
    """Raise unless every image is ``(H, W, 3)`` uint8.

    Raises:
        TypeError: Not an array, or of another dtype.
        ValueError: Another shape.
    """
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"image {index}: a face detector takes uint8 arrays, got {kind}")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image {index}: a face detector takes RGB images (H, W, 3), got {image.shape}")
