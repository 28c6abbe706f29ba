"""Activation checkpointing: less memory in training, by a second forward pass, which does not change buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Wrap ``function`` so that its activations are not kept, but computed again in the backward pass.

    Both passes compute the same: they draw the same random numbers, and the second pass starts with the buffers that
    the first one started with (such as the estimates of spectral norms). The second pass does not change the buffers,
    so running statistics count a batch once.

    Args:
        function: Function of one tensor that computes with ``network``.
        network: Network whose buffers ``function`` may change.

    Examples:
        >>> import torch
        >>> network, image = nn.Linear(2, 1), torch.ones(1, 2)
        >>> recomputed(network, network)(image).sum().backward()
        >>> network.weight.grad.tolist()
        [[1.0, 1.0]]
    """

    def run(image: Tensor) -> Tensor:
        begun = _values(network)

        def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
            return contextlib.nullcontext(), _with_buffers(network, begun)

        return checkpoint(function, image, use_reentrant=False, context_fn=contexts)

    return run


@contextlib.contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """Restore running statistics and other buffers of a network after a block.

    Examples:
        >>> import torch
        >>> norm = nn.BatchNorm2d(1)
        >>> with kept_buffers(norm):
        ...     _ = norm(torch.rand(2, 1, 4, 4))
        >>> norm.num_batches_tracked.item()
        0
    """
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
        # Autograd has saved the buffers of a normalisation layer, though it does not read them. It would refuse the
        # backward pass after a change, unless the change is made to their data.
        buffers[name].data.copy_(value)
