"""Checks that images have levels of 0 to 255, as detectors use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ImageError

# MMDetection's PhotoMetricDistortion adds up to 32 and multiplies by up to 1.5, which gives at most 430.5. Its change
# of saturation keeps the largest channel of a pixel, and its change of hue keeps all channels between the smallest and
# the largest. Noise that is resampled with Lanczos's kernel reaches 436.
_FARTHEST = 440.0
# With Lanczos's kernel, noise goes below 0 by less than a third of the range, and with other kernels by even less. Half
# a level is the error of rounding.
_OVERSHOOT, _ROUNDED = 1 / 3, 0.5
# A black picture that was made lighter has few different fractional values, which come from its noise.
_FEW = 24
# Augmentation makes a quarter of black pictures look normalised, so 16 in a row are no chance (probability 4 ** -16).
_IN_A_ROW = 16


@dataclass
class LookAlikes:
    """Counter of pictures in a row that look normalised or in [0, 1], for pictures that may be augmented.

    Examples:
        >>> counter = LookAlikes()
        >>> check_levels([torch.linspace(-30, -20, 48).view(3, 4, 4)], look_alikes=counter)
        >>> counter.in_a_row
        1
    """

    in_a_row: int = 0


def check_levels(
    images: Sequence[Tensor], names: Sequence[str] | None = None, look_alikes: LookAlikes | None = None
) -> None:
    """Refuse images whose values are not levels of 0 to 255, and say what they look like.

    Images of uint8 are always accepted, and those of other whole numbers never. Floating point values must be finite.
    A floating point image is refused if

    - a value is beyond 440 on either side (levels of more than 8 bits),
    - a value is below 0 by more than half a level and more than a third of the image's range (normalised), or
    - no value exceeds 1, and more than 24 different values are not whole numbers (in [0, 1], or normalised).

    Pixels with the colour of the bottom right corner are not examined, because a ``Pad`` may have added them.

    Augmentation may make a black picture look normalised or in [0, 1]. With ``look_alikes``, such an image is therefore
    refused only from the 16th in a row on, or if its values are multiples of 1/255.

    On a GPU, the check costs one synchronisation for a batch of floating point images, and none for uint8. Images that
    look like values in [0, 1] cost more.

    Args:
        images: Images ``(3, H, W)`` of any dtype.
        names: Name of each image for the message; by default its number.
        look_alikes: Counter that this call updates, if the images may be augmented; else None.

    Raises:
        ImageError: An image does not have three channels, or its values are not levels.

    Examples:
        >>> check_levels([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255, dtype=torch.uint8)])
        >>> check_levels([torch.linspace(0, 1, 48).view(3, 4, 4)])
        Traceback (most recent call last):
        llie_preproc.errors.ImageError: image 0 looks like values in [0, 1]: levels of 0 to 255 are needed
    """
    names = names or [f"image {index}" for index in range(len(images))]
    for image, name in zip(images, names, strict=True):
        if image.ndim != 3 or image.shape[0] != 3:
            raise ImageError(f"{name} has the shape {tuple(image.shape)}: colour images (3, H, W) are needed")
        if not image.is_floating_point() and image.dtype != torch.uint8:
            kind = str(image.dtype).removeprefix("torch.")
            looks = "looks like 16-bit levels" if kind in ("uint16", "int16") else "does not hold levels"
            raise ImageError(f"{name} {looks}, {kind}: levels of 0 to 255 are needed, in uint8 or floating point")
    for image, name, ends in zip(images, names, _ends(images), strict=True):
        looks, certain = _looks_like(image.detach(), *ends, look_alikes is not None) if ends else ("", False)
        if look_alikes is not None and not certain:
            look_alikes.in_a_row = look_alikes.in_a_row + 1 if looks else 0
            if look_alikes.in_a_row < _IN_A_ROW:
                continue
            looks += f", as did {look_alikes.in_a_row - 1} pictures in a row before it"
        if looks:
            raise ImageError(f"{name} {looks}: levels of 0 to 255 are needed")


def _ends(images: Sequence[Tensor]) -> list[tuple[float, float] | None]:
    """The smallest and the largest value of each floating point image (None for others), with one synchronisation."""
    ends = [_ends_of(image.detach().float()) for image in images if image.is_floating_point()]
    found = iter([(low, high) for low, high in torch.stack(ends).tolist()] if ends else [])
    return [next(found) if image.is_floating_point() else None for image in images]


def _ends_of(image: Tensor) -> Tensor:
    own = _is_own(image)
    inside = torch.stack([image.where(own, torch.inf).amin(), image.where(own, -torch.inf).amax()])
    return torch.where(own.any(), inside, torch.stack(torch.aminmax(image)))


def _is_own(image: Tensor) -> Tensor:
    """Mask ``(H, W)`` of the pixels that differ from the bottom right one, whose colour a border has."""
    return (image != image[:, -1:, -1:]).any(0)


def check_finite(images: Sequence[Tensor], made_by: str, names: Sequence[str] | None = None) -> None:
    """Refuse results of an enhancer that are not finite, with one synchronisation for a batch.

    Args:
        images: Images ``(3, H, W)`` in floating point, on one device and not clamped, because a clamp would turn an
            infinity into a level.
        made_by: Name of the enhancer, for the message.
        names: Name of each image for the message; by default its number.

    Raises:
        ImageError: A value is NaN or infinite.

    Examples:
        >>> check_finite([torch.full((3, 1, 1), float("nan"))], "PSENet", ["a.png"])
        Traceback (most recent call last):
        llie_preproc.errors.ImageError: a.png: the result of PSENet is not finite (NaN or infinity)
    """
    if not images:
        return
    # The smallest and largest values are NaN if any value is. Finding them is ten times as fast as testing each value.
    ends = torch.stack([torch.stack(torch.aminmax(image.detach())).float() for image in images])
    finite = ends.isfinite().all(dim=1).tolist()
    if not all(finite):
        first = finite.index(False)
        name = names[first] if names else f"image {first}"
        raise ImageError(f"{name}: the result of {made_by} is not finite (NaN or infinity)")


def _looks_like(image: Tensor, low: float, high: float, augmented: bool) -> tuple[str, bool]:
    """What the values of a floating point image look like (empty for levels), and whether one image is enough proof."""
    if not (low - high) <= 0 or max(-low, high) == float("inf"):
        return "holds values that are not finite (NaN or infinity)", True
    values = f"(values from {low:.4g} to {high:.4g})"
    if max(-low, high) > _FARTHEST:
        return f"looks like levels of more than 8 bits {values}", True
    if low < -max(_ROUNDED, _OVERSHOOT * (high - low)):
        return f"looks normalised {values}", not augmented
    if high > 1:
        return "", False
    fractions = image.float()[:, _is_own(image)].unique()
    fractions = fractions[fractions != fractions.round()]
    if len(fractions) <= _FEW:
        return "", False
    looks = f"looks normalised {values}" if low < 0 else "looks like values in [0, 1]"
    return looks, not augmented or _are_255ths(fractions)


def _are_255ths(values: Tensor) -> bool:
    """Whether all values are levels that were divided by 255, up to the rounding of float16."""
    levels = 255 * values
    return bool(((levels - levels.round()).abs() < 0.1).all())
