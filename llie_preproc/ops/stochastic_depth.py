"""Leaving out residual branches at random while training."""

from __future__ import annotations

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, whole samples of a residual branch are zeroed.

    It draws and computes what torchvision's of mode ``"row"`` does, which takes longer to import than all networks.

    Args:
        p: Probability with which a sample is zeroed, in [0, 1); the others are divided by ``1 - p``.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any ``(N, ...)``."""
        if not self.training or not self.p:
            return x
        return x * self.kept(x).div_(1 - self.p).view(-1, *[1] * (x.ndim - 1))

    def kept(self, x: Tensor) -> Tensor:
        """Draw which samples of ``(N, ...)`` are kept: ``(N,)`` of 1 and 0."""
        return x.new_empty(len(x)).bernoulli_(1 - self.p)
