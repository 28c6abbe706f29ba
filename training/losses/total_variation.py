"""Smoothness of maps that networks predict."""

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


def squared_total_variation(attention: Tensor) -> Tensor:
    """Twice the mean squared difference between neighbours, rows plus columns.

    The smoothness term that CollaBA's public code adds on the illumination attention; the paper has none.

    Args:
        attention: ``(N, C, H, W)``, H and W at least 2.

    Returns:
        A scalar.
    """
    return 2 * (attention.diff(dim=-1).square().mean() + attention.diff(dim=-2).square().mean())
