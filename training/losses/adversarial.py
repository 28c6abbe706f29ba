"""Adversarial losses on logits; both have a loss to minimise, the discriminator's and the enhancer's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("bce", "lsgan")


def discriminator_loss(real: Tensor, fake: Tensor, kind: str = "bce") -> Tensor:
    """What the discriminator minimises: the mean over real logits plus the mean over fake ones.

    ``'bce'``: binary cross entropy on logits (Semi-LLIE Eq. 9, CollaBA Eq. 10); ``'lsgan'``: squared distance from 1
    and 0 (Mao et al., ICCV 2017).
    """
    return _distance(real, 1.0, kind) + _distance(fake, 0.0, kind)


def enhancer_loss(fake: Tensor, kind: str = "bce") -> Tensor:
    """What the enhancer minimises: the distance of the fake logits from what real pictures get (non-saturating)."""
    return _distance(fake, 1.0, kind)


def check_kind(kind: str) -> None:
    """Raise ``ValueError`` unless ``kind`` is one of ``KINDS``."""
    if kind not in KINDS:
        raise ValueError(f"the kind of adversarial loss must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def _distance(logits: Tensor, label: float, kind: str) -> Tensor:
    check_kind(kind)
    logits = logits.float()
    target = torch.full_like(logits, label)
    return F.mse_loss(logits, target) if kind == "lsgan" else F.binary_cross_entropy_with_logits(logits, target)
