"""The first door: enhancement as a pipeline transform, on the data loader's CPU workers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS
from ..enhancers.names import enhancer_class
from ..errors import ImageError
from ..inference import FrozenEnhancer
from ..inference_options import InferenceOptions, OptionKeywords, shows_options
from ..level_checks import LookAlikes
from ..pictures import full_scale
from ..registry import TRANSFORMS
from .enhancement_cache import EnhancedCache
from .geometry import mark_enhanced, scale_results

if TYPE_CHECKING:
    from typing_extensions import Unpack


@TRANSFORMS.register_module()
class Enhance(BaseTransform):
    """Enhances ``results['img']``.

    Placed last before packing it sees what the detector would have seen, and agrees with the other two doors.
    Placed right after loading it sees the whole picture, which is what a cache wants. An enlarging enhancer placed
    before a resizing transform needs :class:`RestoreScaleFactor` after it, because MMCV's ``Resize`` overwrites
    ``scale_factor``; :func:`~llie_preproc.detection.add_enhancer` puts it there.

    Required keys: ``img``, ``(H, W, 3)`` uint8, or float32 of levels 0 to 255.
    Added keys: ``enhanced_by``; a second ``Enhance`` refuses a picture that has it.
    Modified keys: ``img``; with an enlarging enhancer ``img_shape``, ``scale_factor``, ``gt_bboxes``, ``gt_masks``,
    ``gt_seg_map``, ``proposals``, ``homography_matrix`` too.

    Args:
        enhancer: Name, config or instance. It runs on the CPU: workers have no CUDA; see :meth:`to`.
        checkpoint: As for :func:`llie_preproc.build_enhancer`.
        keep_dtype: Round to the image's dtype, as a stored picture would be. Otherwise the result is float32, not
            rounded, as in the other doors.
        cache_dir: Keep results in this folder and use them again: an epoch's pictures are enhanced once. Only of
            use where the images repeat, so before random transforms.
        **options: Those of :class:`~llie_preproc.InferenceOptions`; the channel order is ``'bgr'`` (MMDetection's
            loading) unless given.

    Raises:
        ValueError: An option that is none of its values or that the network cannot be run with, or a ``cache_dir`` for
            a network whose code or settings cannot be told from other ones (a class made in a notebook, say).
    """

    @shows_options(channel_order="bgr")
    def __init__(
        self,
        enhancer: str | Mapping | Enhancer,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        keep_dtype: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        chosen = InferenceOptions.of(options, channel_order="bgr")
        self.frozen = FrozenEnhancer(enhancer, chosen, checkpoint=checkpoint, device="cpu")
        self.enhancer.eval().requires_grad_(False)
        self.keep_dtype = keep_dtype
        self.cache = EnhancedCache(cache_dir, self.enhancer, keep_dtype, chosen.identity()) if cache_dir else None
        self.device = torch.device("cpu")
        # A pipeline does not say whether its pictures are augmented.
        self.look_alikes = LookAlikes()

    @property
    def enhancer(self) -> Enhancer:
        """The network."""
        return self.frozen.enhancer

    @property
    def options(self) -> InferenceOptions:
        """How the network is run."""
        return self.frozen.options

    def to(self, device: str | torch.device) -> Enhance:
        """Run on ``device`` from now on: to fill a cache ahead of the workers that read it."""
        self.device = torch.device(device)
        self.frozen.to(self.device)
        return self

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Enhance the image and scale its annotations.

        Raises:
            ImageError: ``img`` is not ``(H, W, 3)``, was normalised (``img_norm_cfg``), holds no levels of 0 to 255
                (:func:`llie_preproc.level_checks.check_levels`), or its enhancement is not finite.
            ValueError: The picture was enhanced before.
        """
        if before := results.get("enhanced_by"):
            raise ValueError(f"{_name_of(results)} was enhanced before, by {before}: a Cascade joins enhancers")
        image, name = _image_of(results), _name_of(results)
        results["img"] = self._cached(image, self.cache, name)[0] if self.cache else self._enhance(image, name)
        mark_enhanced(results, type(self.enhancer).__name__)
        scale_results(results, self.enhancer.scale)
        if self.enhancer.scale != 1:
            results["enhanced_scale_factor"] = results["scale_factor"]
        return results

    def fill(self, results: dict[str, Any]) -> bool:
        """Keep the image's enhancement in the cache; returns whether it had to be made. ``results`` are not changed.

        Raises:
            ImageError, ValueError: As :meth:`transform`; ValueError too without ``cache_dir``.
        """
        if self.cache is None:
            raise ValueError(f"{self} has no cache_dir")
        return self._cached(_image_of(results), self.cache, _name_of(results))[1]

    def _cached(self, image: np.ndarray, cache: EnhancedCache, name: str) -> tuple[np.ndarray, bool]:
        """The enhanced image, and whether it had to be made."""
        path = cache.path(image)
        dtype = image.dtype if self.keep_dtype else np.dtype(np.float32)
        height, width = (self.enhancer.scale * side for side in image.shape[:2])
        found = cache.read(path, (height, width, 3), dtype)
        if found is not None:
            return found, False
        made = self._enhance(image, name)
        cache.write(path, made)
        return made, True

    def _enhance(self, image: np.ndarray, name: str) -> np.ndarray:
        levels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)
        enhanced = self.frozen.levels([levels], [name], self.look_alikes)[0]
        pixels = enhanced.permute(1, 2, 0).contiguous().cpu().numpy()
        if not self.keep_dtype:
            return pixels
        if image.dtype == np.uint8:
            pixels = pixels.round().clip(0, full_scale(image.dtype))
        return pixels.astype(image.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(enhancer={type(self.enhancer).__name__}, keep_dtype={self.keep_dtype})"


def _image_of(results: dict[str, Any]) -> np.ndarray:
    image = results["img"]
    if image.ndim != 3 or image.shape[2] != 3:
        shape = f"{_name_of(results)} has the shape {image.shape}"
        raise ImageError(f"{shape}: colour images (H, W, 3) are needed: load with color_type='color'")
    if _is_normalised(results.get("img_norm_cfg") or {}):
        raise ImageError(
            f"{_name_of(results)} was normalised before: levels of 0 to 255 are needed: remove Normalize, or put it "
            "behind the enhancer"
        )
    return image


def _is_normalised(config: Mapping[str, Any]) -> bool:
    """Whether what MMCV's ``Normalize`` wrote down changes levels."""
    return bool(np.any(np.asarray(config.get("mean", 0)) != 0) or np.any(np.asarray(config.get("std", 1)) != 1))


def _name_of(results: dict[str, Any]) -> str:
    return str(results.get("img_path") or "img")


@TRANSFORMS.register_module()
class RestoreScaleFactor(BaseTransform):
    """Multiplies the enlargement back into a ``scale_factor`` that a later transform has overwritten.

    Belongs right before packing, in a pipeline where an enlarging :class:`Enhance` stands before a resize. Where
    nothing was overwritten it does nothing.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Restore ``scale_factor``."""
        before = results.pop("enhanced_scale_factor", None)
        if before is not None and results["scale_factor"] is not before:
            results["scale_factor"] = tuple(a * b for a, b in zip(before, results["scale_factor"], strict=True))
        return results


def enhance_by_name(name: str) -> Callable[..., Enhance] | None:
    """What ``dict(type='llie_preproc.<network>', ...)`` in a pipeline builds: :class:`Enhance` with that network.

    Keys that ``Enhance`` has are its own; the rest are the network's. None: there is no such network.
    """
    try:
        name = enhancer_class(name)[0]
    except KeyError:
        return None
    own = set(inspect.signature(Enhance).parameters) - {"enhancer"}

    def build(**config: Any) -> Enhance:
        network = {key: value for key, value in config.items() if key not in own}
        return Enhance({"type": name, **network}, **{k: v for k, v in config.items() if k in own})

    build.__name__ = build.__qualname__ = name
    return build


TRANSFORMS.fallback = enhance_by_name
