"""Leaving out residual branches at random while training."""

from __future__ import annotations

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, whole samples of a residual branch are zeroed.

    It draws and computes the same as torchvision's with mode ``"row"``. Importing torchvision takes longer than
    importing all networks.

    Args:
        p: Probability, in [0, 1), that a sample is zeroed; the other samples are divided by ``1 - p``.

    Examples:
        >>> import torch
        >>> drop = StochasticDepth(0.5)
        >>> sorted(set(drop(torch.ones(64, 3)).flatten().tolist()))
        [0.0, 2.0]
        >>> drop.eval()(torch.ones(1, 3)).tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero samples of ``(N, ...)`` in training; return ``x`` as it is in evaluation."""
        if not self.training or not self.p:
            return x
        return x * self.kept(x).div_(1 - self.p).view(-1, *[1] * (x.ndim - 1))

    def kept(self, x: Tensor) -> Tensor:
        """Draw which samples of ``(N, ...)`` are kept: ``(N,)`` with 1 for a kept sample and 0 for a zeroed one."""
        return x.new_empty(len(x)).bernoulli_(1 - self.p)
