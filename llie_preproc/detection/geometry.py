"""What changes around an image that is enlarged: MMDetection's boxes, masks and metadata.

``ori_shape`` never changes: predictions are divided by ``scale_factor`` and so come out in the raw frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData
from torch import Tensor
from torch.nn import functional as F


def scale_results(results: dict[str, Any], scale: int) -> None:
    """Scale what a pipeline's ``results`` say of an image that was enlarged ``scale`` times.

    Rewrites ``img_shape``, ``pad_shape``, ``scale_factor`` (set where absent), ``homography_matrix``, ``gt_bboxes``,
    ``gt_masks``, ``gt_seg_map``, ``gt_keypoints`` and ``proposals``; arrays and boxes are copied, not written into.
    """
    if scale == 1:
        return
    for key in ("gt_bboxes", "proposals"):
        if results.get(key) is not None:
            results[key] = scale_boxes(results[key], scale)
    if results.get("gt_masks") is not None:
        results["gt_masks"] = _scale_masks(results["gt_masks"], scale)
    if results.get("gt_seg_map") is not None:
        segmentation = results["gt_seg_map"]
        size = (segmentation.shape[1] * scale, segmentation.shape[0] * scale)
        results["gt_seg_map"] = cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST)
    if results.get("gt_keypoints") is not None:
        results["gt_keypoints"] = results["gt_keypoints"] * np.array([scale, scale, 1.0])
    results.update(_scaled_meta(results, scale))


def scale_data_sample(sample: DetDataSample, scale: int) -> DetDataSample:
    """A copy of ``sample`` for its image enlarged ``scale`` times; ``sample`` itself where ``scale`` is 1."""
    if scale == 1:
        return sample
    scaled = sample.clone()
    scaled.set_metainfo(_scaled_meta(sample.metainfo, scale))
    for name in ("gt_instances", "ignored_instances", "proposals"):
        if name in sample:
            setattr(scaled, name, _scale_instances(getattr(sample, name), scale))
    for name in ("gt_sem_seg", "gt_panoptic_seg"):
        if name in sample:
            setattr(scaled, name, _scale_pixels(getattr(sample, name), scale))
    return scaled


def scale_boxes(boxes: Any, scale: int) -> Any:
    """Multiply boxes (MMDetection's box types, a tensor or an array, ``(n, 4)`` corners) on a copy."""
    if isinstance(boxes, BaseBoxes):
        scaled = boxes.clone()
        scaled.rescale_((scale, scale))
        return scaled
    if not isinstance(boxes, Tensor | np.ndarray):
        raise TypeError(f"boxes must be MMDetection boxes, a tensor or an array, got {type(boxes).__name__}")
    return boxes * scale


def _scale_instances(instances: InstanceData, scale: int) -> InstanceData:
    scaled = instances.clone()
    if "bboxes" in instances:
        scaled.bboxes = scale_boxes(instances.bboxes, scale)
    if "masks" in instances:
        scaled.masks = _scale_masks(instances.masks, scale)
    return scaled


def _scale_pixels(pixels: PixelData, scale: int) -> PixelData:
    # What is not stored beside the maps (the ignored index) is in the metadata.
    scaled = PixelData(metainfo=pixels.metainfo)
    for name, labels in pixels.items():
        resized = F.interpolate(labels[None].float(), scale_factor=scale, mode="nearest")[0]
        setattr(scaled, name, resized.to(labels.dtype))
    return scaled


def _scale_masks(masks: Any, scale: int) -> Any:
    if isinstance(masks, BitmapMasks | PolygonMasks):
        return masks.resize((masks.height * scale, masks.width * scale))
    if isinstance(masks, Tensor):
        resized = F.interpolate(masks[:, None].float(), scale_factor=scale, mode="nearest")[:, 0]
        return resized.to(masks.dtype)
    raise TypeError(f"masks must be BitmapMasks, PolygonMasks or a tensor, got {type(masks).__name__}")


def _scaled_meta(meta: dict[str, Any], scale: int) -> dict[str, Any]:
    scaled: dict[str, Any] = {}
    for key in ("img_shape", "pad_shape", "batch_input_shape"):
        if meta.get(key) is not None:
            height, width, *rest = meta[key]
            scaled[key] = (height * scale, width * scale, *rest)
    width_factor, height_factor = (meta.get("scale_factor") or (1.0, 1.0))[:2]
    scaled["scale_factor"] = (width_factor * scale, height_factor * scale)
    if meta.get("homography_matrix") is not None:
        homography = np.asarray(meta["homography_matrix"])
        scaled["homography_matrix"] = np.diag([scale, scale, 1]).astype(homography.dtype) @ homography
    return scaled


class EnhancedShape(tuple):
    """An ``ori_shape`` that says that its picture was enhanced: what ``PackDetInputs`` always packs.

    Attributes:
        enhanced_by: Name of the network.
    """

    enhanced_by: str


def mark_enhanced(results: dict[str, Any], enhanced_by: str) -> None:
    """Mark a pipeline's results, and the data sample that is packed from them, as enhanced."""
    results["enhanced_by"] = enhanced_by
    if "ori_shape" in results:
        results["ori_shape"] = EnhancedShape(results["ori_shape"])
        results["ori_shape"].enhanced_by = enhanced_by


def refuse_enhanced(samples: Sequence[Any] | None) -> None:
    """Raise ``ValueError`` for data samples whose pictures an ``Enhance`` transform has enhanced already."""
    for sample in samples or ():
        if (shape := sample.get("ori_shape")) is not None and (before := getattr(shape, "enhanced_by", None)):
            name = sample.get("img_path") or "a picture"
            raise ValueError(f"{name} was enhanced before, by {before} in the pipeline: a Cascade joins enhancers")


def image_names(samples: Sequence[Any] | None, count: int) -> list[str]:
    """The names of a batch's images for messages: their paths, where their samples have them."""
    paths = [sample.get("img_path") for sample in samples] if samples is not None else [None] * count
    return [str(path) if path else f"image {index}" for index, path in enumerate(paths)]


def is_image_batch(inputs: Any) -> bool:
    """Whether ``inputs`` are ``(3, H, W)`` tensors: a list of them, or stacked."""
    singles = [inputs[0]] if isinstance(inputs, Tensor) and inputs.ndim == 4 and len(inputs) else inputs
    if not isinstance(singles, list | tuple) or not singles:
        return False
    return all(isinstance(x, torch.Tensor) and x.ndim == 3 and x.shape[0] == 3 for x in singles)
