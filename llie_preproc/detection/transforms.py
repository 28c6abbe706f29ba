"""``door="transform"`` of ``add_enhancer``: enhancement as a pipeline transform, on the data loader's CPU workers."""

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
    """Enhance ``results['img']``.

    As the last transform before packing, it enhances the images that the detector sees, and gives the same result as an
    enhancer in the data preprocessor or in the wrapper. Right after loading, it enhances the whole pictures, which a
    cache needs. An enlarging enhancer before a resizing transform also needs :class:`RestoreScaleFactor` in the
    pipeline, because MMCV's ``Resize`` overwrites ``scale_factor``; :func:`~llie_preproc.detection.add_enhancer`
    inserts both.

    Required keys: ``img``, ``(H, W, 3)`` uint8, or float32 with levels of 0 to 255.
    Added keys: ``enhanced_by``; a second ``Enhance`` refuses a picture that has it.
    Modified keys: ``img``; with an enlarging enhancer also ``img_shape``, ``pad_shape``, ``scale_factor``,
    ``gt_bboxes``, ``gt_masks``, ``gt_seg_map``, ``gt_keypoints``, ``proposals`` and ``homography_matrix``.

    Args:
        enhancer: Name, config or instance of the enhancer. It runs on the CPU, because workers have no CUDA (see
            :meth:`to`).
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        keep_dtype: Whether the result is rounded to the image's dtype, as a stored picture would be. Otherwise the
            result is float32 and not rounded.
        cache_dir: Folder in which results are kept and found again, so that a picture is enhanced only once. This helps
            only before random transforms, because images must repeat.
        **options: Options of :class:`~llie_preproc.InferenceOptions`, whose channel order is ``'bgr'`` by default, as
            MMDetection loads images.

    Raises:
        ValueError: An option has an unknown value, or the network cannot run with it; or ``cache_dir`` is given for a
            network whose code or settings cannot be distinguished from others (for example, a class made in a
            notebook).

    Examples:
        >>> enhance = Enhance(dict(type="GammaCorrection", gamma=0.5))
        >>> results = enhance(dict(img=np.full((1, 1, 3), 51, np.uint8)))
        >>> results["img"].tolist(), results["enhanced_by"]
        ([[[114, 114, 114]]], 'GammaCorrection')
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
        # A transform does not know whether its pictures were augmented, so it treats them as if they were.
        self.look_alikes = LookAlikes()

    @property
    def enhancer(self) -> Enhancer:
        """The network."""
        return self.frozen.enhancer

    @property
    def options(self) -> InferenceOptions:
        """The options that the network runs with."""
        return self.frozen.options

    def to(self, device: str | torch.device) -> Enhance:
        """Run on ``device`` from now on, for example to fill a cache before the workers read it."""
        self.device = torch.device(device)
        self.frozen.to(self.device)
        return self

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Enhance the image and scale its annotations.

        Raises:
            ImageError: ``img`` is not ``(H, W, 3)``, was normalised (``img_norm_cfg``), or does not hold levels of 0 to
                255 (:func:`llie_preproc.level_checks.check_levels`); or its enhancement is not finite.
            ValueError: The picture was enhanced before.
        """
        if before := results.get("enhanced_by"):
            raise ValueError(f"{_name_of(results)} was enhanced before, by {before}: use a Cascade to join enhancers")
        image, name = _image_of(results), _name_of(results)
        results["img"] = self._cached(image, self.cache, name)[0] if self.cache else self._enhance(image, name)
        mark_enhanced(results, type(self.enhancer).__name__)
        scale_results(results, self.enhancer.scale)
        if self.enhancer.scale != 1:
            results["enhanced_scale_factor"] = results["scale_factor"]
        return results

    def fill(self, results: dict[str, Any]) -> bool:
        """Write the image's enhancement to the cache if it is missing there; ``results`` are not changed.

        Returns:
            Whether the enhancement had to be computed.

        Raises:
            ImageError: :meth:`transform` refuses the image.
            ValueError: The transform has no ``cache_dir``.
        """
        if self.cache is None:
            raise ValueError(f"{self} has no cache_dir")
        return self._cached(_image_of(results), self.cache, _name_of(results))[1]

    def _cached(self, image: np.ndarray, cache: EnhancedCache, name: str) -> tuple[np.ndarray, bool]:
        """The enhanced image, and whether it had to be computed."""
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
        raise ImageError(f"{shape}, but colour images (H, W, 3) are needed: load with color_type='color'")
    if _is_normalised(results.get("img_norm_cfg") or {}):
        raise ImageError(
            f"{_name_of(results)} was normalised before, but levels of 0 to 255 are needed: remove Normalize, or put "
            "it after the enhancer"
        )
    return image


def _is_normalised(config: Mapping[str, Any]) -> bool:
    """Whether the mean and std that MMCV's ``Normalize`` recorded change levels."""
    return bool(np.any(np.asarray(config.get("mean", 0)) != 0) or np.any(np.asarray(config.get("std", 1)) != 1))


def _name_of(results: dict[str, Any]) -> str:
    return str(results.get("img_path") or "img")


@TRANSFORMS.register_module()
class RestoreScaleFactor(BaseTransform):
    """Multiply the enhancer's ``scale_factor`` with that of a later transform, which has overwritten it.

    This transform belongs right before packing, in a pipeline with an enlarging :class:`Enhance` before a resize. If
    nothing was overwritten, it does nothing.

    Examples:
        >>> resized = dict(enhanced_scale_factor=(2.0, 2.0), scale_factor=(0.5, 0.25))
        >>> RestoreScaleFactor()(resized)["scale_factor"]
        (1.0, 0.5)
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Restore ``scale_factor``."""
        before = results.pop("enhanced_scale_factor", None)
        if before is not None and results["scale_factor"] is not before:
            results["scale_factor"] = tuple(a * b for a, b in zip(before, results["scale_factor"], strict=True))
        return results


def enhance_by_name(name: str) -> Callable[..., Enhance] | None:
    """Return a function that builds ``dict(type='llie_preproc.<network>', ...)`` as an :class:`Enhance`.

    Keys that are arguments of ``Enhance`` go to it; all others go to the network. None if there is no such network.

    Examples:
        >>> enhance_by_name("GammaCorrection")(gamma=0.5, keep_dtype=False)
        Enhance(enhancer=GammaCorrection, keep_dtype=False)
        >>> enhance_by_name("Resize") is None
        True
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
