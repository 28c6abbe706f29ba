"""The contract of every enhancer, and the description of what an enhancer needs and can do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..loaded_sources import remember_sources


@dataclass(frozen=True)
class Capabilities:
    """Requirements of an enhancer on its input, and guarantees for its output.

    Attributes:
        scale: Factor from input to output height and width.
        size_divisor: Number that input height and width must be multiples of; :func:`pad_to_requirements` ensures it.
        min_size: Smallest input height and width, in pixels, that the network itself accepts.
        halo: Distance, in input pixels, over which the result at a pixel depends on the input: tiles that overlap by
            the halo give the same result as the whole image. None means that the result depends on the whole image
            (global pooling, full-image scan), so that tiles only approximate it.
        differentiable: Whether gradients flow to the input and to the parameters.
        precisions: Floating point types under which the output stays faithful; ``torch.float32`` is always among them.

    Examples:
        >>> Capabilities(scale=2, size_divisor=8).halo
        0
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
    ``s = self.scale``, and is **not clamped**: a hard clamp kills gradients in training, so inference clamps
    (:mod:`llie_preproc.inference`). If a height or width is below ``capabilities.min_size`` or is not a multiple of
    ``capabilities.size_divisor``, the caller pads the image with :func:`pad_to_requirements`.

    Subclasses set ``capabilities`` (on the class, or on the instance if it depends on arguments) and are registered
    with ``@llie_preproc.registry.MODELS.register_module()``.

    Examples:
        >>> class Halved(Enhancer):
        ...     def forward(self, image):
        ...         return image / 2
        >>> Halved()(torch.ones(1, 3, 1, 2))[0, 0].tolist()
        [[0.5, 0.5]]
    """

    capabilities: Capabilities = Capabilities()
    public_keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Regular expressions and replacements, applied in order, that turn the public release's keys into ours."""
    onnx_refusal: str | None = None
    """Reason why the enhancer cannot be exported to ONNX, or None; set on the instance if it depends on arguments."""
    compile_refusal: str | None = None
    """Reason why ``torch.compile`` cannot compile the enhancer as one graph, or None if it can."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the enhancer, beside its registered name in any spelling."""
    made_of: ClassVar[str | None] = None
    """Name of the argument that takes the members of the enhancer; None for a single network."""
    arguments: Mapping[str, Any] | None = None
    """Arguments with which :func:`~llie_preproc.build_enhancer` constructed the enhancer; None if it did not."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Caches on disk are keyed by the imported source code, which is kept now because its file may be edited later.
        remember_sources()

    @property
    def scale(self) -> int:
        """Factor from input to output height and width."""
        return self.capabilities.scale

    @property
    def training_refusal(self) -> str | None:
        """Reason why the enhancer cannot be trained, as a clause that names the enhancer; None if it can.

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
        """The enhancers that this one consists of, each with its own weights; empty for a single network."""
        return []

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1] to ``(N, 3, s*H, s*W)``, unclamped."""


class CurveEnhancer(Enhancer):
    """An enhancer that predicts a map of curve parameters and applies it pixel by pixel.

    Such a map is smooth, so it may be predicted on a small copy of the picture and applied at full size; the option
    ``map_side`` of :class:`llie_preproc.InferenceOptions` does so.

    Examples:
        >>> class Darkened(CurveEnhancer):
        ...     def predict_map(self, image):
        ...         return 1 + image.mean(1, keepdim=True)
        ...
        ...     def apply_map(self, image, map):
        ...         return image**map
        >>> Darkened()(torch.ones(1, 3, 8, 8)).shape
        torch.Size([1, 3, 8, 8])
    """

    @abstractmethod
    def predict_map(self, image: Tensor) -> Tensor:
        """Predict the map ``(N, C, H, W)`` of ``(N, 3, H, W)`` RGB in [0, 1]; the network defines C and the range."""

    @abstractmethod
    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """Apply a map of the image's height and width: ``(N, 3, H, W)``, unclamped, in float32 at least."""

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1]; the result has the same shape."""
        return self.apply_map(image, self.predict_map(image))


def check_image_batch(image: Tensor, divisor: int = 1) -> None:
    """Raise unless ``image`` is a floating ``(N, 3, H, W)`` tensor with at least one pixel.

    Args:
        image: Given pictures.
        divisor: Number that H and W must be multiples of.

    Raises:
        TypeError: ``image`` is not a floating point tensor.
        ValueError: The shape is not ``(N, 3, H, W)``, a dimension is 0, or H or W is not a multiple of ``divisor``.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"an enhancer needs a floating point tensor in [0, 1], got {kind}")
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"an enhancer needs RGB images of shape (N, 3, H, W), got {tuple(image.shape)}")
    if any(n % divisor for n in image.shape[-2:]):
        raise ValueError(f"height and width must be multiples of {divisor}, got {tuple(image.shape[-2:])}")


def pad_to_requirements(image: Tensor, capabilities: Capabilities) -> Tensor:
    """Pad ``(N, 3, H, W)`` at the right and bottom to the size that ``capabilities`` require.

    The padding reflects the image as far as the image reaches and replicates its edge beyond that; nothing is
    resampled. The caller crops the enhanced image back to ``(s*H, s*W)``.

    Examples:
        >>> pad_to_requirements(torch.zeros(1, 3, 5, 16), Capabilities(size_divisor=8)).shape
        torch.Size([1, 3, 8, 16])
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
