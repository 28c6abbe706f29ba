"""SAM as an instance segmentor of MMDetection 3.x: boxes from a detector or from labels, masks from SAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least, one_of
from ..errors import needs
from ..inference_options import CHANNEL_ORDERS

with needs("llie_preproc.segmentation.box_prompted"):
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import get_box_tensor
    from mmengine.structures import InstanceData

from ..detection.detector_wrapper import RAW, DetectorWrapper
from ..detection.geometry import is_image_batch
from ..registry import MODELS
from .mask_loss import mask_losses
from .models import build_sam

MASK_SCORES = ("box", "iou")


@MODELS.register_module()
class BoxPromptedSAM(DetectorWrapper):
    """Masks of a frozen SAM for the boxes of any MMDetection 3.x detector, or for the boxes of the labels.

    It needs raw images. SAM sees each image as the pipeline made it, without padding and rounded to 8 bits. Its logits
    are resampled once, to the raw frame (``ori_shape``), so on an image that was not resized the masks are those of
    ``segment_anything.SamPredictor``. Predictions are ``bboxes``, ``scores``, ``labels`` and ``masks`` ``(n, H, W)``
    bool, which MMDetection's ``CocoMetric`` writes as COCO's JSON. To put an enhancer in front of detector and SAM,
    wrap this segmentor in :class:`~llie_preproc.detection.EnhancedDetector`, or use another ``door`` of
    :func:`~llie_preproc.detection.add_enhancer`.

    In training, its losses are those of the detector and those of the masks that SAM finds for ground-truth boxes
    (:func:`~llie_preproc.segmentation.mask_loss.mask_losses`, as ``loss_mask_bce`` and ``loss_mask_dice``). Gradients
    flow through SAM to the image and what produced it. Attributes that the segmentor does not have are those of the
    detector, and a checkpoint of the plain detector loads.

    Args:
        detector: Config of the detector, unchanged. With None, boxes and labels are those of ``gt_instances``, so the
            test pipeline must load annotations before it resizes the image.
        sam: Arguments of :func:`~llie_preproc.segmentation.build_sam`, or a model with the interface of
            segment-anything's ``Sam``.
        score_thr: Smallest score of a detector's box that gets a mask; other boxes are dropped.
        mask_score: Score of a mask if there is a detector. With ``'box'``, it is the detector's score of the box. With
            ``'iou'``, that score is multiplied by the IoU that SAM predicts; the products are ``mask_scores``, and the
            JSON of the masks has them. ``scores`` are the detector's in both cases. Without a detector, ``scores`` are
            the predicted IoU.
        multimask_output: Whether SAM makes three masks for a box; the one with the highest predicted IoU is then used.
        boxes_per_batch: Number of boxes that SAM's decoder gets together, which bounds its memory. If a training image
            has more boxes, this many are drawn at random.
        channel_order: Channel order of the images, ``'bgr'`` (MMDetection's loading) or ``'rgb'``.
        min_matched: Smallest share of the detector's tensors that a loaded checkpoint must match.
        data_preprocessor: Config of the data preprocessor in front of detector and SAM. It must not normalise; the data
            preprocessor that the detector needs belongs into the detector's config. None passes the images on.
            ``add_enhancer(door='preprocessor')`` needs a ``DetDataPreprocessor`` here.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: An option is outside its range, or the data preprocessor normalises.
        TypeError: ``sam`` is neither a config nor a model.
        MissingExtraError: segment-anything is not installed.

    Examples:
        >>> segmentor = BoxPromptedSAM(sam=dict(model="small")).eval()
        >>> sample = DetDataSample(metainfo=dict(img_shape=(48, 64), ori_shape=(48, 64)))
        >>> sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 30]]), labels=torch.tensor([0]))
        >>> found = segmentor.predict([torch.zeros(3, 48, 64)], [sample])[0].pred_instances
        >>> found.masks.shape, len(found.scores)
        (torch.Size([1, 48, 64]), 1)
    """

    sam: Any

    def __init__(
        self,
        detector: dict | None = None,
        sam: Mapping | nn.Module = {"model": "vit_b"},  # noqa: B006
        score_thr: float = 0.0,
        mask_score: str = "box",
        multimask_output: bool = False,
        boxes_per_batch: int = 64,
        channel_order: str = "bgr",
        min_matched: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        one_of("mask_score", mask_score, MASK_SCORES)
        one_of("channel_order", channel_order, CHANNEL_ORDERS)
        at_least("boxes_per_batch", boxes_per_batch, 1)
        super().__init__(data_preprocessor=data_preprocessor or dict(RAW), init_cfg=init_cfg)
        if getattr(self.data_preprocessor, "_enable_normalize", False):
            raise ValueError(
                "BoxPromptedSAM's data_preprocessor must not normalise, because SAM needs levels of 0 to 255: put mean "
                "and std into the data_preprocessor of the detector's config"
            )
        self.detector = None if detector is None else MMDET_MODELS.build(detector)
        self.sam = _built(sam).eval().requires_grad_(False)
        self.score_thr, self.mask_score, self.multimask_output = score_thr, mask_score, multimask_output
        self.boxes_per_batch, self.channel_order, self.min_matched = boxes_per_batch, channel_order, min_matched

    def train(self, mode: bool = True) -> BoxPromptedSAM:
        """Set the mode; SAM stays in evaluation mode."""
        super().train(mode)
        self.sam.eval()
        return self

    def loss(self, batch_inputs: list[Tensor] | Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """``loss_mask_bce`` and ``loss_mask_dice``, averaged over the batch's masks, and the detector's losses.

        Args:
            batch_inputs: Images ``(3, H, W)`` with levels 0 to 255.
            batch_data_samples: Samples whose ``gt_instances`` have ``bboxes`` and ``masks``.

        Raises:
            ValueError: A sample has no masks.
        """
        images = _images(batch_inputs, batch_data_samples)
        # This comes first, because the detector's data preprocessor may change the samples in place.
        losses = self._mask_losses(images, batch_data_samples)
        if self.detector is not None:
            data = self.detector.data_preprocessor(
                {"inputs": images, "data_samples": batch_data_samples}, self.training
            )
            losses.update(self.detector.loss(data["inputs"], data["data_samples"]))
        return losses

    def predict(
        self, batch_inputs: list[Tensor] | Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Predict boxes and masks, and write them to ``pred_instances`` of the samples.

        Args:
            batch_inputs: Images ``(3, H, W)`` with levels 0 to 255.
            batch_data_samples: Samples, with ``gt_instances`` if there is no detector.
            rescale: Whether boxes and masks are in the raw frame instead of the frame of the images.

        Raises:
            ValueError: An image is flipped or is not the resized raw image, or a sample lacks the labels that it needs.
        """
        images = _images(batch_inputs, batch_data_samples)
        shown = [_shown(image, sample) for image, sample in zip(images, batch_data_samples, strict=True)]
        boxes_of = self._labelled if self.detector is None else self._detected
        found = boxes_of(images, batch_data_samples)
        for image, sample, instances in zip(shown, batch_data_samples, found, strict=True):
            sample.pred_instances = self._masked(image, sample, instances, rescale)
        return batch_data_samples

    def extract_feat(self, batch_inputs: list[Tensor] | Tensor) -> Tensor:
        """Compute SAM's embeddings ``(N, C, h, w)`` of the images; gradients flow if they are enabled."""
        from .predictor import sam_embeddings

        reverse = 0 if self.channel_order == "bgr" else ()
        return sam_embeddings(self.sam, [image.float().flip(reverse) / 255 for image in batch_inputs])

    def _forward(
        self, batch_inputs: list[Tensor] | Tensor, batch_data_samples: list[DetDataSample] | None = None
    ) -> Tensor:
        return self.extract_feat(_images(batch_inputs, batch_data_samples))

    def _labelled(self, images: list[Tensor], samples: list[DetDataSample]) -> list[InstanceData]:
        """The boxes of the labels, in the raw frame."""
        found = []
        for image, sample in zip(images, samples, strict=True):
            if "gt_instances" not in sample or "bboxes" not in sample.gt_instances:
                raise ValueError(
                    f"{_name(sample)}: there are no labels to take boxes from; without a detector, the test pipeline "
                    "needs LoadAnnotations"
                )
            truth = sample.gt_instances
            boxes = get_box_tensor(truth.bboxes).to(image.device)
            height, width = image.shape[1:]
            if len(boxes) and ((boxes[:, 0] >= width) | (boxes[:, 1] >= height)).any():
                raise ValueError(
                    f"{_name(sample)}: a box lies outside of its image of {height}x{width}; LoadAnnotations belongs "
                    "before the transform that resizes the image"
                )
            found.append(InstanceData(bboxes=boxes / _factor(sample, boxes), labels=truth.labels.to(boxes.device)))
        return found

    def _detected(self, images: list[Tensor], samples: list[DetDataSample]) -> list[InstanceData]:
        """The boxes of the detector whose scores are high enough, in the raw frame."""
        data = self.detector.data_preprocessor({"inputs": images, "data_samples": samples}, False)
        found = self.detector.predict(data["inputs"], data["data_samples"], rescale=True)
        kept = [each.pred_instances[each.pred_instances.scores >= self.score_thr] for each in found]
        return [InstanceData(bboxes=get_box_tensor(k.bboxes), scores=k.scores, labels=k.labels) for k in kept]

    def _masked(self, image: Tensor, sample: DetDataSample, found: InstanceData, rescale: bool) -> InstanceData:
        """Boxes of the raw frame with SAM's masks and scores."""
        boxes = found.bboxes.double() * _factor(sample, found.bboxes)
        masks, ious = self._ask(image, boxes, sample.ori_shape[:2] if rescale else image.shape[1:])
        if not rescale:
            height, width = sample.img_shape[:2]
            found.bboxes = boxes.to(found.bboxes.dtype)
            masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
        if self.detector is None:
            found.scores = ious
        elif self.mask_score == "iou":
            found.mask_scores = found.scores * ious
        found.masks = masks
        return found

    @torch.no_grad()
    def _ask(self, image: Tensor, boxes: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Masks ``(n, H, W)`` in a frame of ``size``, and predicted IoU ``(n,)``, for boxes in the image's pixels."""
        from segment_anything import SamPredictor

        device = self.sam.device
        masks, ious = [torch.zeros((0, *size), dtype=torch.bool, device=device)], [torch.zeros(0, device=device)]
        if len(boxes):
            predictor = SamPredictor(self.sam)
            predictor.set_image(_pixels(image), self.channel_order.upper())
            prompts = predictor.transform.apply_boxes(boxes.cpu().numpy(), predictor.original_size)
            # The predictor resamples SAM's logits to this size.
            predictor.original_size = tuple(size)
            for batch in torch.as_tensor(prompts, dtype=torch.float, device=device).split(self.boxes_per_batch):
                several, scores, _ = predictor.predict_torch(None, None, batch, multimask_output=self.multimask_output)
                best = torch.arange(len(batch), device=device), scores.argmax(1)
                masks.append(several[best])
                ious.append(scores[best])
        return torch.cat(masks), torch.cat(ious)

    def _mask_losses(self, images: list[Tensor], samples: list[DetDataSample]) -> dict[str, Tensor]:
        # This gives the losses a gradient even if a batch has no masks.
        nothing = 0 * torch.stack([image.float().sum() for image in images]).sum()
        parts = [self._losses_of(image, sample) for image, sample in zip(images, samples, strict=True)]
        number = max(1, sum(count for count, _ in parts))
        return {
            f"loss_mask_{name}": sum((count / number * part[name] for count, part in parts if count), start=nothing)
            for name in ("bce", "dice")
        }

    def _losses_of(self, image: Tensor, sample: DetDataSample) -> tuple[int, dict[str, Tensor]]:
        """Number of an image's masks that are used in training, and their losses."""
        from .predictor import decode_masks

        truth, size = sample.get("gt_instances", {}), image.shape[1:]
        if "masks" not in truth or "bboxes" not in truth:
            raise ValueError(f"{_name(sample)}: gt_instances has no masks: LoadAnnotations needs with_mask=True")
        boxes = get_box_tensor(truth.bboxes).to(image.device)
        masks = truth.masks.to_tensor(torch.float, image.device)[:, : size[0], : size[1]]
        if not len(boxes):
            return 0, {}
        if len(boxes) > self.boxes_per_batch:
            chosen = torch.randperm(len(boxes))[: self.boxes_per_batch].to(boxes.device)
            boxes, masks = boxes[chosen], masks[chosen]
        logits, _, _ = decode_masks(self.sam, self.extract_feat([image]), size, boxes=boxes)
        return len(boxes), mask_losses(logits[:, 0], masks)


def _built(sam: Any) -> nn.Module:
    if isinstance(sam, Mapping):
        return build_sam(**sam)
    if not isinstance(sam, nn.Module):
        raise TypeError(f"sam must hold the arguments of build_sam, or be a model, got {type(sam).__name__}")
    return sam


def _images(inputs: Any, samples: list[DetDataSample] | None) -> list[Tensor]:
    """The images without the padding of a data preprocessor that stacks them."""
    if not is_image_batch(inputs):
        raise TypeError(
            "BoxPromptedSAM needs raw colour images, (3, H, W) tensors in a list or stacked; check that no data "
            "preprocessor other than its own is in front of it"
        )
    if samples is None:
        return list(inputs)
    shapes = [sample.img_shape[:2] for sample in samples]
    return [image[:, :height, :width] for image, (height, width) in zip(inputs, shapes, strict=True)]


def _shown(image: Tensor, sample: DetDataSample) -> Tensor:
    """The part of the image that shows the raw image, without padding by the pipeline."""
    if sample.get("flip"):
        raise ValueError(f"{_name(sample)}: BoxPromptedSAM does not undo flips: leave them out of the test pipeline")
    shape, raw = tuple(image.shape[1:]), tuple(sample.ori_shape[:2])
    if "scale_factor" not in sample and shape != raw:
        raise ValueError(
            f"{_name(sample)}: the image is {shape}, not {raw} as stored, and there is no scale_factor that explains "
            "it: PackDetInputs needs scale_factor among its meta_keys"
        )
    width_factor, height_factor = _scale(sample)
    height, width = round(raw[0] * height_factor), round(raw[1] * width_factor)
    if height > shape[0] or width > shape[1]:
        raise ValueError(
            f"{_name(sample)}: an image of {shape} is not the stored one of {raw} resized by {height_factor:.4g} and "
            f"{width_factor:.4g}; it must not be cropped"
        )
    return image[:, :height, :width]


def _scale(sample: DetDataSample) -> tuple[float, float]:
    """Factors of width and height from the raw image to the image."""
    width_factor, height_factor = sample.get("scale_factor", (1.0, 1.0))[:2]
    return float(width_factor), float(height_factor)


def _factor(sample: DetDataSample, boxes: Tensor) -> Tensor:
    """Factors ``(4,)`` that take boxes from the raw frame to the image's."""
    return torch.tensor(_scale(sample) * 2, dtype=torch.float64, device=boxes.device).to(boxes.dtype)


def _pixels(image: Tensor) -> np.ndarray:
    levels = image.permute(1, 2, 0).cpu()
    if levels.dtype != torch.uint8:
        levels = levels.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.numpy())


def _name(sample: DetDataSample) -> str:
    return str(sample.get("img_path", None) or f"image {sample.get('img_id', '?')}")
