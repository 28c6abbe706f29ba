"""The interface of every face detector, and an enhancer in front of any of them."""

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
        boxes: Boxes ``(n, 4)`` float32, x1 y1 x2 y2 in pixels of the given image; they may leave its frame.
        scores: Confidences ``(n,)`` float32 in [0, 1].

    Raises:
        ValueError: The shapes of ``boxes`` and ``scores`` do not fit.

    Examples:
        >>> faces = Faces(np.array([[0, 0, 9, 9], [5, 5, 8, 8]], np.float32), np.array([0.9, 0.3], np.float32))
        >>> len(faces), len(faces.above(0.5))
        (2, 1)
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
        """A result without any face."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def above(self, score: float) -> Faces:
        """The faces whose confidence is above ``score``."""
        kept = self.scores > score
        return Faces(self.boxes[kept], self.scores[kept])


class FaceDetector(Protocol):
    """Interface of every face detector: any class with this method ``detect`` is one.

    Examples:
        >>> class BrightestPixel:
        ...     def detect(self, images):
        ...         return [self.found(image.max(axis=2)) for image in images]
        ...
        ...     def found(self, levels):
        ...         y, x = np.unravel_index(levels.argmax(), levels.shape)
        ...         return Faces(np.array([[x, y, x + 1, y + 1]], np.float32), np.ones(1, np.float32))
        >>> detector: FaceDetector = BrightestPixel()
        >>> detector.detect([np.eye(4, dtype=np.uint8)[:, :, None].repeat(3, 2)])[0].boxes.tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` RGB uint8 of any sizes; return one :class:`Faces` for each image."""
        ...


class EnhancedFaceDetector:
    """A face detector that sees enhanced images, and returns its boxes in pixels of the given images.

    Args:
        detector: Face detector that sees the enhanced images.
        enhancer: Enhancer, as for :func:`llie_preproc.build_enhancer`. If it enlarges images, the detector sees a
            larger image.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        device: Device that the enhancer runs on; by default the enhancer stays where it is.
        **options: Fields of :class:`~llie_preproc.InferenceOptions`. The detector always sees RGB images, whatever the
            channel order of the given ones is.

    Raises:
        ValueError: An option has an unknown value, or one that the enhancer cannot run with.

    Examples:
        >>> class WholeImage:
        ...     def detect(self, images):
        ...         sizes = [image.shape[1::-1] for image in images]
        ...         return [Faces(np.array([[0, 0, w, h]], np.float32), np.ones(1, np.float32)) for w, h in sizes]
        >>> detector = EnhancedFaceDetector(WholeImage(), dict(type="Upscale", scale=2))
        >>> detector.detect([np.zeros((20, 30, 3), np.uint8)])[0].boxes.tolist()
        [[0.0, 0.0, 30.0, 20.0]]
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
        """The network in front of the detector."""
        return self.frozen.enhancer

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images ``(H, W, 3)`` uint8 of any sizes, whose channel order is that of the options."""
        enhanced = self.frozen(list(images))
        if self.frozen.options.channel_order == "bgr":
            enhanced = [np.ascontiguousarray(image[..., ::-1]) for image in enhanced]
        scale = self.frozen.scale
        return [Faces(found.boxes / scale, found.scores) for found in self.detector.detect(enhanced)]


def check_images(images: Sequence[np.ndarray]) -> None:
    """Raise unless every image is ``(H, W, 3)`` uint8.

    Raises:
        TypeError: An image is not an array, or not of dtype uint8.
        ValueError: An image has another shape.
    """
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"image {index}: a face detector needs uint8 arrays, got {kind}")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image {index}: a face detector needs RGB images (H, W, 3), got {image.shape}")
