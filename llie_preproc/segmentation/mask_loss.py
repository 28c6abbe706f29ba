"""What a predicted mask is trained with: cross-entropy of its pixels, and the dice of the whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_losses(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Two losses of masks, each a scalar, averaged over the masks; 0, with a gradient of 0, where there are none.

    The cross-entropy is averaged over a mask's pixels. The dice is V-Net's (Milletari et al., 3DV 2016, with squares in
    the denominator), 1 added above and below: unlike the form without squares it is least where a prediction equals a
    soft target.

    Args:
        logits: ``(n, H, W)``.
        targets: ``(n, H, W)``, 0 or 1, or soft in [0, 1]; of any dtype.

    Returns:
        ``bce`` and ``dice``.

    Raises:
        ValueError: The shapes differ, or are not ``(n, H, W)``.
    """
    if logits.ndim != 3 or logits.shape != targets.shape:
        raise ValueError(f"logits and targets must be (n, H, W) alike, got {(*logits.shape,)} and {(*targets.shape,)}")
    if not len(logits):
        nothing = logits.sum()
        return {"bce": nothing, "dice": nothing}
    # A picture's sum leaves the range of float16.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = targets.to(logits.dtype)
    found, wanted = logits.sigmoid().flatten(1), targets.flatten(1)
    overlap, sizes = (found * wanted).sum(1), found.square().sum(1) + wanted.square().sum(1)
    return {
        "bce": F.binary_cross_entropy_with_logits(logits, targets),
        "dice": (1 - (2 * overlap + 1) / (sizes + 1)).mean(),
    }
