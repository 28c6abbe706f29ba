"""A hook that ends a run of MMEngine in the middle."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.registry import HOOKS


class Interrupted(Exception):
    """Raised by :class:`InterruptAt` to end a run."""


@HOOKS.register_module()
class InterruptAt(Hook):
    """Ends a run after the training iteration with this index, counted from 0."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == self.iteration:
            raise Interrupted
