"""Images as detectors have them, levels of 0 to 255: what is taken for such, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import ImageError

# Augmentation leaves 0 to 255: brightness, contrast and saturation of MMDetection's PhotoMetricDistortion go from
# about -215 to 431. Levels of more bits go on to 4095 or 65535.
_FARTHEST = 1020.0
# Normalised by mean and deviation, or divided by 255, all values are near 0.
_NEAR = 5.0
# A black picture that augmentation changed has few values that are no whole numbers: those of the colours of noise by
# one level, or, over a range of 1 and more, by two.
_FEW, _SOME = 24, 100
# A mean that was subtracted alone leaves a dark picture this far below 0; augmentation leaves it above -48.
_BELOW = -64.0


def check_levels(images: Sequence[Tensor], names: Sequence[str] | None = None) -> None:
    """Refuse images whose values are no levels of 0 to 255, and say what they look like.

    The rule: uint8 is always taken, and no other whole numbers are. Floating values must be finite and within four
    times the range, because augmentation leaves it. They are refused where all lie within 5 of 0 and more than 24
    different ones are no whole numbers (divided by 255, or normalised; more than 100 where negative values and a range
    of 1 and more are among it), and where their mean is below -64 (a mean was
    subtracted). So black pictures are taken, also padded, noisy by whole levels, or made lighter or darker as a whole.

    On a GPU that costs one synchronisation for a batch of floating images, and none for uint8.

    >>> check_levels([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255, dtype=torch.uint8)])
    >>> check_levels([torch.linspace(0, 1, 48).view(3, 4, 4)])
    Traceback (most recent call last):
    llie_preproc.errors.ImageError: image 0 looks like values in [0, 1]: levels of 0 to 255 are needed

    Args:
        images: ``(3, H, W)``, any dtype.
        names: Name of each image for the message; by default its number.

    Raises:
        ImageError: An image is no colour image of three channels, or its values are no levels.
    """
    names = names or [f"image {index}" for index in range(len(images))]
    floating = []
    for image, name in zip(images, names, strict=True):
        if image.ndim != 3 or image.shape[0] != 3:
            raise ImageError(f"{name} has the shape {tuple(image.shape)}: colour images (3, H, W) are needed")
        if image.is_floating_point():
            floating.append((image.detach(), name))
        elif image.dtype != torch.uint8:
            kind = str(image.dtype).removeprefix("torch.")
            looks = "looks like 16-bit levels" if kind in ("uint16", "int16") else "is of no kind of levels"
            raise ImageError(f"{name} {looks}, {kind}: levels of 0 to 255 are needed, uint8 or floating")
    if not floating:
        return
    ends = torch.stack([torch.stack(torch.aminmax(image.float())) for image, _ in floating]).tolist()
    for (image, name), (low, high) in zip(floating, ends, strict=True):
        if looks := _looks_like(image, low, high):
            raise ImageError(f"{name} {looks}: levels of 0 to 255 are needed")


def check_finite(images: Sequence[Tensor], made_by: str, names: Sequence[str] | None = None) -> None:
    """Refuse what an enhancer made where it is not finite; one synchronisation for a batch.

    Args:
        images: ``(3, H, W)`` floating, on one device, unclamped: a clamp would turn an infinity into a level.
        made_by: What made them, for the message.
        names: Name of each image for the message; by default its number.

    Raises:
        ImageError: A value is NaN or infinite.
    """
    if not images:
        return
    # The extremes are NaN where any value is, and come ten times as fast as a test of each value.
    ends = torch.stack([torch.stack(torch.aminmax(image.detach())).float() for image in images])
    finite = ends.isfinite().all(dim=1).tolist()
    if not all(finite):
        first = finite.index(False)
        name = names[first] if names else f"image {first}"
        raise ImageError(f"{name}: the result of {made_by} is not finite (NaN or infinity)")


def _looks_like(image: Tensor, low: float, high: float) -> str:
    """What the values of a floating image look like; empty: levels."""
    if not (low - high) <= 0 or max(-low, high) == float("inf"):
        return "holds values that are not finite (NaN or infinity)"
    if high > _FARTHEST or low < -_FARTHEST:
        return f"looks like 16-bit levels (values from {low:.4g} to {high:.4g})"
    if low < _BELOW and float(image.float().mean()) < _BELOW:
        return f"looks normalised (a mean below {_BELOW:g})"
    if max(-low, high) > _NEAR or (low >= 0 and high > 1):
        return ""
    values = image.float().unique()
    allowed = _FEW if low >= 0 or high - low < 1 else _SOME
    if int((values != values.round()).sum()) <= allowed:
        return ""
    return "looks normalised (values near 0 on both sides)" if low < 0 else "looks like values in [0, 1]"
