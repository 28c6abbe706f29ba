"""Pictures for the training through a frozen SAM, and the names of its losses."""

from __future__ import annotations

import torch

TERMS = ["loss_feature", "loss_mask_bce", "loss_mask_dice"]


def pixels(seed, height=64, width=64):
    """``(3, height, width)`` uint8 of grey squares on noise, which SAM can segment."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 90, (3, height, width), generator=generator)
    for _ in range(4):
        top, left = (int(torch.randint(0, n - 12, (), generator=generator)) for n in (height, width))
        picture[:, top : top + 12, left : left + 12] += int(torch.randint(60, 160, (), generator=generator))
    return picture.to(torch.uint8)
