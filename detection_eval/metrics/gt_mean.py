"""The matching of brightness, which some papers do before they compare pictures (KinD; an option of Retinexformer)."""

from __future__ import annotations

from torch import Tensor

from llie_preproc.luma import BT601

from .arrays import unit_pair


def match_mean(enhanced: Tensor, target: Tensor) -> Tensor:
    """Scale ``enhanced`` to the target's mean grey level, and clamp the result to [0, 1].

    The reference thus tells the result how bright to be, which raises PSNR on LOL-v1 by about 2 dB. Such scores can
    only be compared with each other. A black ``enhanced`` stays as it is. Grey is 0.299 R + 0.587 G + 0.114 B.

    >>> import torch
    >>> matched = match_mean(torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.5))
    >>> round(matched.mean().item(), 4)
    0.5

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1].
        target: Reference picture of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    first, second = unit_pair(enhanced, target)
    own, wanted = ((x.mean(dim=(1, 2)) * x.new_tensor(BT601)).sum() for x in (first, second))
    return (first * (wanted / own)).clamp(0, 1) if own > 0 else first
