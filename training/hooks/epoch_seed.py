"""A seed for each epoch of a training, beside that of each iteration."""

from __future__ import annotations

from mmengine.dist import get_rank
from mmengine.runner import Runner

from llie_preproc.registry import HOOKS
from llie_preproc.seeds import derive_seed, seed_everything

from .iteration_seed import IterationSeed

# What tells the seed of an epoch's data from that of an iteration.
_DATA = 1


@HOOKS.register_module()
class EpochSeed(IterationSeed):
    """Seeds each epoch too, for data that draw their random numbers from the process, as MMDetection's do.

    A run that resumes at an epoch's end then goes on as the uninterrupted one. Where workers persist over epochs, what
    they draw is theirs, and begins anew.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the data loader and its transforms draw before the first iteration."""
        seed_everything(derive_seed(runner.seed, runner.iter, get_rank(), _DATA))
