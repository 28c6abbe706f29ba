"""Samplers whose every draw has a random state of its own."""

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
    """PyTorch's CPU generator seeded by the draw, and put back after; plain indices leave it as it is."""
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
        """``length`` draws of an epoch, over all ranks: every index once, then from the start again."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        size = len(self.dataset)
        order = torch.randperm(size, generator=generator).tolist() if self.shuffle else list(range(size))
        return [Draw(order[i % size], derive_seed(self.seed, epoch, i)) for i in range(length)]


@DATA_SAMPLERS.register_module()
class DrawSampler(_DrawSampler):
    """MMEngine's ``DefaultSampler`` with draws: every index once an epoch, rounded up to equal shares of the ranks.

    Args:
        dataset: Its length counts.
        shuffle: A new order each epoch.
        seed: Equal on all ranks; by default the one that the ranks agree on.
    """

    epoch = 0

    def __iter__(self) -> Iterator[Draw]:
        return iter(self._epoch_draws(self.epoch, len(self) * self.world_size)[self.rank :: self.world_size])

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Runner before each epoch."""
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class InfiniteDrawSampler(_DrawSampler):
    """MMEngine's ``InfiniteSampler`` with draws: epoch after epoch without end, for loops that count iterations.

    Args:
        dataset: Its length counts.
        shuffle: A new order each time round.
        seed: Equal on all ranks; by default the one that the ranks agree on.
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
        """Begin after ``number`` draws of this rank; the Runner calls it on resuming."""
        self.start = number

    def set_epoch(self, epoch: int) -> None:
        """Nothing: it counts by itself."""
