"""Geometry for pictures and their references: the same for all, references ``s`` times as large as ``image``.

Each is a callable from ``dict`` to ``dict`` of ``(3, H, W)`` uint8 pictures, of which ``image`` is one (``masks`` are
``(n, H, W)``), and draws from PyTorch's CPU generator. ``output_size(width, height)`` says what becomes of an input of
that size: ``(width, height)``, or a list of such, of which one is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from llie_preproc.checks import within
from llie_preproc.registry import TRANSFORMS

from .base import MASKS, Pictures, edges, resize_masks


@TRANSFORMS.register_module()
class PairedResize:
    """Resize the input, and references to as many times its size as they were.

    Bilinear (masks: nearest); by default with the low-pass filter of Pillow (``antialias``), so that shrunk night
    pictures keep the mean of their noise instead of picking single pixels. Semi-LLIE resizes pairs to 280x280 before
    its crop of 256.

    Args:
        size: New size of the input: an edge, or ``(width, height)``.
        factor: In place of ``size``: times the input's own size, rounded (PSENet evaluates SICE at 0.25).
        antialias: False for plain bilinear sampling.

    Raises:
        ValueError: Not exactly one of ``size`` and ``factor``, or one that is not positive.
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, factor: float | None = None, antialias: bool = True
    ) -> None:
        if (size is None) == (factor is None):
            raise ValueError(f"one of size and factor must be given, got size={size} and factor={factor}")
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
class PairedRandomCrop:
    """One uniformly drawn window of the input, and the same part of the references.

    Args:
        size: Of the window in pixels of the input: an edge, or ``(width, height)``.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = edges(size)

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """``size``.

        Raises:
            ValueError: The picture is smaller.
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
    """One of the eight turns and mirrorings of a rectangle, uniformly; four of them exchange width and height."""

    def output_size(self, width: int, height: int) -> list[tuple[int, int]]:
        return [(width, height), (height, width)]

    def __call__(self, pictures: Pictures) -> Pictures:
        number = int(torch.randint(8, ()))
        return _each(pictures, lambda p, s: dihedral(p, number))


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror with probability 1/2 along each chosen axis, independently (IAML: both; CollaBA: horizontal).

    Args:
        horizontal: Exchange left and right.
        vertical: Exchange top and bottom.
    """

    def __init__(self, horizontal: bool = True, vertical: bool = True) -> None:
        self.axes = [axis for axis, chosen in ((-1, horizontal), (-2, vertical)) if chosen]

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def __call__(self, pictures: Pictures) -> Pictures:
        axes = [axis for axis in self.axes if torch.rand(()) < 0.5]
        return _each(pictures, lambda p, s: p.flip(axes) if axes else p)


def dihedral(picture: Tensor, number: int) -> Tensor:
    """``(..., H, W)`` turned by ``number % 4`` quarters, counter-clockwise, then mirrored if ``number`` is above 3."""
    turned = torch.rot90(picture, number % 4, (-2, -1))
    return turned.flip(-1) if number > 3 else turned


def _each(
    pictures: Pictures,
    change: Callable[[Tensor, int], Tensor],
    change_masks: Callable[[Tensor, int], Tensor] | None = None,
) -> Pictures:
    """``change(picture, scale)`` of each, ``change_masks`` of masks where that is another.

    Raises:
        ValueError: A picture is no whole number of times as large as ``image``.
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
