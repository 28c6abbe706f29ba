"""Losses of predicted masks: the cross-entropy of the pixels, and the dice loss of the whole mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_losses(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Two losses of masks, each a scalar and averaged over the masks; without masks both are 0 with a gradient of 0.

    The cross-entropy is averaged over a mask's pixels. The dice loss is that of V-Net (Milletari et al., 3DV 2016, with
    squares in the denominator), with 1 added to numerator and denominator. Unlike the form without squares, it is
    smallest where the prediction equals a soft target.

    Args:
        logits: Logits ``(n, H, W)``.
        targets: Targets ``(n, H, W)`` of any dtype, 0 or 1, or soft in [0, 1].

    Returns:
        The losses by the names ``bce`` and ``dice``.

    Raises:
        ValueError: The shapes differ, or are not ``(n, H, W)``.

    Examples:
        >>> losses = mask_losses(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
        >>> {name: round(loss.item(), 4) for name, loss in losses.items()}
        {'bce': 0.6931, 'dice': 0.1667}
    """
    if logits.ndim != 3 or logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must have one shape (n, H, W), got {(*logits.shape,)} and {(*targets.shape,)}"
        )
    if not len(logits):
        nothing = logits.sum()
        return {"bce": nothing, "dice": nothing}
    # The sum over a picture would leave the range of float16.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = targets.to(logits.dtype)
    found, wanted = logits.sigmoid().flatten(1), targets.flatten(1)
    overlap, sizes = (found * wanted).sum(1), found.square().sum(1) + wanted.square().sum(1)
    return {
        "bce": F.binary_cross_entropy_with_logits(logits, targets),
        "dice": (1 - (2 * overlap + 1) / (sizes + 1)).mean(),
    }
