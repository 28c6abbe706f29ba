"""Total variation: losses that smooth the maps that networks predict."""

from __future__ import annotations

from torch import Tensor


def log_total_variation(gamma: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean squared difference of ``log(gamma + eps)`` between neighbours, rows plus columns.

    This is PSENet's total variation term. The paper's text has mean absolute differences of gamma itself (Eq. 9).
    The released checkpoints were trained with this squared logarithmic form, and the published weights 5 (SICE) and
    500 (Afifi) belong to it.

    >>> import torch
    >>> log_total_variation(torch.full((1, 3, 4, 4), 0.5)).item()
    0.0

    Args:
        gamma: Gamma map, ``(N, C, H, W)``, non-negative, H and W at least 2.
        eps: Number that is added before the logarithm.

    Returns:
        A scalar.
    """
    log_gamma = (gamma + eps).log()
    return log_gamma.diff(dim=-1).square().mean() + log_gamma.diff(dim=-2).square().mean()


def squared_total_variation(attention: Tensor) -> Tensor:
    """Twice the mean squared difference between neighbours, rows plus columns.

    CollaBA's public code adds this smoothness term on the illumination attention; the paper has no such term.

    >>> import torch
    >>> squared_total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).item()
    2.0

    Args:
        attention: Illumination attention, ``(N, C, H, W)``, H and W at least 2.

    Returns:
        A scalar.
    """
    return 2 * (attention.diff(dim=-1).square().mean() + attention.diff(dim=-2).square().mean())
