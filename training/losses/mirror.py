"""IAML's mirror loss between the feature maps of two decoders, and the variants that its ablation compares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from llie_preproc.luma import BT601

_EPS = 1e-6
_RANGE_EPS = 1e-7
# An image whose luminances span less than this counts as flat. The luminances of two 8-bit colours are either equal or
# at least 0.001 / 255 apart.
_FLAT = 1e-6
# This floor keeps the gradient of the square root finite where a map is constant.
_LEAST_VARIANCE = 1e-24


def luminance(image: Tensor) -> Tensor:
    """The luminance ``0.299 R + 0.587 G + 0.114 B`` (Eq. 5; BT.601), ``(N, 1, H, W)``, of ``(N, 3, H, W)`` RGB."""
    red, green, blue = (weight * channel for weight, channel in zip(BT601, image.split(1, dim=1), strict=True))
    return red + green + blue


def illumination_weight(image: Tensor, base_weight: float = 1.0, max_weight: float = 1.6) -> Tensor:
    """The weight of each pixel (Eq. 6): ``max_weight`` for the darkest of its image, ``base_weight`` for the lightest.

    Between the two the weight is linear in the luminance. An image of a single luminance has no darker region, so
    each of its pixels gets ``base_weight``.

    >>> import torch
    >>> image = torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 1, 3)
    >>> [round(weight, 2) for weight in illumination_weight(image).flatten().tolist()]
    [1.6, 1.3, 1.0]

    Args:
        image: Low-light input, ``(N, 3, H, W)`` RGB in [0, 1].
        base_weight: Weight of the lightest pixel, w_base. This project chose the number.
        max_weight: Weight of the darkest pixel, w_max. This project chose the number.

    Returns:
        ``(N, 1, H, W)``.
    """
    light = luminance(image)
    darkest = light.amin(dim=(1, 2, 3), keepdim=True)
    span = light.amax(dim=(1, 2, 3), keepdim=True) - darkest
    darkness = torch.where(span > _FLAT, 1 - (light - darkest) / (span + _RANGE_EPS), 0)
    return base_weight + (max_weight - base_weight) * darkness


def standardise(features: Tensor) -> Tensor:
    """The features ``(N, C, H, W)`` as ``(F - mean) / (std + 1e-6)`` (Eq. 7).

    Mean and population deviation are those of all values of one sample.
    """
    centred = features - features.mean(dim=(1, 2, 3), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
    return centred / (variance.clamp(min=_LEAST_VARIANCE).sqrt() + _EPS)


def mirror_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
    """Distance of the student's standardised feature maps from the teacher's (Eq. 8), mean over the levels (Eq. 9).

    >>> import torch
    >>> features = [torch.rand(1, 8, 4, 4), torch.rand(1, 4, 8, 8)]
    >>> round(mirror_loss(features, [2 * level + 1 for level in features]).item(), 3)
    0.0

    Args:
        student: Feature maps ``(N, C_i, H_i, W_i)``, one for each level of the student's decoder.
        teacher: Feature maps of the teacher's decoder, of the same shapes. They get no gradient.
        weight: Weight of each pixel, ``(N, 1, H, W)``, from :func:`illumination_weight`; it is resized bilinearly to
            each level. None gives every pixel the weight 1 (row 4 of the ablation).

    Returns:
        A scalar: the mean absolute difference.

    Raises:
        ValueError: There are no levels, or their numbers or shapes differ.
    """
    _check_levels(student, teacher)
    levels = []
    for ours, theirs in zip(student, teacher, strict=True):
        distance = (standardise(ours.float()) - standardise(theirs.detach().float())).abs()
        if weight is not None:
            distance = distance * F.interpolate(weight.float(), size=ours.shape[-2:], mode="bilinear")
        levels.append(distance.mean())
    return torch.stack(levels).mean()


def cosine_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """1 minus the cosine similarity of the flattened feature maps, mean over samples and levels (Table IV, row 3).

    Arguments and errors are those of :func:`mirror_loss`.

    >>> import torch
    >>> features = [torch.rand(1, 8, 4, 4)]
    >>> round(cosine_loss(features, [-level for level in features]).item(), 3)
    2.0
    """
    _check_levels(student, teacher)
    levels = [
        F.cosine_similarity(ours.float().flatten(1), theirs.detach().float().flatten(1)).mean()
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return 1 - torch.stack(levels).mean()


def _check_levels(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    shapes = [tuple(f.shape) for f in student], [tuple(f.shape) for f in teacher]
    if not student or shapes[0] != shapes[1]:
        raise ValueError(f"student and teacher need feature maps of equal shapes, got {shapes[0]} and {shapes[1]}")
