"""The discriminator's half of adversarial training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from .base import backward_and_step


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient for the parameters of ``module``, while what goes through it still passes gradients to its input."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def discriminator_step(discriminator: nn.Module, loss: Callable[[], Tensor], optim_wrapper: OptimWrapper) -> Tensor:
    """One step of the discriminator's optimiser on ``loss()``; returns the loss, detached, to log."""
    with optim_wrapper.optim_context(discriminator):
        value = loss()
    backward_and_step(value, optim_wrapper, discriminator.parameters())
    return value.detach()
