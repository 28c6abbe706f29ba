"""Averaging the running statistics of batch norm over all processes."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _NormBase

from llie_preproc.registry import HOOKS

from ..data_parallel import average_tensors


@HOOKS.register_module()
class AverageStatistics(Hook):
    """A hook that averages the running statistics of batch norm over all processes after each iteration.

    Without it, each process would validate with its own statistics, and those of the first process would be saved.
    Layers in evaluation mode, such as frozen ones, are skipped, because the mean of equal numbers may differ from them
    in the last bit.

    Examples:
        >>> hook = HOOKS.build(dict(type="llie_preproc.AverageStatistics"))
        >>> type(hook).__name__
        'AverageStatistics'
    """

    # It must run before the moving average of the weights copies the statistics.
    priority = "HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Average the statistics."""
        layers = [m for m in runner.model.modules() if isinstance(m, _NormBase) and m.training]
        # The number of batches is not averaged, because it is the same in all processes.
        average_tensors([b for layer in layers for b in layer.buffers(recurse=False) if b.is_floating_point()])
