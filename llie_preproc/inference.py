"""Enhancement of arrays and tensors; everything that enhances calls :func:`enhance_batch` in the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import one_of
from .enhancers.base import CurveEnhancer, Enhancer, check_image_batch, pad_to_requirements
from .enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from .inference_options import CHANNEL_ORDERS, PRECISIONS, InferenceOptions, OptionKeywords, shows_options
from .level_checks import LookAlikes, check_finite, check_levels
from .pictures import full_scale, require_unit_range
from .recomputation import recomputed
from .tiles import enhance_tiles

if TYPE_CHECKING:
    from typing_extensions import Unpack

Images = TypeVar("Images", np.ndarray, Tensor, list)


class FrozenEnhancer:
    """A network and the options that it runs with, in evaluation mode and without gradients.

    Detectors, SAM, files and videos use it. The network's own mode and gradients are not changed.

    Args:
        enhancer: Network, as for :func:`llie_preproc.build_enhancer`.
        options: Options that the network runs with.
        checkpoint: Weights, as for :func:`llie_preproc.build_enhancer`.
        device: Device that the network runs on; by default it stays where it is.

    Raises:
        ValueError: The network cannot run with an option. Errors of :func:`llie_preproc.build_enhancer` pass through.

    Examples:
        >>> brighten = FrozenEnhancer("psenet", InferenceOptions(tile=512))
        >>> brighten(np.zeros((48, 64, 3), np.uint8)).shape
        (48, 64, 3)
    """

    def __init__(
        self,
        enhancer: str | os.PathLike[str] | Mapping | Enhancer,
        options: InferenceOptions = InferenceOptions(),  # noqa: B008  (it is frozen)
        *,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        device: str | torch.device | None = None,
    ) -> None:
        self.enhancer, self.options = build_enhancer(enhancer, checkpoint, device), options
        options.check_fits(self.enhancer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.enhancer).__name__}, {self.options})"

    @property
    def scale(self) -> int:
        """Factor from input to output height and width."""
        return self.enhancer.scale

    def to(self, device: str | torch.device) -> FrozenEnhancer:
        """Move the network to a device, and return this object."""
        self.enhancer.to(device)
        return self

    def __call__(self, images: Images) -> Images:
        """Enhance images as :func:`enhance` does."""
        target = _device_of(self.enhancer)
        singles = _to_singles(images)
        # Images of equal size run together, so the work is sorted by size.
        order = sorted(range(len(singles)), key=lambda i: singles[i].shape)
        results: list[Any] = [None] * len(singles)
        channel_order, batch_size = self.options.channel_order, self.options.batch_size
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            units = [_to_unit(singles[i], i, channel_order, target) for i in chosen]
            enhanced = self.units(units, [f"image {i}" for i in chosen])
            for i, unit in zip(chosen, enhanced, strict=True):
                results[i] = _from_unit(unit, singles[i], channel_order)
        return _like(images, results)

    def units(self, images: Sequence[Tensor], names: Sequence[str] | None = None) -> list[Tensor]:
        """Enhance images ``(3, H, W)`` RGB in [0, 1] on the network's device to ``(3, s*H, s*W)`` in [0, 1].

        Args:
            images: Images of any sizes.
            names: Name of each image, for messages.

        Raises:
            ImageError: A result is not finite.
        """
        with torch.no_grad(), evaluating(self.enhancer):
            return enhance_units(images, self.enhancer, self.options, names=names)

    def levels(
        self, images: Sequence[Tensor], names: Sequence[str] | None = None, look_alikes: LookAlikes | None = None
    ) -> list[Tensor]:
        """Enhance images in the form that detectors use; see :func:`enhance_levels`."""
        with torch.no_grad(), evaluating(self.enhancer):
            return enhance_levels(images, self.enhancer, self.options, names=names, look_alikes=look_alikes)


@shows_options()
def enhance(
    images: Images,
    enhancer: str | os.PathLike[str] | Mapping | Enhancer,
    *,
    device: str | torch.device | None = None,
    **options: Unpack[OptionKeywords],
) -> Images:
    """Enhance images; the results have the type and dtype of the images.

    Args:
        images: Images as a numpy array ``(H, W, 3)`` or ``(N, H, W, 3)``, as a tensor ``(3, H, W)`` or
            ``(N, 3, H, W)``, or as a list of single images of any sizes; uint8, uint16, or floating point in [0, 1].
        enhancer: Network, as for :func:`llie_preproc.build_enhancer`.
        device: Device that the network runs on; by default it stays where it is. Tensors return to their own device.
        **options: Fields of :class:`~llie_preproc.InferenceOptions`.

    Returns:
        Images enlarged by ``enhancer.scale`` and clamped to the range of the dtype, without a gradient.

    Raises:
        TypeError: The images are neither arrays nor tensors or have another dtype, or an option is unknown.
        ValueError: A shape or number of channels is wrong, an option has an unknown value, or the network cannot run
            with it.
        ImageError: A float image has values outside [0, 1] or not finite, or the enhancer's result is not finite.

    Examples:
        >>> enhance(np.zeros((2, 48, 64, 3), np.uint8), "psenet", batch_size=1).shape
        (2, 48, 64, 3)
    """
    # The options are checked before a network is built.
    chosen = InferenceOptions.of(options)
    return FrozenEnhancer(enhancer, chosen, device=device)(images)


def enhance_batch(
    images: Sequence[Tensor],
    enhancer: Enhancer,
    options: InferenceOptions = InferenceOptions(),  # noqa: B008  (it is frozen)
    *,
    clamp: bool = True,
    checkpointing: bool = False,
) -> list[Tensor]:
    """Enhance images; those of equal size run together, but each result depends only on its own image.

    All integrations call this function. Gradients flow if they are enabled.

    Args:
        images: Images ``(3, H, W)`` RGB, floating point, in [0, 1], of any sizes.
        enhancer: Network on the images' device.
        options: Options that the network runs with; ``channel_order`` has no effect here.
        clamp: Whether the results are clamped to [0, 1], which training does not need.
        checkpointing: Whether, with gradients enabled, the network's activations are computed again in the backward
            pass, tile by tile, instead of being kept.

    Returns:
        Images ``(3, s*H, s*W)``, each in the dtype of its input, in the given order.

    Raises:
        TypeError: An image is not floating point.
        ValueError: A shape is wrong, or the network cannot run with an option.

    Examples:
        >>> from llie_preproc.enhancers import Upscale
        >>> images = [torch.rand(3, 4, 6), torch.rand(3, 8, 8)]
        >>> [tuple(image.shape) for image in enhance_batch(images, Upscale(scale=2))]
        [(3, 8, 12), (3, 16, 16)]
    """
    options.check_fits(enhancer)
    results: list[Tensor] = [torch.empty(0)] * len(images)
    for indices in _groups(images, options, enhancer.training):
        batch = torch.stack([images[i] for i in indices])
        check_image_batch(batch)
        with _autocast(batch.device, options.precision):
            enhanced = _enhanced(batch, enhancer, options, checkpointing).to(batch.dtype)
        for i, result in zip(indices, enhanced.clamp(0, 1) if clamp else enhanced, strict=True):
            results[i] = result
    return results


def _enhanced(batch: Tensor, enhancer: Enhancer, options: InferenceOptions, checkpointing: bool) -> Tensor:
    map_side = options.map_side
    if map_side is None or max(batch.shape[-2:]) <= map_side:
        return _enhance_at_full_size(batch, enhancer, options.tile, checkpointing)
    by_map = partial(_enhance_by_small_map, enhancer=cast(CurveEnhancer, enhancer), map_side=map_side)
    return _runner(by_map, enhancer, checkpointing)(batch)


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
    # Float16 has too few steps for interpolated values.
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    map = F.interpolate(predicted, size=batch.shape[-2:], mode="bilinear", align_corners=False)
    return enhancer.apply_map(batch, map)


def shrink(image: Tensor, side: int) -> Tensor:
    """Shrink ``(N, C, H, W)`` with antialiasing to a longer side of ``side`` pixels; smaller images stay as they are.

    Examples:
        >>> shrink(torch.zeros(1, 3, 100, 200), 50).shape
        torch.Size([1, 3, 25, 50])
    """
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
    options: InferenceOptions,
    *,
    clamp: bool = True,
    names: Sequence[str] | None = None,
    look_alikes: LookAlikes | None = None,
) -> list[Tensor]:
    """Enhance images in the form that detectors use: levels of 0 to 255 in the channel order of the options.

    If the enhancer changes nothing, the result is bit-identical to the image. This also holds for levels outside 0 to
    255, which photometric augmentation may produce.

    Args:
        images: Images ``(3, H, W)``, uint8 or floating point.
        enhancer: Network on the images' device.
        options: Options that the network runs with.
        clamp: Whether the results are checked to be finite and clamped to [0, 255]. Training does neither, because the
            trainer handles losses that are not finite.
        names: Name of each image, for messages.
        look_alikes: Counter of images that look normalised, as for :func:`llie_preproc.level_checks.check_levels`.

    Returns:
        Images ``(3, s*H, s*W)`` float32, not rounded.

    Raises:
        ImageError: Images do not hold levels (:func:`llie_preproc.level_checks.check_levels`), or a result is not
            finite.

    Examples:
        >>> from llie_preproc.enhancers import GammaCorrection
        >>> image = torch.full((3, 4, 4), 64, dtype=torch.uint8)
        >>> levels = enhance_levels([image], GammaCorrection(gamma=0.5), InferenceOptions(channel_order="bgr"))[0]
        >>> round(levels.mean().item(), 2)
        127.75
    """
    units = levels_to_units(images, options.channel_order, names, look_alikes)
    enhanced = enhance_units(units, enhancer, options, clamp=clamp, names=names)
    return units_to_levels(images, units, enhanced, options.channel_order)


def levels_to_units(
    images: Sequence[Tensor],
    channel_order: str,
    names: Sequence[str] | None = None,
    look_alikes: LookAlikes | None = None,
) -> list[Tensor]:
    """Convert levels of 0 to 255 in ``channel_order`` to the input of an enhancer: RGB float32, clamped to [0, 1].

    Raises:
        ImageError: Images do not hold levels (:func:`llie_preproc.level_checks.check_levels`).
    """
    channels = _channels(channel_order)
    check_levels(images, names, look_alikes)
    return [(image.float().clamp(0, 255) / 255).flip(channels) for image in images]


def enhance_units(
    images: Sequence[Tensor],
    enhancer: Enhancer,
    options: InferenceOptions,
    *,
    clamp: bool = True,
    checkpointing: bool = False,
    names: Sequence[str] | None = None,
) -> list[Tensor]:
    """Do what :func:`enhance_batch` does; with ``clamp``, results are checked to be finite before they are clamped.

    Raises:
        ImageError: A result is not finite.
    """
    enhanced = enhance_batch(images, enhancer, options, clamp=False, checkpointing=checkpointing)
    if not clamp:
        return enhanced
    check_finite(enhanced, f"{type(enhancer).__name__} under {options.precision}", names)
    return [each.clamp(0, 1) for each in enhanced]


def units_to_levels(
    images: Sequence[Tensor], units: Sequence[Tensor], enhanced: Sequence[Tensor], channel_order: str
) -> list[Tensor]:
    """Convert the results for ``units`` to float32 levels; they are bit-identical to ``images`` if nothing changed."""
    channels = _channels(channel_order)
    if units and units[0].shape != enhanced[0].shape:
        return [255 * y.flip(channels) for y in enhanced]
    triples = zip(images, units, enhanced, strict=True)
    return [image.float() + 255 * (y - unit).flip(channels) for image, unit, y in triples]


def _channels(channel_order: str) -> tuple[int, ...]:
    """Dimensions that must be flipped between ``channel_order`` and RGB."""
    one_of("channel_order", channel_order, CHANNEL_ORDERS)
    return (0,) if channel_order == "bgr" else ()


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Set a module to evaluation mode for a block, and restore every submodule's own mode after it.

    Examples:
        >>> module = torch.nn.Dropout()
        >>> with evaluating(module):
        ...     module.training
        False
        >>> module.training
        True
    """
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


def _groups(images: Sequence[Tensor], options: InferenceOptions, training: bool) -> list[list[int]]:
    """Indices of the images that run together: those of equal size, except that images larger than a tile run alone."""
    groups: dict[tuple[torch.Size, int | None], list[int]] = {}
    for index, image in enumerate(images):
        alone = options.tile is not None and max(image.shape[-2:]) > options.tile
        groups.setdefault((image.shape, index if alone else None), []).append(index)
    # In training mode, all images of a size run together, because batch statistics depend on them.
    most = len(images) if training else options.batch_size
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    if precision == "float32":
        # A caller's autocast is switched off too, because networks may not be faithful in its precision.
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
    """Convert an image to a float32 RGB tensor ``(3, H, W)`` in [0, 1]."""
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
    """Put the results into a container like that of ``images``."""
    if isinstance(images, list | tuple):
        return results
    if images.ndim == 3:
        return results[0]
    if not results:
        return images
    return torch.stack(results) if isinstance(images, Tensor) else np.stack(results)
