"""Adversarial losses on logits: the one that the discriminator minimises and the one that the enhancer minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("bce", "lsgan")


def discriminator_loss(real: Tensor, fake: Tensor, kind: str = "bce") -> Tensor:
    """The discriminator's loss: the mean over the logits of real pictures plus the mean over those of fake ones.

    >>> import torch
    >>> round(discriminator_loss(real=torch.tensor([0.5]), fake=torch.tensor([1.0]), kind="lsgan").item(), 2)
    1.25

    Args:
        real: Logits of real pictures, of any shape.
        fake: Logits of the enhancer's outputs, of any shape.
        kind: ``'bce'``, binary cross entropy on logits (Semi-LLIE Eq. 9, CollaBA Eq. 10), or ``'lsgan'``, the squared
            distance from 1 for real and from 0 for fake pictures (Mao et al., ICCV 2017).

    Returns:
        A scalar.

    Raises:
        ValueError: ``kind`` is unknown.
    """
    return _distance(real, 1.0, kind) + _distance(fake, 0.0, kind)


def enhancer_loss(fake: Tensor, kind: str = "bce") -> Tensor:
    """The enhancer's loss: the distance of the logits of its outputs from the label of real pictures (non-saturating).

    Arguments and errors are those of :func:`discriminator_loss`.

    >>> import torch
    >>> round(enhancer_loss(torch.tensor([0.0]), kind="bce").item(), 4)
    0.6931
    """
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
