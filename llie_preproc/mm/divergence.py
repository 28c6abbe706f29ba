"""Noticing that a training has diverged, in all its processes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import first_not_finite
from ..errors import needs

with needs("llie_preproc.mm.divergence"):
    from mmengine.dist import all_reduce, broadcast_object_list, is_main_process

# A scaler of gradients skips steps until its scale fits, and gradients that accumulate change no weights for a while.
# MMDetection's own hook looks for a loss that is not finite in every 50th iteration.
_PATIENCE = 50


class DivergenceWatch:
    """A watch over the losses and the weights of one training.

    Infinities that buffers of the model hold before the first step are intended (masks have them).

    Args:
        model: Model that is trained, without the wrapper of a distributed run.

    Examples:
        >>> model = nn.Linear(2, 1)
        >>> watch = DivergenceWatch(model)
        >>> watch.fault_of_weights()
        ''
        >>> _ = nn.init.constant_(model.bias, float("nan"))
        >>> watch.fault_of_weights()
        'the tensor bias is not finite: 1 of 1 numbers are NaN or infinite'
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._intended = {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.isinf().any()}
        self._in_a_row = 0

    def fault_after_step(self, outputs: Mapping[str, Any]) -> str:
        """Describe what is wrong after an iteration, as a clause; empty while nothing is.

        A loss that is not finite is a fault if the weights are not finite after its step, or if the losses of 50
        iterations in a row were not finite.

        Args:
            outputs: What the model's ``train_step`` returned. The losses are the entries with ``loss`` in their names.
        """
        bad = [name for name, value in outputs.items() if "loss" in name and not _is_finite(value)]
        self._in_a_row = self._in_a_row + 1 if self._anywhere(bool(bad)) else 0
        if not self._in_a_row:
            return ""
        if self._in_a_row == _PATIENCE:
            losses = ", ".join(bad) or "a loss of another process"
            return f"{losses} was not finite in {_PATIENCE} iterations in a row"
        return self.fault_of_weights()

    def fault_of_weights(self) -> str:
        """Describe the first tensor of the model that is not finite, as a clause; empty if there is none.

        All processes return what the first one finds, because it alone writes checkpoints.
        """
        fault = [first_not_finite(self._model.state_dict(), self._intended) if is_main_process() else ""]
        broadcast_object_list(fault)
        return fault[0]

    def _anywhere(self, here: bool) -> bool:
        """Whether something holds in any process; all of them must come to the same conclusion."""
        count = torch.tensor(int(here), device=next(self._model.parameters()).device)
        all_reduce(count)
        return bool(count)


def _is_finite(value: float | Tensor) -> bool:
    return bool(torch.as_tensor(value).isfinite().all())
