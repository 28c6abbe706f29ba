"""Training data whose random numbers depend on the number of the draw, not on the process that made earlier draws.

MMEngine does not save the state of random numbers, and the workers of its data loaders start anew when a run is
resumed. With :func:`seed_draws`, each item has its own seed, which follows from the run's seed, the rank, the epoch and
the item's place in the epoch. Each iteration of the network gets another seed. So a resumed run continues like an
uninterrupted one, with any number of workers. What a pipeline remembers of earlier items (MMDetection's
``CachedMosaic``) is not restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from .errors import needs

with needs("llie_preproc.numbered_draws"):
    import mmengine.registry as mmengine_registry
    from mmengine.config import Config
    from mmengine.dist import get_rank
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

from .registry import DATA_SAMPLERS, DATASETS, HOOKS
from .seeds import derive_seed, seed_everything

# These keep the seeds of data different from those of iterations.
_DATA, _STEP = 0, 1


def seed_draws(cfg: Config) -> None:
    """Change a Runner's training config so that each item and each iteration is seeded.

    Examples:
        >>> cfg = Config(dict(train_dataloader=dict(dataset=dict(type="Mine"), sampler=dict(type="DefaultSampler"))))
        >>> seed_draws(cfg)
        >>> cfg.train_dataloader.dataset.type, cfg.train_dataloader.sampler.type
        ('llie_preproc.SeededDraws', 'llie_preproc.NumberedDraws')
    """
    loader = cfg.train_dataloader
    loader.dataset = dict(type="llie_preproc.SeededDraws", dataset=loader.dataset)
    loader.sampler = dict(type="llie_preproc.NumberedDraws", sampler=loader.sampler)
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="llie_preproc.StepSeed")]


class Draw(int):
    """An index into a dataset, with a seed for this draw of the training.

    ``seed`` depends only on the run and on the number of the draw, so augmentation that is seeded by it is the same in
    a resumed run, with any number of workers.

    Examples:
        >>> draw = Draw(3, seed=17)
        >>> draw + 1, draw.seed, draw.at(5).seed
        (4, 17, 17)
    """

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> Draw:
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def at(self, index: int) -> Draw:
        """The same draw with another index, for datasets that consist of datasets."""
        return Draw(index, self.seed)


@DATA_SAMPLERS.register_module()
class NumberedDraws(Sampler):
    """A sampler whose indices are :class:`Draw`.

    Args:
        sampler: Config of the sampler that chooses the indices.
        dataset: :class:`SeededDraws` that is sampled.
        seed: Seed of the run.

    Examples:
        >>> class TenNumbers:
        ...     def __len__(self):
        ...         return 10
        >>> draws = NumberedDraws(dict(type="DefaultSampler"), SeededDraws(dict(type=TenNumbers)), seed=0)
        >>> sorted(draws) == list(range(10)), len({draw.seed for draw in draws})
        (True, 10)
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
        # MMEngine asks by this name whether a sampler can skip.
        if name == "skip" and hasattr(self.sampler, "skip"):
            return self._skip
        if name.startswith("_") or name in ("sampler", "skip"):
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch that begins."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def _skip(self, number: int) -> None:
        self.sampler.skip(number)
        self._skipped += number


@DATASETS.register_module()
class SeededDraws:
    """A dataset that makes each item with the seed of its :class:`Draw`; otherwise it behaves like the dataset inside.

    Args:
        dataset: Config of the dataset inside.

    Examples:
        >>> import numpy as np
        >>> class RandomNumbers:
        ...     def __getitem__(self, index):
        ...         return np.random.random()
        >>> items = SeededDraws(dict(type=RandomNumbers))
        >>> items[Draw(7, seed=17)] == items[Draw(7, seed=17)]
        True
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
        # Pickle asks for attributes before there is a dataset.
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
    """Seeds the random numbers that the network draws in an iteration.

    Examples:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> StepSeed().before_train_iter(SimpleNamespace(seed=0, iter=5), 0)
        >>> before = np.random.random()
        >>> StepSeed().before_train_iter(SimpleNamespace(seed=0, iter=5), 0)
        >>> np.random.random() == before
        True
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy and ``random``."""
        seed_everything(derive_seed(runner.seed, _STEP, get_rank(), runner.iter))
