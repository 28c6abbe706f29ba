"""Training data whose random numbers depend on which draw it is, not on which process made the ones before.

MMEngine saves no state of random numbers, and its data loaders' workers begin anew where a run is resumed. With
:func:`seed_draws` each item is made with a seed of its own, from the run's seed, the rank, the epoch and the item's
place in it, and each iteration of the network with another: a resumed run then goes on as the uninterrupted one, with
any number of workers. What a pipeline remembers of earlier items (MMDetection's ``CachedMosaic``) is not restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import needs

with needs("llie_preproc.numbered_draws"):
    import mmengine.registry as mmengine_registry
    from mmengine.config import Config
    from mmengine.dist import get_rank
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

from .registry import DATA_SAMPLERS, DATASETS, HOOKS
from .seeds import derive_seed, seed_everything

# What tells the seeds of data from those of iterations.
_DATA, _STEP = 0, 1


def seed_draws(cfg: Config) -> None:
    """Let a Runner's training config seed each item and each iteration; ``cfg`` is changed."""
    loader = cfg.train_dataloader
    loader.dataset = dict(type="llie_preproc.SeededDraws", dataset=loader.dataset)
    loader.sampler = dict(type="llie_preproc.NumberedDraws", sampler=loader.sampler)
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="llie_preproc.StepSeed")]


class Draw(int):
    """An index into a dataset that also says which draw of the training it is.

    ``seed`` depends on the run's seed and on the number of the draw only, so augmentation seeded by it is the same in
    a resumed run, with any number of workers.
    """

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> Draw:
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def at(self, index: int) -> Draw:
        """The same draw, of another index: for datasets made of datasets."""
        return Draw(index, self.seed)


@DATA_SAMPLERS.register_module()
class NumberedDraws:
    """A sampler whose indices are :class:`Draw`.

    Args:
        sampler: Config of the sampler that decides on the indices.
        dataset: The :class:`SeededDraws` to sample.
        seed: Seed of the run.
    """

    def __init__(self, sampler: dict, dataset: SeededDraws, seed: int | None = None) -> None:
        given = dict(dataset=dataset.dataset, seed=seed)
        self.sampler = mmengine_registry.DATA_SAMPLERS.build(sampler, default_args=given)
        self.seed, self.epoch, self._skipped = seed or 0, 0, 0

    def __iter__(self) -> Iterator[Draw]:
        number, self._skipped = self._skipped, 0
        for index in self.sampler:
            yield Draw(index, derive_seed(self.seed, _DATA, get_rank(), self.epoch, number))
            number += 1

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        # MMEngine asks whether a sampler can skip.
        if name == "skip" and hasattr(self.sampler, "skip"):
            return self._skip
        if name.startswith("_") or name in ("sampler", "skip"):
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch begins."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def _skip(self, number: int) -> None:
        self.sampler.skip(number)
        self._skipped += number


@DATASETS.register_module()
class SeededDraws:
    """A dataset that makes each item with the seed of its :class:`Draw`; in all else the dataset that it holds.

    Args:
        dataset: Config of the dataset.
    """

    def __init__(self, dataset: dict) -> None:
        self.__dict__["dataset"] = mmengine_registry.DATASETS.build(dataset)

    def __getitem__(self, index: int) -> Any:
        if isinstance(index, Draw):
            seed_everything(index.seed)
        return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # Pickle asks before there is a dataset.
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@HOOKS.register_module()
class StepSeed(Hook):
    """Seeds what the network draws in an iteration."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy and ``random``."""
        seed_everything(derive_seed(runner.seed, _STEP, get_rank(), runner.iter))
