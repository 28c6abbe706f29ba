"""Activation checkpointing of an enhancer: less memory in training, for a second forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], network: nn.Module) -> Callable[[Tensor], Tensor]:
    """``function``, whose activations are thrown away after the forward pass and made again in the backward pass.

    Random numbers are drawn alike both times, and the running statistics of batch norm count a batch once.

    Args:
        function: Of one tensor; computes by ``network``.
        network: Whose running statistics the second pass leaves alone.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), _kept_statistics(network)

    def run(image: Tensor) -> Tensor:
        return checkpoint(function, image, use_reentrant=False, context_fn=contexts)

    return run


@contextlib.contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
