"""SAM's predictor in front of which an enhancer stands; and the same two steps, encoding and decoding, for training.

Three frames are told apart: the *raw* image's pixels, which callers give and get; the *enhanced* image's, ``scale``
times as many; and SAM's *input* frame, the image resized to a long side of ``image_encoder.img_size`` (1024). The input
frame of the raw and of the enlarged image is one and the same, so prompts and masks need no mapping of their own.
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
    """What SAM is shown of a raw image, whose shape and windows it has.

    Attributes:
        pixels: ``(sH, sW, 3)`` RGB uint8.
        scale: s, times as large as the raw image.
        levels: ``(3, sH, sW)`` RGB, what ``pixels`` were rounded from, 0 to 255, where gradients are wanted.
    """

    pixels: np.ndarray
    scale: int = 1
    levels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(H, W, 3)`` of the raw image."""
        height, width = self.pixels.shape[:2]
        return height // self.scale, width // self.scale, 3

    def __getitem__(self, window: Sequence[slice]) -> EnhancedImage:
        """The part that shows ``image[y0:y1, x0:x1]`` of the raw image."""
        rows, columns = (slice(self.scale * part.start, self.scale * part.stop) for part in window[:2])
        levels = None if self.levels is None else self.levels[:, rows, columns]
        return EnhancedImage(self.pixels[rows, columns], self.scale, levels)


class EnhancedSamPredictor(SamPredictor):
    """segment-anything's ``SamPredictor``, which sees enhanced images: same methods, same frames, same results' layout.

    Points, boxes and masks are those of the raw image, whatever the enhancer's scale. With an enhancer that changes
    nothing every method returns what ``SamPredictor`` returns, to the last bit.

    SAM resizes each image to a long side of 1024, so what an enlarging enhancer adds beyond that is lost. With
    ``oversize='crops'`` an enhanced image with a longer side is looked at twice: as a whole, resized, and then again,
    where the border of a mask runs, in overlapping crops of up to 1024 enhanced pixels a side. A crop is asked with the
    prompts within it, the box clipped to it (without one: the box round the mask found so far) and the mask found so
    far as mask prompt; logits of neighbouring crops fade linearly into each other, and where no crop was asked stay
    those of the whole. A crop counts in full where pixels on both sides of the border pass the threshold by a logit,
    and less where they pass it by less: no rounding decides what a mask is made of. Each crop that is asked costs an
    encoder pass, once for an image. ``low_res_masks`` are of the whole.

    Args:
        sam_model: segment-anything's ``Sam`` of any size (:func:`llie_preproc.segmentation.build_sam`), or a model with
            its interface: ``image_encoder.img_size``, ``preprocess``, ``prompt_encoder``, ``mask_decoder``,
            ``postprocess_masks``, ``mask_threshold``, ``image_format``, ``device``.
        enhancer: As for :func:`llie_preproc.build_enhancer`; it is moved to where SAM is then.
        checkpoint: The enhancer's, likewise.
        oversize: ``'resize'`` or ``'crops'``, as above.
        crop_overlap_ratio: Of neighbouring crops, as a share of their side; below 0.5.
        with_grad: Let gradients flow where they are enabled: through SAM's decoder, its encoder and the enhancer,
            which then runs unclamped and in the mode that it is in. SAM still sees 8-bit pixels; their gradient is
            that of the unrounded, bilinearly resized image.
        **options: Those of :class:`~llie_preproc.InferenceOptions`; the channel order is that of arrays whose
            ``image_format`` is not given.

    Raises:
        ValueError: An unknown ``oversize``, an overlap out of its range, an option that the enhancer cannot be run
            with, or ``with_grad`` with an enhancer through which no gradient flows.
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
            raise ValueError(f"no gradient flows through {type(self.enhancer).__name__}: it cannot be used with_grad")
        self.oversize, self.crop_overlap_ratio = oversize, crop_overlap_ratio
        self.with_grad = with_grad

    @property
    def enhancer(self) -> Enhancer:
        """The network."""
        return self.frozen.enhancer

    def enhance(self, image: np.ndarray, image_format: str | None = None) -> EnhancedImage:
        """Enhance an image, for several calls of :meth:`set_image` or to look at.

        Args:
            image: ``(H, W, 3)`` uint8.
            image_format: ``'RGB'`` or ``'BGR'``, of ``image``; None: the channel order of the options.

        Raises:
            TypeError: No array, or another dtype.
            ValueError: Another shape or format.
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
            image: ``(H, W, 3)`` uint8, or what :meth:`enhance` made of it.
            image_format: ``'RGB'`` or ``'BGR'``, of an array; None: the channel order of the options.

        Raises:
            TypeError, ValueError: As :meth:`enhance`.
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
        """Enhance an image that is already in SAM's input frame, and compute its embedding; no crops are made of it.

        Args:
            transformed_image: ``(1, 3, h, w)``, its longer side ``img_size``, channels as the model has them, levels 0
                to 255. What is enlarged is resized back.
            original_image_size: ``(H, W)`` of the raw image.

        Raises:
            ValueError: Another shape.
        """
        side, shape = self.model.image_encoder.img_size, tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise ValueError(f"set_torch_image takes (1, 3, h, w) with a long side of {side}, got {shape}")
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
        """Masks for a batch of prompts, as ``SamPredictor.predict_torch``.

        Args:
            point_coords: ``(B, N, 2)`` x y in SAM's input frame: ``transform.apply_coords_torch(raw, (H, W))`` with the
                raw image's size.
            point_labels: ``(B, N)``, 1 foreground, 0 background.
            boxes: ``(B, 4)`` x1 y1 x2 y2 in the input frame (``transform.apply_boxes_torch``).
            mask_input: ``(B, 1, h, w)`` low-resolution logits of an earlier call.
            multimask_output: Three masks for each prompt instead of one.
            return_logits: Logits instead of masks.

        Returns:
            Masks ``(B, C, H, W)`` in the raw frame, predicted IoU ``(B, C)``, low-resolution logits ``(B, C, h, w)``.

        Raises:
            RuntimeError: No image is set.
            ValueError: Several boxes for a prompt.
        """
        if not self.is_image_set:
            raise RuntimeError("An image must be set with .set_image(...) before mask prediction.")
        if boxes is not None:
            if boxes.numel() != 4 * len(boxes):
                raise ValueError(f"a prompt has one box at most: boxes must be (B, 4), got {tuple(boxes.shape)}")
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
        """The embedding, and the size in the input frame."""
        size = self.transform.get_preprocess_shape(*seen.shape[:2], self.transform.target_length)
        # As ResizeLongestSide does, but to the size of the raw image in the input frame, without another rounding.
        pixels = np.array(resize(to_pil_image(seen.pixels), list(size)))
        image = torch.as_tensor(pixels, device=self.device).permute(2, 0, 1).contiguous()[None]
        if seen.levels is not None:
            image = _StraightThrough.apply(image.float(), _resized(seen.levels[None], size))
        with self._gradients():
            return self.model.image_encoder(self.model.preprocess(_in_format(image, self.model))), size

    def _ask_crop(self, crop: Crop, prompts: Prompts, found: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(n, h, w)`` and predicted IoU ``(n,)`` of a crop, for prompts and logits in its raw pixels."""
        if self._seen is None:
            raise RuntimeError("there are no crops of an image that was set in the input frame")
        # Through what was encoded without gradients none flow later.
        key = crop.box, self._grad_enabled
        if key not in self._crop_embeddings:
            self._crop_embeddings[key] = self._encode(self._seen[crop.window])
        embedding, size = self._crop_embeddings[key]
        asked = prompts.scaled(_ratio(size, crop.size))._replace(mask_input=_as_mask_input(found, size, self.model))
        logits, iou, _ = _decode(self.model, embedding, size, crop.size, asked, multimask_output=False)
        return logits[:, 0], iou[:, 0]


def sam_embeddings(sam: Any, images: Tensor | Sequence[Tensor]) -> Tensor:
    """SAM's image embeddings of images of any sizes; gradients flow where they are enabled.

    Args:
        sam: As for :class:`EnhancedSamPredictor`.
        images: ``(N, 3, H, W)``, or a list of ``(3, H, W)``: RGB, floating, in [0, 1], on SAM's device. They are
            resized with a low-pass filter, not rounded.

    Returns:
        ``(N, C, h, w)``; what shows the image is at its upper left, the rest is of SAM's padding.

    Raises:
        ValueError: An image of another shape, or not floating.
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
    """Masks of one image for prompts in its pixels; gradients flow where they are enabled.

    Args:
        sam: As for :class:`EnhancedSamPredictor`.
        embedding: ``(1, C, h, w)`` of :func:`sam_embeddings`.
        image_size: ``(H, W)``, of the image or of another resolution of it: the frame of the prompts and masks.
        points: ``(B, N, 2)`` x y.
        point_labels: ``(B, N)``, 1 foreground, 0 background.
        boxes: ``(B, 4)`` x1 y1 x2 y2.
        mask_input: ``(B, 1, h, w)`` low-resolution logits of an earlier call.
        multimask_output: Three masks for each prompt instead of one.

    Returns:
        Logits ``(B, C, H, W)``, predicted IoU ``(B, C)``, low-resolution logits ``(B, C, h, w)``.
    """
    height, width = image_size
    size = _input_size(sam, (height, width))
    prompts = Prompts(points, point_labels, boxes, mask_input).scaled(_ratio(size, (height, width)))
    return _decode(sam, embedding, size, (height, width), prompts, multimask_output)


class _StraightThrough(torch.autograd.Function):
    """The first tensor, with the gradient of the second."""

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
    """Logits in a frame of ``size``, predicted IoU and low-resolution logits, for prompts in the input frame."""
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
    """Logits ``(n, h, w)`` of an image as its mask prompts ``(n, 1, h', w')``."""
    side = sam.image_encoder.img_size
    # torch's low-pass filter takes no bfloat16 on the CPU.
    logits = logits[:, None].to(torch.promote_types(logits.dtype, torch.float32))
    # SAM's padding is not part of anything: each mask's lowest logit.
    lowest = logits.detach().amin(dim=(2, 3), keepdim=True).clamp(max=0)
    resized_logits = F.interpolate(logits - lowest, tuple(input_size), mode="bilinear")
    padded = F.pad(resized_logits, (0, side - input_size[1], 0, side - input_size[0])) + lowest
    return F.interpolate(padded, tuple(sam.prompt_encoder.mask_input_size), mode="bilinear", antialias=True)


def _input_size(sam: Any, size: Sequence[int]) -> tuple[int, int]:
    return ResizeLongestSide.get_preprocess_shape(size[0], size[1], sam.image_encoder.img_size)


def _ratio(target: Sequence[int], source: Sequence[int]) -> tuple[float, float]:
    """What x and y are multiplied by, from a frame of size ``(H, W)`` to another."""
    return target[1] / source[1], target[0] / source[0]


def _resized(levels: Tensor, size: Sequence[int]) -> Tensor:
    if levels.shape[-2:] == tuple(size):
        return levels
    return F.interpolate(levels, tuple(size), mode="bilinear", antialias=True)


def _in_format(image: Tensor, sam: Any) -> Tensor:
    """``(1, 3, h, w)`` RGB in the model's channel order."""
    return image.flip(1) if sam.image_format == "BGR" else image


def _check_image(image: Any, image_format: str) -> None:
    if image_format not in _FORMATS:
        raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8 array, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3), got {image.shape}")
