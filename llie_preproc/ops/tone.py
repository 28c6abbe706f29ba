"""Tone mapping."""

from __future__ import annotations

import torch
from torch import Tensor

# d/dI (1 - I)^g is infinite at I = 1 for g < 1: below this no gradient flows to the image.
_MIN_INVERSE = 1e-4


def inverse_gamma(image: Tensor, gamma: Tensor | float) -> Tensor:
    """``1 - (1 - image)^gamma`` (PSENet, Eq. 1 and 6): gamma above 1 brightens, below 1 darkens.

    The gradient with respect to ``image`` is taken as zero where ``1 - image < 1e-4`` (it would be infinite at
    saturated pixels); the value, and the gradient with respect to ``gamma``, are exact everywhere.

    Args:
        image: Any shape, in [0, 1].
        gamma: Non-negative; broadcasts against ``image``.

    Returns:
        The broadcast shape, in [0, 1].
    """
    inverse = 1 - image
    if not inverse.requires_grad:
        return 1 - inverse**gamma
    bounded = inverse.clamp(min=_MIN_INVERSE) ** gamma
    return 1 - torch.where(inverse > _MIN_INVERSE, bounded, inverse.detach() ** gamma)
