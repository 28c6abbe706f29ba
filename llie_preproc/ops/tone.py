"""Tone mapping: powers with gradients that stay finite."""

from __future__ import annotations

import torch
from torch import Tensor

# d/dI (1 - I)^g is infinite at I = 1 for g < 1, so no gradient flows to the image where 1 - I is below this.
_MIN_INVERSE = 1e-4


def inverse_gamma(image: Tensor, gamma: Tensor | float) -> Tensor:
    """``1 - (1 - image)^gamma`` (PSENet, Eq. 1 and 6): gamma above 1 brightens, below 1 darkens.

    The gradient with respect to ``image`` is zero where ``1 - image < 1e-4``, because it would be infinite at
    saturated pixels. The value and the gradient with respect to ``gamma`` are exact everywhere.

    Args:
        image: Tensor of any shape, in [0, 1].
        gamma: Exponent, not negative, which broadcasts against ``image``.

    Returns:
        Tensor of the broadcast shape, in [0, 1].

    Examples:
        >>> inverse_gamma(torch.tensor([0.0, 0.5, 1.0]), 2).tolist()
        [0.0, 0.75, 1.0]
    """
    return 1 - power(1 - image, gamma, _MIN_INVERSE)


def power(base: Tensor, exponent: Tensor | float, least: float) -> Tensor:
    """``base^exponent``, without a gradient to ``base`` where ``base < least``.

    That gradient is infinite at 0 for an exponent below 1. The value and the gradient with respect to ``exponent`` are
    exact everywhere.

    Args:
        base: Tensor of any shape, not negative.
        exponent: Exponent, not negative, which broadcasts against ``base``.
        least: Smallest value of ``base`` that a gradient reaches.

    Examples:
        >>> base = torch.tensor([0.0, 0.25], requires_grad=True)
        >>> power(base, 0.5, least=1e-4).sum().backward()
        >>> base.grad.tolist()
        [0.0, 1.0]
    """
    if not base.requires_grad:
        return base**exponent
    dark = base < least
    bounded = torch.where(dark, torch.ones_like(base), base) ** exponent
    return torch.where(dark, base.detach() ** exponent, bounded)
