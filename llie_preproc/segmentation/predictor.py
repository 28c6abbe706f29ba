"""SAM's predictor with an enhancer in front of it, and its two steps, encoding and decoding, for training.

There are three frames: the pixels of the *raw* image, which callers use; those of the *enhanced* image, ``scale`` times
as large; and SAM's *input* frame, the image resized to a long side of ``image_encoder.img_size`` (1024). The raw and
the enhanced image have the same input frame, so prompts and masks need no mapping between them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import resize, to_pil_image

from ..checks import one_of
from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS
from ..errors import needs
from ..inference import FrozenEnhancer, enhance_batch, enhance_levels, evaluating
from ..inference_options import InferenceOptions, OptionKeywords, shows_options

with needs("llie_preproc.segmentation"):
    from segment_anything import SamPredictor
    from segment_anything.utils.transforms import ResizeLongestSide

from .crops import OVERSIZE, Crop, Prompts, crops_of, refined

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FORMATS = ("RGB", "BGR")


@dataclass(frozen=True)
class EnhancedImage:
    """An enhanced image for SAM, whose shape and windows are in pixels of the raw image.

    Attributes:
        pixels: Enhanced image ``(sH, sW, 3)`` RGB uint8.
        scale: Factor s by which it is larger than the raw image.
        levels: Levels ``(3, sH, sW)`` RGB in 0 to 255 that ``pixels`` were rounded from, if gradients are needed.

    Examples:
        >>> seen = EnhancedImage(np.zeros((40, 60, 3), np.uint8), scale=2)
        >>> seen.shape, seen[0:5, 0:10].pixels.shape
        ((20, 30, 3), (10, 20, 3))
    """

    pixels: np.ndarray
    scale: int = 1
    levels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape ``(H, W, 3)`` of the raw image."""
        height, width = self.pixels.shape[:2]
        return height // self.scale, width // self.scale, 3

    def __getitem__(self, window: Sequence[slice]) -> EnhancedImage:
        """The part that shows ``image[y0:y1, x0:x1]`` of the raw image."""
        rows, columns = (slice(self.scale * part.start, self.scale * part.stop) for part in window[:2])
        levels = None if self.levels is None else self.levels[:, rows, columns]
        return EnhancedImage(self.pixels[rows, columns], self.scale, levels)


class EnhancedSamPredictor(SamPredictor):
    """segment-anything's ``SamPredictor`` on enhanced images, with the same methods, frames and layout of results.

    Points, boxes and masks are those of the raw image, whatever the enhancer's scale is. With an enhancer that changes
    nothing, every method returns bit-identical results to ``SamPredictor``.

    SAM resizes each image to a long side of 1024, so the detail that an enlarging enhancer adds beyond that is lost.
    With ``oversize='crops'``, an enhanced image with a longer side is segmented twice: first as a whole, resized, and
    then, along the border of each mask, in overlapping crops of up to 1024 enhanced pixels a side. The prompts of a
    crop are the points inside it, the box clipped to it (or the box around the mask found so far), and the mask found
    so far. The logits of neighbouring crops fade linearly into each other; away from the crops that were used, logits
    stay those of the whole image. A crop counts in full if pixels on both sides of the border are at least one logit
    from the threshold, and less if they are closer to it, so that rounding does not decide between crops. SAM's encoder
    runs once for each crop that is used. ``low_res_masks`` are those of the whole image.

    Args:
        sam_model: segment-anything's ``Sam`` of any size (:func:`llie_preproc.segmentation.build_sam`), or a model with
            its interface: ``image_encoder.img_size``, ``preprocess``, ``prompt_encoder``, ``mask_decoder``,
            ``postprocess_masks``, ``mask_threshold``, ``image_format``, ``device``.
        enhancer: Enhancer, as for :func:`llie_preproc.build_enhancer`; it is moved to the device of SAM.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        oversize: Treatment of enhanced images that are larger than SAM's input, ``'resize'`` or ``'crops'``.
        crop_overlap_ratio: Overlap of neighbouring crops as a share of their side, below 0.5.
        with_grad: Whether gradients flow, where they are enabled, through SAM's decoder, its encoder and the enhancer.
            The enhancer then runs unclamped and in the mode that it is in. SAM still sees 8-bit pixels, whose gradient
            is that of the unrounded, bilinearly resized image.
        **options: Fields of :class:`~llie_preproc.InferenceOptions`; ``channel_order`` is that of arrays that are given
            without an ``image_format``.

    Raises:
        ValueError: ``oversize`` is unknown, the overlap is outside its range, the enhancer cannot run with an option,
            or ``with_grad`` is set for an enhancer through which no gradient flows.

    Examples:
        >>> from llie_preproc.segmentation import build_sam
        >>> predictor = EnhancedSamPredictor(build_sam("small"), "gamma_correction")
        >>> predictor.set_image(np.zeros((48, 64, 3), np.uint8))
        >>> masks, scores, _ = predictor.predict(box=np.array([8, 8, 40, 30]))
        >>> masks.shape, scores.shape
        ((3, 48, 64), (3,))
    """

    _seen: EnhancedImage | None
    _crops: list[Crop]
    _crop_embeddings: dict[tuple[tuple[int, int, int, int], bool], tuple[Tensor, tuple[int, int]]]

    @shows_options()
    def __init__(
        self,
        sam_model: Any,
        enhancer: str | Mapping | Enhancer = "Identity",
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        *,
        oversize: str = "resize",
        crop_overlap_ratio: float = 0.25,
        with_grad: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> None:
        chosen = InferenceOptions.of(options)
        one_of("oversize", oversize, OVERSIZE)
        if not 0 <= crop_overlap_ratio < 0.5:
            raise ValueError(f"crop_overlap_ratio must be at least 0 and below 0.5, got {crop_overlap_ratio}")
        super().__init__(sam_model)
        self.frozen = FrozenEnhancer(enhancer, chosen, checkpoint=checkpoint, device=self.device)
        if with_grad and not self.enhancer.capabilities.differentiable:
            raise ValueError(f"no gradient flows through {type(self.enhancer).__name__}, so with_grad must be False")
        self.oversize, self.crop_overlap_ratio = oversize, crop_overlap_ratio
        self.with_grad = with_grad

    @property
    def enhancer(self) -> Enhancer:
        """The network in front of SAM."""
        return self.frozen.enhancer

    def enhance(self, image: np.ndarray, image_format: str | None = None) -> EnhancedImage:
        """Enhance an image, to use it in several calls of :meth:`set_image` or to look at it.

        Args:
            image: Image ``(H, W, 3)`` uint8.
            image_format: Channel order of ``image``, ``'RGB'`` or ``'BGR'``; by default that of the options.

        Raises:
            TypeError: ``image`` is not a uint8 array.
            ValueError: ``image`` has another shape, or ``image_format`` is unknown.
        """
        image_format = self.frozen.options.channel_order.upper() if image_format is None else image_format
        _check_image(image, image_format)
        rgb = image[..., ::-1] if image_format == "BGR" else image
        if not self._grad_enabled:
            pixels = FrozenEnhancer(self.enhancer, self._options("rgb"))(np.ascontiguousarray(rgb))
            return EnhancedImage(pixels, self.enhancer.scale)
        unit = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32)).to(self.device) / 255
        levels = 255 * enhance_batch([unit], self.enhancer, self.frozen.options, clamp=False)[0]
        rounded = levels.detach().clamp(0, 255).round().to(torch.uint8)
        return EnhancedImage(rounded.permute(1, 2, 0).cpu().numpy(), self.enhancer.scale, levels)

    def set_image(self, image: np.ndarray | EnhancedImage, image_format: str | None = None) -> None:
        """Enhance an image and compute its embedding.

        Args:
            image: Image ``(H, W, 3)`` uint8, or a result of :meth:`enhance`.
            image_format: Channel order of an array, ``'RGB'`` or ``'BGR'``; by default that of the options.

        Raises:
            TypeError, ValueError: :meth:`enhance` refuses the image.
        """
        seen = image if isinstance(image, EnhancedImage) else self.enhance(image, image_format)
        self.reset_image()
        self._seen = seen
        self.original_size = seen.shape[:2]
        self.features, self.input_size = self._encode(seen)
        if self.oversize == "crops":
            side = self.model.image_encoder.img_size // seen.scale
            self._crops = crops_of(self.original_size, side, self.crop_overlap_ratio)
        self.is_image_set = True

    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, int]) -> None:
        """Enhance an image that is already in SAM's input frame, and compute its embedding, without crops.

        Args:
            transformed_image: Image ``(1, 3, h, w)`` with levels 0 to 255, the model's channel order and a longer side
                of ``img_size``. If the enhancer enlarges it, it is resized back.
            original_image_size: Size ``(H, W)`` of the raw image.

        Raises:
            ValueError: The image has another shape.
        """
        side, shape = self.model.image_encoder.img_size, tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise ValueError(f"transformed_image must be (1, 3, h, w) with a long side of {side}, got {shape}")
        self.reset_image()
        mode = nullcontext() if self._grad_enabled else evaluating(self.enhancer)
        with self._gradients(), mode:
            options = self._options(self.model.image_format.lower())
            images = list(transformed_image.to(self.device))
            levels = enhance_levels(images, self.enhancer, options, clamp=not self._grad_enabled)[0][None]
            if levels.shape[2:] != shape[2:]:
                levels = _resized(levels, shape[2:])
            self.features = self.model.image_encoder(self.model.preprocess(levels))
        self.original_size, self.input_size = original_image_size, (shape[2], shape[3])
        self.is_image_set = True

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict masks for a batch of prompts, as ``SamPredictor.predict_torch`` does.

        Args:
            point_coords: Points ``(B, N, 2)``, x y in SAM's input frame: ``transform.apply_coords_torch(raw, (H, W))``
                with the raw image's size.
            point_labels: Labels ``(B, N)`` of the points, 1 for foreground and 0 for background.
            boxes: Boxes ``(B, 4)``, x1 y1 x2 y2 in the input frame (``transform.apply_boxes_torch``).
            mask_input: Low-resolution logits ``(B, 1, h, w)`` of an earlier call.
            multimask_output: Whether each prompt gets three masks instead of one.
            return_logits: Whether logits are returned instead of masks.

        Returns:
            Masks ``(B, C, H, W)`` in the raw frame, predicted IoU ``(B, C)``, low-resolution logits ``(B, C, h, w)``.

        Raises:
            RuntimeError: No image is set.
            ValueError: A prompt has several boxes.
        """
        if not self.is_image_set:
            raise RuntimeError("An image must be set with .set_image(...) before mask prediction.")
        if boxes is not None:
            if boxes.numel() != 4 * len(boxes):
                raise ValueError(f"boxes must be (B, 4), at most one for each prompt, got {tuple(boxes.shape)}")
            # SamPredictor.predict gives one box as (1, 1, 4).
            boxes = boxes.reshape(-1, 4)
        prompts = Prompts(point_coords, point_labels, boxes, mask_input)
        with self._gradients():
            logits, iou, low_res = _decode(
                self.model, self.features, self.input_size, self.original_size, prompts, multimask_output
            )
            if self._crops:
                raw = prompts.scaled(_ratio(self.original_size, self.input_size))
                logits, iou = refined(logits, iou, raw, self._crops, self._ask_crop, self.model.mask_threshold)
            masks = logits if return_logits else logits > self.model.mask_threshold
        return masks, iou, low_res

    def reset_image(self) -> None:
        """Forget the image."""
        super().reset_image()
        self._seen, self._crops, self._crop_embeddings = None, [], {}

    def _options(self, channel_order: str) -> InferenceOptions:
        return replace(self.frozen.options, channel_order=channel_order)

    @property
    def _grad_enabled(self) -> bool:
        return self.with_grad and torch.is_grad_enabled()

    @contextmanager
    def _gradients(self) -> Iterator[None]:
        with torch.set_grad_enabled(self._grad_enabled):
            yield

    def _encode(self, seen: EnhancedImage) -> tuple[Tensor, tuple[int, int]]:
        """The embedding of an image, and its size in the input frame."""
        size = self.transform.get_preprocess_shape(*seen.shape[:2], self.transform.target_length)
        # ``size`` is the raw image's, in the input frame. ResizeLongestSide would round that of the enhanced image.
        pixels = np.array(resize(to_pil_image(seen.pixels), list(size)))
        image = torch.as_tensor(pixels, device=self.device).permute(2, 0, 1).contiguous()[None]
        if seen.levels is not None:
            image = _StraightThrough.apply(image.float(), _resized(seen.levels[None], size))
        with self._gradients():
            return self.model.image_encoder(self.model.preprocess(_in_format(image, self.model))), size

    def _ask_crop(self, crop: Crop, prompts: Prompts, found: Tensor) -> tuple[Tensor, Tensor]:
        """Predict logits ``(n, h, w)`` and IoU ``(n,)`` of a crop, for prompts and logits in its raw pixels."""
        if self._seen is None:
            raise RuntimeError("an image that was set in SAM's input frame has no crops")
        # An embedding that was computed without gradients cannot be used for gradients later.
        key = crop.box, self._grad_enabled
        if key not in self._crop_embeddings:
            self._crop_embeddings[key] = self._encode(self._seen[crop.window])
        embedding, size = self._crop_embeddings[key]
        asked = prompts.scaled(_ratio(size, crop.size))._replace(mask_input=_as_mask_input(found, size, self.model))
        logits, iou, _ = _decode(self.model, embedding, size, crop.size, asked, multimask_output=False)
        return logits[:, 0], iou[:, 0]


def sam_embeddings(sam: Any, images: Tensor | Sequence[Tensor]) -> Tensor:
    """SAM's embeddings of images of any sizes; gradients flow if they are enabled.

    Args:
        sam: SAM, as for :class:`EnhancedSamPredictor`.
        images: Images ``(N, 3, H, W)``, or a list of ``(3, H, W)``: RGB, floating point, in [0, 1], on SAM's device.
            They are resized with a low-pass filter and not rounded.

    Returns:
        Embeddings ``(N, C, h, w)``; the image is at their upper left, and the rest belongs to SAM's padding.

    Raises:
        ValueError: An image has another shape, or is not floating point.

    Examples:
        >>> from llie_preproc.segmentation import build_sam
        >>> sam_embeddings(build_sam("small"), torch.rand(1, 3, 48, 64)).shape
        torch.Size([1, 64, 16, 16])
    """
    inputs = []
    for image in images:
        if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
            raise ValueError(f"images must be (3, H, W) and floating, got {tuple(image.shape)}, {image.dtype}")
        size = _input_size(sam, image.shape[-2:])
        levels = _resized(255 * image.float()[None], size)
        inputs.append(sam.preprocess(_in_format(levels, sam)))
    return sam.image_encoder(torch.cat(inputs))


def decode_masks(
    sam: Any,
    embedding: Tensor,
    image_size: Sequence[int],
    points: Tensor | None = None,
    point_labels: Tensor | None = None,
    boxes: Tensor | None = None,
    mask_input: Tensor | None = None,
    multimask_output: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict masks of one image for prompts in its pixels; gradients flow if they are enabled.

    Args:
        sam: SAM, as for :class:`EnhancedSamPredictor`.
        embedding: Embedding ``(1, C, h, w)``, a result of :func:`sam_embeddings`.
        image_size: Size ``(H, W)`` of the frame of prompts and masks: the image, at any resolution.
        points: Points ``(B, N, 2)``, x y.
        point_labels: Labels ``(B, N)`` of the points, 1 for foreground and 0 for background.
        boxes: Boxes ``(B, 4)``, x1 y1 x2 y2.
        mask_input: Low-resolution logits ``(B, 1, h, w)`` of an earlier call.
        multimask_output: Whether each prompt gets three masks instead of one.

    Returns:
        Logits ``(B, C, H, W)``, predicted IoU ``(B, C)``, low-resolution logits ``(B, C, h, w)``.

    Examples:
        >>> from llie_preproc.segmentation import build_sam
        >>> sam = build_sam("small")
        >>> embedding = sam_embeddings(sam, torch.rand(1, 3, 48, 64))
        >>> logits, iou, _ = decode_masks(sam, embedding, (48, 64), boxes=torch.tensor([[8.0, 8, 40, 30]]))
        >>> logits.shape, iou.shape
        (torch.Size([1, 1, 48, 64]), torch.Size([1, 1]))
    """
    height, width = image_size
    size = _input_size(sam, (height, width))
    prompts = Prompts(points, point_labels, boxes, mask_input).scaled(_ratio(size, (height, width)))
    return _decode(sam, embedding, size, (height, width), prompts, multimask_output)


class _StraightThrough(torch.autograd.Function):
    """Returns the first tensor, and passes the gradient to the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, gradient


def _decode(
    sam: Any,
    embedding: Tensor,
    input_size: Sequence[int],
    size: Sequence[int],
    prompts: Prompts,
    multimask_output: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict logits in a frame of ``size``, IoU and low-resolution logits, for prompts in the input frame."""
    points = None if prompts.points is None else (prompts.points, prompts.point_labels)
    sparse, dense = sam.prompt_encoder(points=points, boxes=prompts.boxes, masks=prompts.mask_input)
    low_res, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask_output,
    )
    return sam.postprocess_masks(low_res, tuple(input_size), tuple(size)), iou, low_res


def _as_mask_input(logits: Tensor, input_size: Sequence[int], sam: Any) -> Tensor:
    """Turn logits ``(n, h, w)`` of an image into mask prompts ``(n, 1, h', w')`` for it."""
    side = sam.image_encoder.img_size
    # torch's low-pass filter does not support bfloat16 on the CPU.
    logits = logits[:, None].to(torch.promote_types(logits.dtype, torch.float32))
    # SAM's padding belongs to no mask, so it gets the lowest logit of each mask.
    lowest = logits.detach().amin(dim=(2, 3), keepdim=True).clamp(max=0)
    resized_logits = F.interpolate(logits - lowest, tuple(input_size), mode="bilinear")
    padded = F.pad(resized_logits, (0, side - input_size[1], 0, side - input_size[0])) + lowest
    return F.interpolate(padded, tuple(sam.prompt_encoder.mask_input_size), mode="bilinear", antialias=True)


def _input_size(sam: Any, size: Sequence[int]) -> tuple[int, int]:
    return ResizeLongestSide.get_preprocess_shape(size[0], size[1], sam.image_encoder.img_size)


def _ratio(target: Sequence[int], source: Sequence[int]) -> tuple[float, float]:
    """Factors of x and y from the frame of size ``source`` to that of size ``target``, both ``(H, W)``."""
    return target[1] / source[1], target[0] / source[0]


def _resized(levels: Tensor, size: Sequence[int]) -> Tensor:
    if levels.shape[-2:] == tuple(size):
        return levels
    return F.interpolate(levels, tuple(size), mode="bilinear", antialias=True)


def _in_format(image: Tensor, sam: Any) -> Tensor:
    """Bring ``(1, 3, h, w)`` RGB into the model's channel order."""
    return image.flip(1) if sam.image_format == "BGR" else image


def _check_image(image: Any, image_format: str) -> None:
    if image_format not in _FORMATS:
        raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8 array, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3), got {image.shape}")
