"""Enhancing images tile by tile, for images that would take too much memory as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .enhancers.base import Capabilities, Enhancer

FADE = 32
"""Number of input pixels over which neighbouring tiles fade into each other if the enhancer declares no halo."""


def check_tile(tile: int, capabilities: Capabilities) -> None:
    """Raise ``ValueError`` if ``tile`` is too small a side for an enhancer of these capabilities.

    Examples:
        >>> check_tile(8, Capabilities(halo=7))
        Traceback (most recent call last):
        ValueError: tile must be at least 15 here, where tiles overlap by 14 pixels, got 8
    """
    divisor, overlap = capabilities.size_divisor, _overlap(capabilities)
    shared, smallest = overlap // divisor, math.ceil(capabilities.min_size / divisor)
    # Without a halo, three tiles must not fade into each other at one place. An image that is just too large for two
    # tiles is cut into three, whose cores are two thirds as large.
    core = math.ceil(1.5 * shared) if capabilities.halo is None else 1
    # An image that is just too large for one tile is cut into two, which must not be too small for the network.
    least = divisor * max(shared + core, 2 * smallest - 1 - shared)
    if tile < least:
        raise ValueError(f"tile must be at least {least} here, where tiles overlap by {overlap} pixels, got {tile}")


def enhance_tiles(
    image: Tensor, enhancer: Enhancer, tile: int, run: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Enhance ``image`` in the fewest tiles, one after another; an image that fits into one tile is enhanced whole.

    With a halo, each tile loses the margin in which it lacks context, and in evaluation mode the result is that of the
    whole image to float rounding. Without a halo, tiles fade linearly into each other over :data:`FADE` pixels, and the
    result is an approximation, because statistics of the whole image become statistics of a tile. Tiles at the border
    of the image end there.

    Args:
        image: Images ``(N, 3, H, W)`` RGB, floating point, in [0, 1], of a size that the enhancer accepts
            (:func:`~llie_preproc.enhancers.pad_to_requirements`).
        enhancer: Network on the image's device.
        tile: Largest side of a tile in input pixels with its overlaps, which :func:`check_tile` accepts. It is rounded
            up to a multiple of the size divisor, as an image would be.
        run: Function that calls the network on a tile; by default ``enhancer`` itself.

    Returns:
        Images ``(N, 3, s*H, s*W)`` in the dtype of ``image``, not clamped. Gradients flow if they are enabled.

    Examples:
        >>> from llie_preproc.enhancers import ZeroDCE
        >>> network, image = ZeroDCE().eval(), torch.rand(1, 3, 40, 50)
        >>> torch.allclose(enhance_tiles(image, network, tile=32), network(image), atol=1e-5)
        True
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
    """Number of input pixels that neighbouring tiles share: the halo of each, so that every pixel has its context."""
    shared = FADE if capabilities.halo is None else 2 * capabilities.halo
    return _round_up(shared, capabilities.size_divisor)


def _round_up(length: int, divisor: int) -> int:
    return math.ceil(length / divisor) * divisor


def _spans(length: int, tile: int, capabilities: Capabilities) -> list[slice]:
    """The fewest tiles along one side; all overlaps are equal, and sizes differ by at most one divisor."""
    divisor, overlap = capabilities.size_divisor, _overlap(capabilities)
    side = _round_up(tile, divisor)
    if length <= side:
        return [slice(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    steps = (length - overlap) // divisor
    starts = [steps * i // count * divisor for i in range(count + 1)]
    return [slice(start, end + overlap) for start, end in pairwise(starts)]


def _join(spans: Sequence[slice], enhance: Callable[[slice], Tensor], dim: int, scale: int, fade: bool) -> Tensor:
    """Join the results of overlapping spans along ``dim``."""
    result = enhance(spans[0])
    if len(spans) == 1:
        return result
    shape = list(result.shape)
    shape[dim] = scale * spans[-1].stop
    piece, result = result, result.new_empty(shape)
    for span, following in pairwise(spans):
        # Each value is written once, when it is final, because autograd refuses values that are overwritten after use.
        done = scale * (following.start - span.start)
        result.narrow(dim, scale * span.start, done).copy_(piece.narrow(dim, 0, done))
        shared = piece.narrow(dim, done, piece.shape[dim] - done)
        piece = _merge(shared, enhance(following), dim, fade)
    result.narrow(dim, scale * spans[-1].start, piece.shape[dim]).copy_(piece)
    return result


def _merge(before: Tensor, after: Tensor, dim: int, fade: bool) -> Tensor:
    """Merge the beginning of ``after`` along ``dim`` with ``before``, the end of its neighbour."""
    length = before.shape[dim]
    head, rest = after.split([length, after.shape[dim] - length], dim)
    position = ((torch.arange(length, device=after.device) + 0.5) / max(length, 1)).to(after.dtype)
    position = position if dim == -1 else position[:, None]
    # Both functions return the exact value if both sides agree. torch.where also keeps an infinity to its own side.
    merged = torch.lerp(before, head, position) if fade else torch.where(position < 0.5, before, head)
    return torch.cat([merged, rest], dim)
