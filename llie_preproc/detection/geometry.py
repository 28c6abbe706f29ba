"""Scaling MMDetection's boxes, masks and metadata with an image that is enlarged.

``ori_shape`` never changes. MMDetection divides predictions by ``scale_factor`` to return them to the raw frame.
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
    """Scale the annotations and metadata in a pipeline's ``results`` for an image that was enlarged ``scale`` times.

    It replaces ``img_shape``, ``pad_shape``, ``scale_factor`` (which it sets if absent), ``homography_matrix``,
    ``gt_bboxes``, ``gt_masks``, ``gt_seg_map``, ``gt_keypoints`` and ``proposals``. Arrays and boxes are copied and not
    changed in place.

    Examples:
        >>> results = dict(img_shape=(10, 20), gt_bboxes=np.array([[1, 2, 3, 4]]))
        >>> scale_results(results, 2)
        >>> results["img_shape"], results["scale_factor"], results["gt_bboxes"].tolist()
        ((20, 40), (2.0, 2.0), [[2, 4, 6, 8]])
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
    """Copy ``sample`` for its image enlarged ``scale`` times; with a scale of 1, return ``sample`` itself.

    Examples:
        >>> sample = DetDataSample(metainfo=dict(img_shape=(10, 20), ori_shape=(10, 20)))
        >>> scaled = scale_data_sample(sample, 2)
        >>> scaled.img_shape, scaled.ori_shape, scaled.scale_factor
        ((20, 40), (10, 20), (2.0, 2.0))
    """
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
    """Multiply a copy of boxes: ``(n, 4)`` corners in one of MMDetection's box types, a tensor or an array.

    Raises:
        TypeError: ``boxes`` are anything else.

    Examples:
        >>> scale_boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 2).tolist()
        [[2.0, 4.0, 6.0, 8.0]]
    """
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
    # The metadata hold what is not a map (the ignored index).
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
    """An ``ori_shape`` that also says that its picture was enhanced; ``PackDetInputs`` always packs this field.

    Attributes:
        enhanced_by: Name of the network.
    """

    enhanced_by: str


def mark_enhanced(results: dict[str, Any], enhanced_by: str) -> None:
    """Mark a pipeline's results, and so the data sample that is packed from them, as enhanced.

    Examples:
        >>> results = dict(ori_shape=(10, 20))
        >>> mark_enhanced(results, "PSENet")
        >>> refuse_enhanced([DetDataSample(metainfo=dict(results, img_path="a.png"))])
        Traceback (most recent call last):
        ValueError: a.png was enhanced before, by PSENet in the pipeline: use a Cascade to join enhancers
    """
    results["enhanced_by"] = enhanced_by
    if "ori_shape" in results:
        results["ori_shape"] = EnhancedShape(results["ori_shape"])
        results["ori_shape"].enhanced_by = enhanced_by


def refuse_enhanced(samples: Sequence[Any] | None) -> None:
    """Raise ``ValueError`` if an ``Enhance`` transform has enhanced the picture of a data sample already."""
    for sample in samples or ():
        if (shape := sample.get("ori_shape")) is not None and (before := getattr(shape, "enhanced_by", None)):
            name = sample.get("img_path") or "a picture"
            raise ValueError(
                f"{name} was enhanced before, by {before} in the pipeline: use a Cascade to join enhancers"
            )


def image_names(samples: Sequence[Any] | None, count: int) -> list[str]:
    """Names of a batch's images for messages: their paths if their samples have them, or else their numbers.

    Examples:
        >>> image_names(None, 2)
        ['image 0', 'image 1']
    """
    paths = [sample.get("img_path") for sample in samples] if samples is not None else [None] * count
    return [str(path) if path else f"image {index}" for index, path in enumerate(paths)]


def is_image_batch(inputs: Any) -> bool:
    """Whether ``inputs`` are ``(3, H, W)`` tensors, in a list or stacked.

    Examples:
        >>> is_image_batch([torch.zeros(3, 8, 8)]), is_image_batch(torch.zeros(1, 1, 8, 8))
        (True, False)
    """
    singles = [inputs[0]] if isinstance(inputs, Tensor) and inputs.ndim == 4 and len(inputs) else inputs
    if not isinstance(singles, list | tuple) or not singles:
        return False
    return all(isinstance(x, torch.Tensor) and x.ndim == 3 and x.shape[0] == 3 for x in singles)
