"""Random numbers that depend on the seed and on how far the training is, not on how it came there.

So a resumed run draws what the uninterrupted one would have, and several processes together draw what one would have.
"""

from __future__ import annotations

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn
from torchvision import ops as torchvision_ops

from llie_preproc.ops import StochasticDepth
from llie_preproc.seeds import derive_seed, seed_everything

# The seed of the running iteration, which all ranks have alike; empty outside of one.
_shared: list[int] = []


def begin_iteration(seed: int, iteration: int) -> None:
    """Seed everything for one training iteration: each rank its own, and one that :func:`sample_uniform` shares."""
    seed_everything(derive_seed(seed, iteration, get_rank()))
    _shared[:] = [derive_seed(seed, iteration)]


def end_iteration() -> None:
    """From here on :func:`sample_uniform` draws from PyTorch's own generator."""
    _shared.clear()


def sample_uniform(number: int, draws: int = 1) -> Tensor:
    """``draws`` uniform numbers in [0, 1) for each of ``number`` samples of this process, ``(number, draws)``.

    In distributed training sample i of rank r has what sample ``i * world_size + r`` of the whole batch has in one
    process: the order in which the samplers of :mod:`training.datasets` deal the samples out.
    """
    world = get_world_size()
    generator = None
    if _shared:
        generator = torch.Generator().manual_seed(_shared[0])
        # Another for the next call in this iteration.
        _shared[0] = derive_seed(_shared[0])
    return torch.rand(number * world, draws, generator=generator)[get_rank() :: world]


class SharedStochasticDepth(StochasticDepth):
    """Stochastic depth that draws by :func:`sample_uniform`."""

    def kept(self, x: Tensor) -> Tensor:
        """Draw which samples of ``(N, ...)`` are kept: ``(N,)`` of 1 and 0."""
        return (sample_uniform(len(x)).flatten() >= self.p).to(x)


def share_stochastic_depth(module: nn.Module) -> None:
    """Let stochastic depth in ``module`` (torchvision's too) draw what one process with the whole batch would."""
    for name, child in module.named_children():
        if isinstance(child, StochasticDepth | torchvision_ops.StochasticDepth):
            setattr(module, name, SharedStochasticDepth(child.p))
        else:
            share_stochastic_depth(child)
