"""Enhancing images tile by tile, where the whole image at once would take too much memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .enhancers.base import Capabilities, Enhancer

FADE = 32
"""Input pixels over which neighbouring tiles fade into each other where the enhancer declares no halo."""


def check_tile(tile: int, capabilities: Capabilities) -> None:
    """Raise ``ValueError`` where ``tile`` is too small a side for an enhancer of these capabilities."""
    divisor, overlap = capabilities.size_divisor, _overlap(capabilities)
    shared, smallest = overlap // divisor, math.ceil(capabilities.min_size / divisor)
    # Without a halo no three tiles shall fade into each other: an image that is just too large for two of them is
    # done in three, each with two thirds of the others' cores.
    core = math.ceil(1.5 * shared) if capabilities.halo is None else 1
    # One that is just too large for one tile is done in two, which the network must take.
    least = divisor * max(shared + core, 2 * smallest - 1 - shared)
    if tile < least:
        raise ValueError(f"tile must be at least {least} here, where tiles overlap by {overlap} pixels, got {tile}")


def enhance_tiles(
    image: Tensor, enhancer: Enhancer, tile: int, run: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Enhance ``image`` in the fewest tiles, one after another; what is not larger than a tile is done whole.

    With a halo the parts of neighbouring tiles that each does not see well are cut away, and the result is that of
    the whole image, to float rounding, in evaluation mode. Without one, tiles fade linearly into each other over
    :data:`FADE` pixels, and the result is an approximation: what the network gathers over the whole image is then
    gathered over the tile. At the border of the image tiles end there, as the image does.

    Args:
        image: ``(N, 3, H, W)`` RGB, floating, in [0, 1], of a size that the enhancer takes
            (:func:`~llie_preproc.enhancers.pad_to_requirements`).
        enhancer: The network, on the image's device.
        tile: Greatest side of a tile in input pixels, its overlaps included; accepted by :func:`check_tile`. It is
            rounded up to a multiple of the size divisor, as an image would be.
        run: Calls the network on a tile in a way of its own; by default ``enhancer`` itself.

    Returns:
        ``(N, 3, s*H, s*W)`` of the dtype of ``image``, unclamped. Gradients flow where they are enabled.
    """
    capabilities = enhancer.capabilities
    rows, columns = (_spans(length, tile, capabilities) for length in image.shape[-2:])
    fade, scale = capabilities.halo is None, enhancer.scale
    run = run or enhancer

    def enhance_tile(row: slice, column: slice) -> Tensor:
        part = image[..., row, column].contiguous(memory_format=torch.channels_last)
        return run(part).to(image.dtype)

    def enhance_row(row: slice) -> Tensor:
        return _join(columns, lambda column: enhance_tile(row, column), -1, scale, fade)

    return _join(rows, enhance_row, -2, scale, fade)


def _overlap(capabilities: Capabilities) -> int:
    """Input pixels that neighbouring tiles share: the halo of each, so that between them no pixel lacks context."""
    shared = FADE if capabilities.halo is None else 2 * capabilities.halo
    return _round_up(shared, capabilities.size_divisor)


def _round_up(length: int, divisor: int) -> int:
    return math.ceil(length / divisor) * divisor


def _spans(length: int, tile: int, capabilities: Capabilities) -> list[slice]:
    """The fewest tiles along one side: each overlaps the next by the same, and sizes differ by a divisor at most."""
    divisor, overlap = capabilities.size_divisor, _overlap(capabilities)
    side = _round_up(tile, divisor)
    if length <= side:
        return [slice(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    steps = (length - overlap) // divisor
    starts = [steps * i // count * divisor for i in range(count + 1)]
    return [slice(start, end + overlap) for start, end in pairwise(starts)]


def _join(spans: Sequence[slice], enhance: Callable[[slice], Tensor], dim: int, scale: int, fade: bool) -> Tensor:
    """The results of overlapping spans as one, along ``dim``."""
    result = enhance(spans[0])
    if len(spans) == 1:
        return result
    shape = list(result.shape)
    shape[dim] = scale * spans[-1].stop
    piece, result = result, result.new_empty(shape)
    for span, following in pairwise(spans):
        # Each value is written once, when it is final: autograd refuses what is overwritten after use.
        done = scale * (following.start - span.start)
        result.narrow(dim, scale * span.start, done).copy_(piece.narrow(dim, 0, done))
        shared = piece.narrow(dim, done, piece.shape[dim] - done)
        piece = _merge(shared, enhance(following), dim, fade)
    result.narrow(dim, scale * spans[-1].start, piece.shape[dim]).copy_(piece)
    return result


def _merge(before: Tensor, after: Tensor, dim: int, fade: bool) -> Tensor:
    """``after``, whose beginning along ``dim`` passes from ``before``, the end of its neighbour."""
    length = before.shape[dim]
    head, rest = after.split([length, after.shape[dim] - length], dim)
    position = ((torch.arange(length, device=after.device) + 0.5) / max(length, 1)).to(after.dtype)
    position = position if dim == -1 else position[:, None]
    # lerp returns what both agree on to the last bit; so does where, which also leaves no trace of an infinity.
    merged = torch.lerp(before, head, position) if fade else torch.where(position < 0.5, before, head)
    return torch.cat([merged, rest], dim)
