"""Seeding each epoch of a training, in addition to each iteration."""

from __future__ import annotations

from mmengine.dist import get_rank
from mmengine.runner import Runner

from llie_preproc.registry import HOOKS
from llie_preproc.seeds import derive_seed, seed_everything

from .iteration_seed import IterationSeed

# This number makes the seed of an epoch's data different from that of an iteration.
_DATA = 1


@HOOKS.register_module()
class EpochSeed(IterationSeed):
    """A hook that seeds each epoch too, for data sets that draw from the process's generators, as MMDetection's do.

    A run that resumes after an epoch then continues like an uninterrupted one. Workers that persist over epochs are not
    covered: they have their own generators, which start again in a resumed run.

    Examples:
        >>> HOOKS.build(dict(type="llie_preproc.EpochSeed")).priority
        'VERY_HIGH'
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the generators from which the data loader and its transforms draw before the first iteration."""
        seed_everything(derive_seed(runner.seed, runner.iter, get_rank(), _DATA))
