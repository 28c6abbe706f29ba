"""Smoothness of a gamma map."""

from __future__ import annotations

from torch import Tensor


def log_total_variation(gamma: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean squared difference of ``log(gamma + eps)`` between neighbours, rows plus columns.

    PSENet's total variation term. The paper's text has mean absolute differences of gamma itself (Eq. 9); the
    published weights 5 (SICE) and 500 (Afifi) belong to this squared logarithmic form, which the released
    checkpoints were trained with.

    Args:
        gamma: ``(N, C, H, W)``, non-negative, H and W at least 2.
        eps: Added before the logarithm.

    Returns:
        A scalar.
    """
    log_gamma = (gamma + eps).log()
    return log_gamma.diff(dim=-1).square().mean() + log_gamma.diff(dim=-2).square().mean()
