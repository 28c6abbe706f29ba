"""Geometric transforms that change a picture, its references and its masks alike.

Each transform is a callable from ``dict`` to ``dict`` of ``(3, H, W)`` uint8 pictures. ``image`` is one of them; each
reference is a whole number of times as large; ``masks`` are ``(n, H, W)``. Random numbers come from PyTorch's CPU
generator. ``output_size(width, height)`` tells what becomes of an input of that size: one ``(width, height)``, or a
list of sizes of which one is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from llie_preproc.checks import at_least, rising, within
from llie_preproc.registry import TRANSFORMS

from .base import MASKS, Pictures, edges, resize_masks
from .draws import uniform


@TRANSFORMS.register_module()
class PairedResize:
    """Resizes the input, and references and masks by the same factors.

    Pictures are sampled bilinearly, masks to the nearest pixel. By default pictures are first smoothed by Pillow's
    low-pass filter (``antialias``), so that shrunk night pictures average their noise instead of picking single pixels.
    Semi-LLIE resizes pairs to 280x280 before its crop of 256.

    >>> image, target = (torch.zeros(3, *size, dtype=torch.uint8) for size in ((40, 60), (80, 120)))
    >>> pictures = dict(image=image, target=target)
    >>> {field: tuple(picture.shape) for field, picture in PairedResize(factor=0.5)(pictures).items()}
    {'image': (3, 20, 30), 'target': (3, 40, 60)}

    Args:
        size: New size of the input, an edge or ``(width, height)``.
        factor: Factor of the input's own size, in place of ``size``; the result is rounded. PSENet evaluates SICE at
            0.25.
        antialias: Whether to smooth pictures before they are sampled.

    Raises:
        ValueError: Both or neither of ``size`` and ``factor`` are given, or the one given is not positive.
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, factor: float | None = None, antialias: bool = True
    ) -> None:
        if (size is None) == (factor is None):
            raise ValueError(f"exactly one of size and factor must be given, got size={size} and factor={factor}")
        if factor is not None:
            within("factor", factor, above=0)
        self.size = None if size is None else edges(size)
        self.factor, self.antialias = factor, antialias

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        if self.factor is None:
            return self.size or (width, height)
        return max(1, round(self.factor * width)), max(1, round(self.factor * height))

    def __call__(self, pictures: Pictures) -> Pictures:
        width, height = self.output_size(*_size(pictures["image"]))

        def resized(picture: Tensor, scale: int) -> Tensor:
            return F.resize(
                picture, [scale * height, scale * width], InterpolationMode.BILINEAR, antialias=self.antialias
            )

        return _each(pictures, resized, lambda masks, scale: resize_masks(masks, (scale * width, scale * height)))


@TRANSFORMS.register_module()
class PairedRandomResize:
    """Resizes the input by a factor drawn at random. References stay as many times as large as they were.

    Pictures are sampled as by :class:`PairedResize`.

    >>> image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    >>> PairedRandomResize((0.5, 0.5))(dict(image=image))["image"].shape
    torch.Size([3, 20, 30])
    >>> PairedRandomResize((0.5, 0.5), least=40)(dict(image=image))["image"].shape
    torch.Size([3, 40, 60])

    Args:
        factor: Range of the factor, drawn uniformly.
        least: Smallest shorter edge of the result, such as that of the crop that follows. Where the factor would make
            it smaller, the picture is resized to this edge.

    Raises:
        ValueError: ``factor`` is not two numbers ``0 < low <= high``, or ``least`` is below 1.
    """

    def __init__(self, factor: Sequence[float], least: int = 1) -> None:
        rising("factor", factor, above=0)
        at_least("least", least, 1)
        self.factor, self.least = factor, least

    def output_size(self, width: int, height: int) -> list[tuple[int, int]]:
        """The smallest and the largest size that may be drawn."""
        return [self._resized_size(width, height, factor) for factor in self.factor]

    def __call__(self, pictures: Pictures) -> Pictures:
        height, width = pictures["image"].shape[-2:]
        return PairedResize(self._resized_size(width, height, uniform(self.factor)))(pictures)

    def _resized_size(self, width: int, height: int, factor: float) -> tuple[int, int]:
        factor = max(factor, self.least / min(height, width))
        return max(self.least, round(factor * width)), max(self.least, round(factor * height))


@TRANSFORMS.register_module()
class PairedRandomCrop:
    """Crops one window, drawn uniformly, out of the input, and the same part out of the references.

    >>> image, target = (torch.zeros(3, *size, dtype=torch.uint8) for size in ((40, 60), (80, 120)))
    >>> pictures = dict(image=image, target=target)
    >>> {field: tuple(picture.shape) for field, picture in PairedRandomCrop(32)(pictures).items()}
    {'image': (3, 32, 32), 'target': (3, 64, 64)}

    Args:
        size: Size of the window in pixels of the input, an edge or ``(width, height)``.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = edges(size)

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """The size of the window.

        Raises:
            ValueError: The picture is smaller than the window.
        """
        if width < self.size[0] or height < self.size[1]:
            raise ValueError(f"{width}x{height} is smaller than the crop of {self.size[0]}x{self.size[1]}")
        return self.size

    def __call__(self, pictures: Pictures) -> Pictures:
        (width, height), (full_width, full_height) = self.size, _size(pictures["image"])
        self.output_size(full_width, full_height)
        top = int(torch.randint(full_height - height + 1, ()))
        left = int(torch.randint(full_width - width + 1, ()))
        return _each(pictures, lambda p, s: p[:, s * top : s * (top + height), s * left : s * (left + width)])


@TRANSFORMS.register_module()
class RandomDihedral:
    """Applies one of the eight turns and mirrorings of a rectangle, drawn uniformly.

    Four of them exchange width and height.

    >>> RandomDihedral().output_size(60, 40)
    [(60, 40), (40, 60)]
    >>> sorted(RandomDihedral()(dict(image=torch.zeros(3, 40, 60, dtype=torch.uint8)))["image"].shape)
    [3, 40, 60]
    """

    def output_size(self, width: int, height: int) -> list[tuple[int, int]]:
        return [(width, height), (height, width)]

    def __call__(self, pictures: Pictures) -> Pictures:
        number = int(torch.randint(8, ()))
        return _each(pictures, lambda p, s: dihedral(p, number))


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirrors along each chosen axis with probability 1/2, independently of the other axis.

    IAML chooses both axes, CollaBA the horizontal one.

    >>> pictures = dict(image=torch.zeros(3, 40, 60, dtype=torch.uint8))
    >>> RandomFlip(vertical=False)(pictures)["image"].shape
    torch.Size([3, 40, 60])

    Args:
        horizontal: Whether left and right may be exchanged.
        vertical: Whether top and bottom may be exchanged.
    """

    def __init__(self, horizontal: bool = True, vertical: bool = True) -> None:
        self.axes = [axis for axis, chosen in ((-1, horizontal), (-2, vertical)) if chosen]

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def __call__(self, pictures: Pictures) -> Pictures:
        axes = [axis for axis in self.axes if torch.rand(()) < 0.5]
        return _each(pictures, lambda p, s: p.flip(axes) if axes else p)


def dihedral(picture: Tensor, number: int) -> Tensor:
    """The picture ``(..., H, W)`` turned counter-clockwise by ``number % 4`` quarters, and mirrored if ``number`` > 3.

    >>> dihedral(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2, 4], [1, 3]]
    """
    turned = torch.rot90(picture, number % 4, (-2, -1))
    return turned.flip(-1) if number > 3 else turned


def _each(
    pictures: Pictures,
    change: Callable[[Tensor, int], Tensor],
    change_masks: Callable[[Tensor, int], Tensor] | None = None,
) -> Pictures:
    """The pictures by field after ``change(picture, scale)``; masks go through ``change_masks`` if it is given.

    Raises:
        ValueError: A picture is not a whole number of times as large as ``image``.
    """
    width, height = _size(pictures["image"])
    changed = {}
    for field, picture in pictures.items():
        scale = picture.shape[-1] // width
        if _size(picture) != (scale * width, scale * height):
            raise ValueError(
                f"{field} must be a whole number of times as large as image, {width}x{height}, "
                f"got {picture.shape[-1]}x{picture.shape[-2]}"
            )
        changed[field] = (change_masks or change if field == MASKS else change)(picture, scale)
    return changed


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-1], picture.shape[-2]
