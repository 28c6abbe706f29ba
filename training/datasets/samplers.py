"""Samplers that give draws: indices that each carry a random seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from llie_preproc.checks import at_least
from llie_preproc.numbered_draws import Draw
from llie_preproc.registry import DATA_SAMPLERS
from llie_preproc.seeds import derive_seed


@contextlib.contextmanager
def seeded_by(index: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator by the draw, and restore it afterwards; a plain index leaves it as it is.

    >>> def number(seed):
    ...     with seeded_by(Draw(0, seed)):
    ...         return torch.rand(()).item()
    >>> number(1) == number(1), number(1) == number(2)
    (True, False)
    """
    if not isinstance(index, Draw):
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(index.seed)
        yield


class _DrawSampler(Sampler):
    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        if seed is not None:
            at_least("seed", seed, 0)
        self.dataset, self.shuffle = dataset, shuffle
        self.rank, self.world_size = get_dist_info()
        self.seed: int = sync_random_seed() if seed is None else seed

    def _epoch_draws(self, epoch: int, length: int) -> list[Draw]:
        """``length`` draws of an epoch, over all processes: every index once, then from the start again."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        size = len(self.dataset)
        order = torch.randperm(size, generator=generator).tolist() if self.shuffle else list(range(size))
        return [Draw(order[i % size], derive_seed(self.seed, epoch, i)) for i in range(length)]


@DATA_SAMPLERS.register_module()
class DrawSampler(_DrawSampler):
    """MMEngine's ``DefaultSampler`` for draws: it gives every index once in an epoch.

    The number of draws is rounded up so that all processes get equal shares.

    >>> sampler = DrawSampler(["a", "b", "c"], seed=0)
    >>> len(sampler), sorted(map(int, sampler))
    (3, [0, 1, 2])

    Args:
        dataset: Set to draw from; only its length counts.
        shuffle: Whether each epoch has a new order.
        seed: Seed, the same in all processes. By default the processes agree on one.
    """

    epoch = 0

    def __iter__(self) -> Iterator[Draw]:
        return iter(self._epoch_draws(self.epoch, len(self) * self.world_size)[self.rank :: self.world_size])

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the Runner calls this before each epoch."""
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class InfiniteDrawSampler(_DrawSampler):
    """MMEngine's ``InfiniteSampler`` for draws: epoch after epoch without end, for loops that count iterations.

    >>> from itertools import islice
    >>> sampler = InfiniteDrawSampler(["a", "b", "c"], shuffle=False, seed=0)
    >>> list(map(int, islice(sampler, 5)))
    [0, 1, 2, 0, 1]

    Args:
        dataset: Set to draw from; only its length counts.
        shuffle: Whether each epoch has a new order.
        seed: Seed, the same in all processes. By default the processes agree on one.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle, seed)
        self.start = 0

    def __iter__(self) -> Iterator[Draw]:
        position, size = self.rank + self.start * self.world_size, len(self.dataset)
        while True:
            epoch, offset = divmod(position, size)
            draws = self._epoch_draws(epoch, size)[offset :: self.world_size]
            yield from draws
            position += len(draws) * self.world_size

    def __len__(self) -> int:
        return len(self.dataset)

    def skip(self, number: int) -> None:
        """Begin after ``number`` draws of this process; the Runner calls this when it resumes."""
        self.start = number

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the sampler counts epochs by itself."""
