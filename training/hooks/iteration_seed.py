"""A seed for each iteration of a training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.registry import HOOKS

from ..randomness import begin_iteration, end_iteration


@HOOKS.register_module()
class IterationSeed(Hook):
    """Seeds each iteration by the run's seed and its number, so that a resumed run draws the same random numbers."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy, ``random`` and what the ranks share."""
        begin_iteration(runner.seed, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """What is drawn between iterations comes from PyTorch's own generator."""
        end_iteration()
