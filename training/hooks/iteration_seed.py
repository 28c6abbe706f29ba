"""Seeding each iteration of a training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.registry import HOOKS

from ..randomness import begin_iteration, end_iteration


@HOOKS.register_module()
class IterationSeed(Hook):
    """A hook that seeds each iteration by its number and the run's seed, so that a resumed run draws the same numbers.

    Examples:
        >>> HOOKS.build(dict(type="llie_preproc.IterationSeed")).priority
        'VERY_HIGH'
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy, ``random`` and the draws that all ranks share."""
        begin_iteration(runner.seed, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Let draws between iterations come from PyTorch's own generator."""
        end_iteration()
