"""Arrays and tensors in, arrays and tensors out: every door into a detector ends in :func:`enhance_batch`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import at_least, one_of
from .enhancers.base import CurveEnhancer, Enhancer, check_image_batch, pad_to_requirements
from .enhancers.build import build_enhancer
from .levels import LookAlikes, check_finite, check_levels
from .pictures import full_scale, require_unit_range
from .recomputation import recomputed
from .tiles import check_tile, enhance_tiles

Images = TypeVar("Images", np.ndarray, Tensor, list)

CHANNEL_ORDERS = ("rgb", "bgr")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def enhance(
    images: Images,
    enhancer: str | Mapping | Enhancer,
    *,
    channel_order: str = "rgb",
    batch_size: int = 8,
    precision: str = "float32",
    device: str | torch.device | None = None,
    tile: int | None = None,
    map_side: int | None = None,
) -> Images:
    """Enhance images; what goes in comes out, same kind, same dtype.

    Args:
        images: A numpy array ``(H, W, 3)`` or ``(N, H, W, 3)``, a tensor ``(3, H, W)`` or ``(N, 3, H, W)``, or a
            list of unbatched ones of any sizes. uint8, uint16, or floating in [0, 1].
        enhancer: As for :func:`build_enhancer`.
        channel_order: ``'rgb'``, or ``'bgr'`` (OpenCV's); the result has the same order.
        batch_size: Images of one size that run together.
        precision: ``'float32'``, or ``'bfloat16'`` / ``'float16'`` autocast where the network is faithful under it.
        device: Where to run; by default where the enhancer is. Tensors come back on the device they came on.
        tile: Enhance larger images in tiles of at most this side, in input pixels and with their overlaps, one at a
            time: memory for the network's layers is then that of a tile. None: the whole image at once. The result is
            the same to float rounding where ``enhancer.capabilities.halo`` is a number, else an approximation
            (:func:`llie_preproc.tiles.enhance_tiles`).
        map_side: Of a network that predicts a map of curves (:class:`~llie_preproc.enhancers.CurveEnhancer`): predict
            it on the image shrunk to this longer side, and apply it at full size. Faster and smaller; an approximation
            wherever the map is not smooth. Images that are not larger are enhanced as without it.

    Returns:
        Images enlarged by ``enhancer.scale``, clamped to the range of the dtype, without gradient.

    Raises:
        TypeError: Neither arrays nor tensors, or another dtype.
        ValueError: A wrong shape, channel number, channel order, batch size or precision, a tile that is too small
            for its overlaps, or a ``map_side`` together with a tile or for a network without such a map.
        ImageError: A float image with values outside [0, 1], or that are not finite; or the enhancer's result is not
            finite.
    """
    options: dict[str, Any] = dict(precision=precision, tile=tile, map_side=map_side)
    check_inference_options(channel_order=channel_order, batch_size=batch_size, **options)
    network = build_enhancer(enhancer, device=device)
    check_inference_options(network, **options)
    target = _device_of(network)
    singles = _to_singles(images)
    # Equal sizes run together, so sort the work by size and keep the order of the results.
    order = sorted(range(len(singles)), key=lambda i: singles[i].shape)
    results: list[Any] = [None] * len(singles)
    with torch.no_grad(), evaluating(network):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            units = [_to_unit(singles[i], i, channel_order, target) for i in chosen]
            named = [f"image {i}" for i in chosen]
            for i, unit in zip(chosen, enhance_units(units, network, names=named, **options), strict=True):
                results[i] = _from_unit(unit, singles[i], channel_order)
    return _like(images, results)


def enhance_batch(
    images: Sequence[Tensor],
    enhancer: Enhancer,
    *,
    clamp: bool = True,
    precision: str = "float32",
    tile: int | None = None,
    map_side: int | None = None,
    checkpointing: bool = False,
) -> list[Tensor]:
    """Enhance images one by one or, where sizes are equal, together; each result depends on its own image alone.

    The one function that all integrations call. Gradients flow where they are enabled.

    Args:
        images: ``(3, H, W)`` RGB, floating, in [0, 1], any sizes.
        enhancer: The network, on the images' device.
        clamp: Clamp the results to [0, 1]; leave out in training.
        precision, tile, map_side: As for :func:`enhance`. With gradients tiles alone save no memory.
        checkpointing: Where gradients are enabled, make the network's activations again in the backward pass (of a
            tile at a time) rather than keep them.

    Returns:
        ``(3, s*H, s*W)`` each, of the dtype of its input, in the order given.

    Raises:
        TypeError: An image that is not floating.
        ValueError: A wrong shape, precision, tile or ``map_side``.
    """
    check_inference_options(enhancer, precision=precision, tile=tile, map_side=map_side)
    results: list[Tensor] = [torch.empty(0)] * len(images)
    for indices in _groups(images, tile):
        shape = images[indices[0]].shape
        batch = torch.stack([images[i] for i in indices])
        check_image_batch(batch)
        with _autocast(batch.device, precision):
            if map_side is not None and max(shape[-2:]) > map_side:
                by_map = partial(_enhance_by_small_map, enhancer=cast(CurveEnhancer, enhancer), map_side=map_side)
                enhanced = _runner(by_map, enhancer, checkpointing)(batch)
            else:
                enhanced = _enhance_at_full_size(batch, enhancer, tile, checkpointing)
        enhanced = enhanced.to(batch.dtype)
        for i, result in zip(indices, enhanced.clamp(0, 1) if clamp else enhanced, strict=True):
            results[i] = result
    return results


def check_inference_options(
    enhancer: Enhancer | None = None,
    *,
    channel_order: str = "rgb",
    precision: str = "float32",
    tile: int | None = None,
    map_side: int | None = None,
    batch_size: int = 1,
) -> None:
    """Refuse options that no network, or this one, can run with: the one check of all that take such options.

    >>> check_inference_options(channel_order="BGR")
    Traceback (most recent call last):
    ValueError: channel_order must be one of 'rgb', 'bgr', got 'BGR'

    Args:
        enhancer: The network; None: it is not known yet.
        channel_order, precision, tile, map_side, batch_size: Options of :func:`enhance`.

    Raises:
        ValueError: An option that is none of its values, a tile that is too small for the network, a ``map_side``
            together with a tile or for a network without a map of curves, or a precision under which the network is
            not faithful.
    """
    one_of("channel_order", channel_order, CHANNEL_ORDERS)
    one_of("precision", precision, PRECISIONS)
    at_least("batch_size", batch_size, 1)
    for name, side in (("tile", tile), ("map_side", map_side)):
        if side is not None:
            at_least(name, side, 1)
    if tile is not None and map_side is not None:
        raise ValueError("map_side and tile exclude each other: a map predicted on a small image needs no tiles")
    if enhancer is not None:
        _check_fits(enhancer, precision, tile, map_side)


def _check_fits(enhancer: Enhancer, precision: str, tile: int | None, map_side: int | None) -> None:
    name, faithful = type(enhancer).__name__, (torch.float32, *enhancer.capabilities.precisions)
    if PRECISIONS[precision] not in faithful:
        raise ValueError(f"{name} is not faithful under {precision}: use float32")
    if tile is not None:
        check_tile(tile, enhancer.capabilities)
    if map_side is not None and not isinstance(enhancer, CurveEnhancer):
        raise ValueError(f"map_side is for networks that predict a map of curves; {name} has none")


def _enhance_at_full_size(batch: Tensor, enhancer: Enhancer, tile: int | None, checkpointing: bool) -> Tensor:
    padded = pad_to_requirements(batch, enhancer.capabilities)
    run = _runner(enhancer, enhancer, checkpointing)
    enhanced = enhance_tiles(padded, enhancer, tile or max(padded.shape[-2:]), run)
    height, width = (enhancer.scale * n for n in batch.shape[-2:])
    return enhanced[..., :height, :width]


def _enhance_by_small_map(batch: Tensor, enhancer: CurveEnhancer, map_side: int) -> Tensor:
    small = shrink(batch, map_side)
    height, width = small.shape[-2:]
    padded = pad_to_requirements(small, enhancer.capabilities).contiguous(memory_format=torch.channels_last)
    predicted = enhancer.predict_map(padded)[..., :height, :width]
    # Float16 has too few steps between neighbours to interpolate in.
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    map = F.interpolate(predicted, size=batch.shape[-2:], mode="bilinear", align_corners=False)
    return enhancer.apply_map(batch, map)


def shrink(image: Tensor, side: int) -> Tensor:
    """``(N, C, H, W)`` resampled, antialiased, to a longer side of ``side`` pixels; smaller ones as they are."""
    longer = max(image.shape[-2:])
    if longer <= side:
        return image
    size = [max(1, round(n * side / longer)) for n in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _runner(function: Callable[[Tensor], Tensor], network: Enhancer, checkpointing: bool) -> Callable[[Tensor], Tensor]:
    return recomputed(function, network) if checkpointing and torch.is_grad_enabled() else function


def enhance_levels(
    images: Sequence[Tensor],
    enhancer: Enhancer,
    *,
    channel_order: str = "bgr",
    clamp: bool = True,
    names: Sequence[str] | None = None,
    look_alikes: LookAlikes | None = None,
    **options: Any,
) -> list[Tensor]:
    """:func:`enhance_batch` for images as detectors have them: levels of 0 to 255, OpenCV's channel order.

    Where the enhancer changes nothing the result is equal to the image to the last bit, also outside 0 to 255
    (photometric augmentation leaves the range).

    Args:
        images: ``(3, H, W)``, uint8 or floating.
        enhancer: The network, on the images' device.
        channel_order: ``'bgr'`` or ``'rgb'``, of images and results.
        clamp: Clamp the results to [0, 255]; leave out in training, where they are not checked either: a loss that
            is not finite is the trainer's business.
        names: Name of each image, for messages.
        look_alikes: Counter of a door, which :func:`llie_preproc.levels.check_levels` updates.
        **options: Options of :func:`enhance_batch`.

    Returns:
        ``(3, s*H, s*W)`` float32, not rounded.

    Raises:
        ImageError: Images that are no levels (:func:`llie_preproc.levels.check_levels`), or a result that is not
            finite.
    """
    units = levels_to_units(images, channel_order, names, look_alikes)
    enhanced = enhance_units(units, enhancer, clamp=clamp, names=names, **options)
    return units_to_levels(images, units, enhanced, channel_order)


def levels_to_units(
    images: Sequence[Tensor],
    channel_order: str,
    names: Sequence[str] | None = None,
    look_alikes: LookAlikes | None = None,
) -> list[Tensor]:
    """Levels of 0 to 255 in ``channel_order`` as an enhancer takes them: RGB float32, clamped to [0, 1].

    Raises:
        ImageError: Images that are no levels (:func:`llie_preproc.levels.check_levels`).
    """
    channels = _channels(channel_order)
    check_levels(images, names, look_alikes)
    return [(image.float().clamp(0, 255) / 255).flip(channels) for image in images]


def enhance_units(
    images: Sequence[Tensor],
    enhancer: Enhancer,
    *,
    clamp: bool = True,
    names: Sequence[str] | None = None,
    **options: Any,
) -> list[Tensor]:
    """:func:`enhance_batch`, whose results are checked before they are clamped; not checked where they are not.

    Raises:
        ImageError: A result is not finite.
    """
    enhanced = enhance_batch(images, enhancer, clamp=False, **options)
    if not clamp:
        return enhanced
    precision = options.get("precision", "float32")
    check_finite(enhanced, f"{type(enhancer).__name__} under {precision}", names)
    return [each.clamp(0, 1) for each in enhanced]


def units_to_levels(
    images: Sequence[Tensor], units: Sequence[Tensor], enhanced: Sequence[Tensor], channel_order: str
) -> list[Tensor]:
    """What an enhancer made of ``units`` as levels, float32: to the last bit ``images`` where it changed nothing."""
    channels = _channels(channel_order)
    if units and units[0].shape != enhanced[0].shape:
        return [255 * y.flip(channels) for y in enhanced]
    triples = zip(images, units, enhanced, strict=True)
    return [image.float() + 255 * (y - unit).flip(channels) for image, unit, y in triples]


def _channels(channel_order: str) -> tuple[int, ...]:
    """Which dimensions to flip between ``channel_order`` and RGB."""
    one_of("channel_order", channel_order, CHANNEL_ORDERS)
    return (0,) if channel_order == "bgr" else ()


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every submodule's own mode is restored after it."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


def _groups(images: Sequence[Tensor], tile: int | None) -> list[list[int]]:
    """Indices of images that run together: equal sizes, but one at a time what is larger than a tile."""
    groups: dict[tuple[torch.Size, int | None], list[int]] = {}
    for index, image in enumerate(images):
        alone = tile is not None and max(image.shape[-2:]) > tile
        groups.setdefault((image.shape, index if alone else None), []).append(index)
    return list(groups.values())


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    if precision == "float32":
        # Also inside a caller's autocast: float16 would reach networks that are not faithful under it.
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, PRECISIONS[precision])


def _device_of(enhancer: Enhancer) -> torch.device | None:
    parameter = next(enhancer.parameters(), None)
    return parameter.device if parameter is not None else None


def _to_singles(images: np.ndarray | Tensor | Sequence) -> list[np.ndarray] | list[Tensor]:
    """Split into unbatched images, checking kind, shape and dtype."""
    if isinstance(images, list | tuple):
        if not all(isinstance(image, np.ndarray | Tensor) and image.ndim == 3 for image in images):
            raise ValueError("a list of images must hold numpy arrays (H, W, 3) or tensors (3, H, W)")
        singles: list[Any] = list(images)
    elif isinstance(images, np.ndarray | Tensor):
        if images.ndim not in (3, 4):
            raise ValueError(f"images must have three or four dimensions, got the shape {tuple(images.shape)}")
        singles = list(images) if images.ndim == 4 else [images]
    else:
        raise TypeError(f"images must be a numpy array, a tensor or a list of them, got {type(images).__name__}")
    for single in singles:
        channels, layout = (
            (single.shape[0], "(3, H, W)") if isinstance(single, Tensor) else (single.shape[2], "(H, W, 3)")
        )
        if channels != 3 or 0 in single.shape:
            raise ValueError(f"an image must be {layout} with 3 colour channels, got the shape {tuple(single.shape)}")
    return singles


def _to_unit(image: np.ndarray | Tensor, index: int, channel_order: str, device: torch.device | None) -> Tensor:
    """One image as a float32 RGB ``(3, H, W)`` tensor in [0, 1]."""
    scale = _scale_of(image)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image.astype(np.float32))).permute(2, 0, 1)
    image = image.to(device=device, dtype=torch.float32)
    if scale == 1.0:
        _check_range(image, index)
    image = image / scale
    return image.flip(0) if channel_order == "bgr" else image


def _scale_of(image: np.ndarray | Tensor) -> float:
    if isinstance(image, np.ndarray):
        return full_scale(image.dtype)
    return full_scale(np.dtype(np.float32) if image.dtype.is_floating_point else np.dtype(str(image.dtype)[6:]))


def _check_range(image: Tensor, index: int) -> None:
    low, high = (float(v) for v in torch.aminmax(image))
    require_unit_range(low, high, f"image {index}")


def _from_unit(unit: Tensor, like: np.ndarray | Tensor, channel_order: str) -> np.ndarray | Tensor:
    scale = _scale_of(like)
    unit = unit.flip(0) if channel_order == "bgr" else unit
    if scale != 1.0:
        unit = (unit * scale).round()
    if isinstance(like, Tensor):
        return unit.to(device=like.device, dtype=like.dtype)
    return unit.permute(1, 2, 0).cpu().numpy().astype(like.dtype, order="C")


def _like(images: Any, results: list) -> Any:
    """The results in the container that ``images`` came in."""
    if isinstance(images, list | tuple):
        return results
    if images.ndim == 3:
        return results[0]
    if not results:
        return images
    return torch.stack(results) if isinstance(images, Tensor) else np.stack(results)
