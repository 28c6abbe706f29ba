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
    return 1 - power(1 - image, gamma, _MIN_INVERSE)


def power(base: Tensor, exponent: Tensor | float, least: float) -> Tensor:
    """``base^exponent``, with no gradient to ``base`` where it is below ``least``: at 0 it is infinite below power 1.

    The value, and the gradient with respect to ``exponent``, are exact everywhere.

    Args:
        base: Any shape, not negative.
        exponent: Not negative; broadcasts against ``base``.
        least: Smallest base that a gradient reaches.
    """
    if not base.requires_grad:
        return base**exponent
    dark = base < least
    bounded = torch.where(dark, torch.ones_like(base), base) ** exponent
    return torch.where(dark, base.detach() ** exponent, bounded)
