"""The discriminator's part of adversarial training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from .base import backward_and_step


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients from the parameters of ``module`` while its inputs still get theirs.

    >>> import torch
    >>> layer, x = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    >>> with frozen(layer):
    ...     layer(x).sum().backward()
    >>> layer.weight.grad is None, x.grad.shape
    (True, torch.Size([1, 2]))
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def discriminator_step(discriminator: nn.Module, loss: Callable[[], Tensor], optim_wrapper: OptimWrapper) -> Tensor:
    """Make one step of the discriminator's optimiser on ``loss()``, and return the loss, detached, for the log."""
    with optim_wrapper.optim_context(discriminator):
        value = loss()
    backward_and_step(value, optim_wrapper, discriminator.parameters())
    return value.detach()
