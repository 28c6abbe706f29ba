"""Batch norm's running statistics, the same in all processes."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _NormBase

from llie_preproc.registry import HOOKS

from ..data_parallel import average_tensors


@HOOKS.register_module()
class AverageStatistics(Hook):
    """Averages batch norm's running statistics over the processes after each iteration; one process has none to.

    Otherwise each process validates with its own, and those of the first are saved. Layers in evaluation mode, as
    frozen ones are, keep theirs to the last bit, which the mean of equal numbers may not.
    """

    # Before the moving average copies them.
    priority = "HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Average."""
        layers = [m for m in runner.model.modules() if isinstance(m, _NormBase) and m.training]
        # Not how many batches there were, which is the same in all.
        average_tensors([b for layer in layers for b in layer.buffers(recurse=False) if b.is_floating_point()])
