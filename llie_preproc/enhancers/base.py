"""The contract of every enhancer, and the descriptor of what one needs and can do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..loaded_sources import remember_sources


@dataclass(frozen=True)
class Capabilities:
    """What an enhancer needs of its input and guarantees of its output.

    Attributes:
        scale: Output height and width over input height and width.
        size_divisor: Input height and width must be multiples of it; :func:`pad_to_requirements` provides that.
        min_size: Smallest input height and width, in pixels, that the network itself accepts.
        halo: How far, in input pixels, the result at a pixel looks: tiles that overlap by it give the same result as
            the whole image. None: it looks at the whole image (global pooling, full-image scan), and tiles are only
            an approximation.
        differentiable: Gradients flow to the input and to the parameters.
        precisions: Floating types under which the output stays faithful; ``torch.float32`` always is.
    """

    scale: int = 1
    size_divisor: int = 1
    min_size: int = 1
    halo: int | None = 0
    differentiable: bool = True
    precisions: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)


class Enhancer(nn.Module, ABC):
    """An image enhancement network: ``forward(image) -> image``.

    ``image`` is ``(N, 3, H, W)`` sRGB in RGB order, floating, in [0, 1]; the result is ``(N, 3, s*H, s*W)`` with
    ``s = self.scale``, and is **not clamped**: a hard clamp kills gradients in training, so whoever infers clamps
    (:mod:`llie_preproc.inference` does). A height or width below ``capabilities.min_size``, or no multiple of
    ``capabilities.size_divisor``, is padded by the caller with :func:`pad_to_requirements`.

    Subclasses set ``capabilities`` (on the class, or on the instance where it depends on arguments) and are
    registered with ``@llie_preproc.registry.MODELS.register_module()``.
    """

    capabilities: Capabilities = Capabilities()
    public_keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Regular expressions and replacements, applied in order, that turn the public release's keys into ours."""
    onnx_refusal: str | None = None
    """Why it cannot be exported to ONNX; None: it can. On the class, or on the instance where arguments decide."""
    compile_refusal: str | None = None
    """Why ``torch.compile`` cannot take it as one graph; None: it can."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names under which it is found, beside its registered one in any spelling."""
    made_of: ClassVar[str | None] = None
    """Name of the argument that holds the names or configs of enhancers that it is made of; None: it is one network."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What is kept on disk is told by the files of the code that runs, which may be edited later.
        remember_sources()

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.capabilities.scale

    @property
    def training_refusal(self) -> str | None:
        """Why it cannot be trained, as a clause that names it; None: it can.

        >>> from llie_preproc import build_enhancer
        >>> build_enhancer("CLAHE").training_refusal, build_enhancer("Identity").training_refusal
        ('no gradient flows through CLAHE', 'Identity has no parameters to train')
        """
        if not self.capabilities.differentiable:
            return f"no gradient flows through {type(self).__name__}"
        if not any(parameter.requires_grad for parameter in self.parameters()):
            return f"{type(self).__name__} has no parameters to train"
        return None

    @property
    def members(self) -> list[Enhancer]:
        """The enhancers that it is made of, each with weights of its own; empty: it is one network."""
        return []

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1] to ``(N, 3, s*H, s*W)``, unclamped."""


class CurveEnhancer(Enhancer):
    """An enhancer that predicts a map of curve parameters and applies it pixel by pixel.

    Such a map is smooth, so it may be predicted on a small picture and applied at full size: ``map_side`` of
    :func:`llie_preproc.enhance`.
    """

    @abstractmethod
    def predict_map(self, image: Tensor) -> Tensor:
        """The map of ``(N, 3, H, W)`` RGB in [0, 1]: ``(N, C, H, W)``, C and its range as the network has them."""

    @abstractmethod
    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """Apply a map of the image's height and width: ``(N, 3, H, W)``, unclamped, in float32 at least."""

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1]; same shape."""
        return self.apply_map(image, self.predict_map(image))


def check_image_batch(image: Tensor) -> None:
    """Raise unless ``image`` is a floating ``(N, 3, H, W)`` tensor with at least one pixel.

    Raises:
        TypeError: Not a floating point tensor.
        ValueError: Not of shape ``(N, 3, H, W)``.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"an enhancer takes a floating point tensor in [0, 1], got {kind}")
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"an enhancer takes RGB images of shape (N, 3, H, W), got {tuple(image.shape)}")


def pad_to_requirements(image: Tensor, capabilities: Capabilities) -> Tensor:
    """Pad ``(N, 3, H, W)`` at the right and bottom to the size that ``capabilities`` ask for.

    Reflection as far as the image reaches, replication beyond it; never resampling. The caller crops the result
    back to ``(s*H, s*W)``.
    """
    height, width = image.shape[-2:]
    bottom, right = (_padding(n, capabilities) for n in (height, width))
    if not bottom and not right:
        return image
    reflected = (0, min(right, width - 1), 0, min(bottom, height - 1))
    image = F.pad(image, reflected, mode="reflect")
    return F.pad(image, (0, right - reflected[1], 0, bottom - reflected[3]), mode="replicate")


def _padding(length: int, capabilities: Capabilities) -> int:
    divisor = capabilities.size_divisor
    return math.ceil(max(length, capabilities.min_size) / divisor) * divisor - length
