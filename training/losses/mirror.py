"""IAML's mirror loss between the feature maps of two decoders, and the variants of its ablation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from llie_preproc.luma import BT601

_EPS = 1e-6
_RANGE_EPS = 1e-7
# Luminances of two 8-bit colours that differ at all differ by 0.001 / 255 or more.
_FLAT = 1e-6
# Keeps the gradient of the root finite where a map is constant.
_LEAST_VARIANCE = 1e-24


def luminance(image: Tensor) -> Tensor:
    """``0.299 R + 0.587 G + 0.114 B`` (Eq. 5; BT.601) of ``(N, 3, H, W)`` RGB, as ``(N, 1, H, W)``."""
    red, green, blue = (weight * channel for weight, channel in zip(BT601, image.split(1, dim=1), strict=True))
    return red + green + blue


def illumination_weight(image: Tensor, base_weight: float = 1.0, max_weight: float = 1.6) -> Tensor:
    """The weight of each pixel (Eq. 6): ``max_weight`` for the darkest of its image, ``base_weight`` for the lightest.

    In an image of one luminance no region is darker than another: all of it has ``base_weight``.

    Args:
        image: The low-light input, ``(N, 3, H, W)`` RGB in [0, 1].
        base_weight: w_base. The paper's value is lost.
        max_weight: w_max. The paper's value is lost.

    Returns:
        ``(N, 1, H, W)``, linear in the luminance between the two.
    """
    light = luminance(image)
    darkest = light.amin(dim=(1, 2, 3), keepdim=True)
    span = light.amax(dim=(1, 2, 3), keepdim=True) - darkest
    darkness = torch.where(span > _FLAT, 1 - (light - darkest) / (span + _RANGE_EPS), 0)
    return base_weight + (max_weight - base_weight) * darkness


def standardise(features: Tensor) -> Tensor:
    """``(F - mean) / (std + 1e-6)`` over each sample's whole map (Eq. 7); ``(N, C, H, W)``, population deviation."""
    centred = features - features.mean(dim=(1, 2, 3), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
    return centred / (variance.clamp(min=_LEAST_VARIANCE).sqrt() + _EPS)


def mirror_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
    """Distance of the student's standardised feature maps from the teacher's (Eq. 8), mean over the levels (Eq. 9).

    Args:
        student: Feature maps ``(N, C_i, H_i, W_i)`` of the decoder levels.
        teacher: Those of the other decoder, of the same shapes; no gradient goes to them.
        weight: ``(N, 1, H, W)`` of :func:`illumination_weight`, resized bilinearly to each level; None: all 1, the
            ablation's row 4.

    Returns:
        A scalar: the mean absolute difference.

    Raises:
        ValueError: No levels, or their numbers or shapes differ.
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

    Arguments and errors as of :func:`mirror_loss`.
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
