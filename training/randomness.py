"""Random numbers that depend only on the seed and the iteration of the training.

A resumed run therefore draws the same numbers as an uninterrupted run, and several processes together draw the same
numbers as a single process.
"""

from __future__ import annotations

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn
from torchvision import ops as torchvision_ops

from llie_preproc.ops import StochasticDepth
from llie_preproc.seeds import derive_seed, seed_everything

# The seed of the running iteration, equal in all processes. The list is empty outside of an iteration.
_shared: list[int] = []


def begin_iteration(seed: int, iteration: int) -> None:
    """Seed everything for one training iteration.

    Each process gets a seed of its own; :func:`sample_uniform` and :func:`batch_uniform` get one that all processes
    share.

    >>> begin_iteration(seed=0, iteration=5)
    >>> first = sample_uniform(2)
    >>> begin_iteration(seed=0, iteration=5)
    >>> torch.equal(sample_uniform(2), first)
    True
    >>> end_iteration()
    """
    seed_everything(derive_seed(seed, iteration, get_rank()))
    _shared[:] = [derive_seed(seed, iteration)]


def end_iteration() -> None:
    """End an iteration: the functions below draw from PyTorch's own generator from now on."""
    _shared.clear()


def sample_uniform(number: int, draws: int = 1) -> Tensor:
    """Uniform numbers in [0, 1), ``draws`` for each of ``number`` samples of this process, as ``(number, draws)``.

    In distributed training, sample i of rank r gets the numbers that sample ``i * world_size + r`` of the whole batch
    gets in a single process. The samplers of :mod:`training.datasets` distribute the samples in this order.

    >>> sample_uniform(4, draws=2).shape
    torch.Size([4, 2])
    """
    world = get_world_size()
    return _uniform(number * world, draws)[get_rank() :: world]


def batch_uniform() -> float:
    """A uniform number in [0, 1) for a whole batch, the same in all processes.

    >>> 0 <= batch_uniform() < 1
    True
    """
    return _uniform(1, 1).item()


def _uniform(rows: int, columns: int) -> Tensor:
    """Uniform numbers ``(rows, columns)``; within an iteration all processes get the same ones."""
    generator = None
    if _shared:
        generator = torch.Generator().manual_seed(_shared[0])
        # The next call in this iteration needs another seed.
        _shared[0] = derive_seed(_shared[0])
    return torch.rand(rows, columns, generator=generator)


class SharedStochasticDepth(StochasticDepth):
    """Stochastic depth that draws from :func:`sample_uniform`."""

    def kept(self, x: Tensor) -> Tensor:
        """Draw the samples of ``(N, ...)`` that are kept: ``(N,)``, 1 for these and 0 for the others."""
        return (sample_uniform(len(x)).flatten() >= self.p).to(x)


def share_stochastic_depth(module: nn.Module) -> None:
    """Make stochastic depth in ``module``, also torchvision's, draw as in a single process with the whole batch."""
    for name, child in module.named_children():
        if isinstance(child, StochasticDepth | torchvision_ops.StochasticDepth):
            setattr(module, name, SharedStochasticDepth(child.p))
        else:
            share_stochastic_depth(child)
