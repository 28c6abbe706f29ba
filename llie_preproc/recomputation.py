"""Activation checkpointing: less memory in training, for a second forward pass, which leaves no trace in buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], network: nn.Module) -> Callable[[Tensor], Tensor]:
    """``function``, whose activations are thrown away after the forward pass and made again in the backward pass.

    Both passes compute the same: random numbers are drawn alike, and the second one begins with the buffers that the
    first one began with (spectral norm's estimates). It leaves no trace in them: running statistics count a batch once.

    Args:
        function: Of one tensor; computes by ``network``.
        network: Whose buffers ``function`` may change.
    """

    def run(image: Tensor) -> Tensor:
        begun = _values(network)

        def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
            return contextlib.nullcontext(), _with_buffers(network, begun)

        return checkpoint(function, image, use_reentrant=False, context_fn=contexts)

    return run


@contextlib.contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """What the block does to running statistics, and to other buffers, is undone after it."""
    kept = _values(network)
    try:
        yield
    finally:
        _write(network, kept)


@contextlib.contextmanager
def _with_buffers(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    with kept_buffers(network):
        _write(network, values)
        yield


def _values(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in network.named_buffers()}


def _write(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    buffers = dict(network.named_buffers())
    for name, value in values.items():
        # By its data: autograd would take a normalisation layer's saved buffers for spoilt, which it does not read.
        buffers[name].data.copy_(value)
