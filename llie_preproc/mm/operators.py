"""A stand-in for mmcv's compiled operators, built on those of torchvision.

``pip install`` of mmcv often brings no ``mmcv._ext``, because there is no wheel for the installed torch, and then
``mmcv.ops`` cannot be imported. :func:`llie_preproc.mm.finder.install` appends a finder for ``mmcv._ext`` to the end of
``sys.meta_path``, so that a compiled extension always has priority. The stand-in has NMS, soft NMS, masked
convolution and, with their backward passes, RoIAlign, both versions of deformable convolution, and CARAFE. Few of
MMDetection's models need others. Any other operator raises, and the message says how to get the compiled ones. bfloat16
and float16 tensors, as from automatic mixed precision, are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import interpolate, pad, unfold

_BUILD = "'make mmcv-ops' in the source tree of llie_preproc, or 'Compiled operators' in its docs/mmdetection.md"


class StandIn(ModuleType):
    """The module that ``import mmcv._ext`` imports if the compiled one is missing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(
                f"mmcv's operator {name!r} is not compiled here; llie_preproc's stand-in has only nms, softnms, "
                "roi_align, deform_conv, modulated_deform_conv, masked_conv and carafe. Compile mmcv's own: "
                f"{_BUILD}"
            )

        return missing


def _wide(*tensors: Tensor) -> list[Tensor]:
    """Widen half precision to float32: torchvision's operators refuse bfloat16 on a CPU, and two types at once."""
    return [t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in tensors]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """``mmcv._ext.nms``: indices of the boxes that are kept, by falling score.

    With ``offset`` 1, boxes include their last pixel.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [20.0, 0, 30, 10]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.7]), iou_threshold=0.5, offset=0).tolist()
        [1, 2]
    """
    boxes, scores = _wide(boxes, scores)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """``mmcv._ext.softnms`` (Bodla et al., 2017): indices of the boxes that are kept, in the order of selection.

    The box with the highest current score is selected next. It and its score fill the next row of ``dets``. The scores
    of the remaining boxes then fall with their overlap with the selected one: ``method`` 0 sets them to zero and 1
    lowers them linearly, both from ``iou_threshold`` on; 2 lowers them by a Gaussian of ``sigma``. Boxes with scores
    below ``min_score`` are dropped.
    """
    boxes, scores = (t.clone() for t in _wide(boxes, scores))
    corners = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left):
        best = left[scores[left].argmax()]
        dets[len(kept)] = torch.cat([boxes[best], scores[best, None]])
        kept.append(best)
        left = left[left != best]
        overlap = torchvision.ops.box_iou(corners[best, None], corners[left])[0]
        weight = torch.exp(-(overlap**2) / sigma) if method == 2 else 1 - overlap if method == 1 else 0 * overlap
        scores[left] *= weight if method == 2 else weight.where(overlap >= iou_threshold, 1.0)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_forward``: fills ``output``. Average pooling (``pool_mode`` 1) only."""
    if pool_mode != 1:
        raise RuntimeError(
            f"the stand-in for mmcv's roi_align supports 'avg' only, not 'max'; compile mmcv's own: {_BUILD}"
        )
    size = (aligned_height, aligned_width)
    features, rois = _wide(input, rois)
    output.copy_(torchvision.ops.roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_backward``: fills ``grad_input``."""
    backward = torch.ops.torchvision._roi_align_backward
    sizes = (aligned_height, aligned_width, *grad_input.shape)
    gradient, rois = _wide(grad_output, rois)
    grad_input.copy_(backward(gradient, rois, spatial_scale, *sizes, sampling_ratio, aligned))


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """``mmcv._ext.deform_conv_forward``: fills ``output``. ``im2col_step``, which saves memory only, is not used."""
    output.copy_(_deform_conv(input, weight, offset, None, None, [geometry[key] for key in _V1]))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """``mmcv._ext.deform_conv_backward_input``: fills ``grad_input`` and ``grad_offset``."""
    gradients = _deform_conv_backward(grad_output, input, weight, offset, None, [geometry[key] for key in _V1])
    grad_input.copy_(gradients[0])
    grad_offset.copy_(gradients[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """``mmcv._ext.deform_conv_backward_parameters``: adds to ``grad_weight``, times ``scale``."""
    # The weight's values do not enter its own gradient.
    weight = grad_weight.new_zeros(grad_weight.shape)
    gradients = _deform_conv_backward(grad_output, input, weight, offset, None, [geometry[key] for key in _V1])
    grad_weight.add_(gradients[1].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """``mmcv._ext.modulated_deform_conv_forward``: fills ``output``."""
    offset, mask = (_in_layout_of(output, t) for t in (offset, mask))
    output.copy_(_deform_conv(input, weight, offset, mask, bias if with_bias else None, [geometry[key] for key in _V2]))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """``mmcv._ext.modulated_deform_conv_backward``: fills the ``grad_`` tensors except ``grad_output``."""
    offset, mask = (_in_layout_of(grad_output, t) for t in (offset, mask))
    gradients = _deform_conv_backward(grad_output, input, weight, offset, mask, [geometry[key] for key in _V2])
    for tensor, gradient in ((grad_offset, gradients[2]), (grad_mask, gradients[3])):
        unread = tensor[0].numel() - gradient[0].numel()
        tensor.copy_(pad(gradient.flatten(1), (0, unread)).view_as(tensor))
    grad_input.copy_(gradients[0])
    grad_weight.copy_(gradients[1])
    if with_bias:
        grad_bias.copy_(gradients[4])


def _in_layout_of(output: Tensor, per_pixel: Tensor) -> Tensor:
    """Read offsets or masks as mmcv does: from the beginning of each sample's memory, in the size of the output.

    DyHead passes offsets and masks of a larger feature map, and its weights are trained with mmcv's way of reading
    them.
    """
    size = (per_pixel.shape[1], *output.shape[2:])
    return per_pixel.flatten(1)[:, : math.prod(size)].reshape(len(per_pixel), *size)


# The order is torchvision's: stride, padding and dilation (each vertical, horizontal), groups, groups of offsets.
_V1 = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_V2 = ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "group", "deformable_group")


def _deform_conv(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, geometry: list[int]
) -> Tensor:
    modulated = mask is not None
    mask, bias = _filled(input, weight, mask, bias)
    with torch.autocast(input.device.type, enabled=False):
        return torch.ops.torchvision.deform_conv2d(*_wide(input, weight, offset, mask, bias), *geometry, modulated)


def _deform_conv_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]
) -> tuple[Tensor, ...]:
    """Gradients of the input, the weight, the offset, the mask and the bias."""
    modulated = mask is not None
    mask, bias = _filled(input, weight, mask, None)
    tensors = _wide(grad_output, input, weight, offset, mask, bias)
    with torch.autocast(input.device.type, enabled=False):
        return torch.ops.torchvision._deform_conv2d_backward(*tensors, *geometry, modulated)


def _filled(input: Tensor, weight: Tensor, mask: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mask and the bias; where mmcv has none, a tensor of zeros, because torchvision needs one."""
    mask = input.new_zeros((len(input), 1)) if mask is None else mask
    return mask, weight.new_zeros(len(weight)) if bias is None else bias


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """``mmcv._ext.masked_im2col_forward``: fills ``data_col`` with the kernel's inputs at the pixels of the mask."""
    columns = unfold(features, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    width = features.shape[3] + 2 * pad_w - kernel_w + 1
    data_col.copy_(columns[:, mask_h_idx * width + mask_w_idx])


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """``mmcv._ext.masked_col2im_forward``: writes columns to the pixels of the mask, in a batch of one image."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """``mmcv._ext.carafe_forward``: fills ``output``, and ``rfeatures`` with the features for the backward pass."""
    rfeatures.copy_(features)
    output.copy_(_carafe(features, masks, kernel_size, group_size, scale_factor))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """``mmcv._ext.carafe_backward``: fills ``grad_input`` and ``grad_masks``."""
    with torch.enable_grad():
        features, weights = (t.detach().requires_grad_() for t in (rfeatures, masks))
        output = _carafe(features, weights, kernel_size, group_size, scale_factor)
    gradients = torch.autograd.grad(output, (features, weights), grad_output.to(output.dtype))
    grad_input.copy_(gradients[0])
    grad_masks.copy_(gradients[1])


def _carafe(features: Tensor, masks: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """Compute each pixel of the enlarged map as a weighted sum of a neighbourhood (Wang et al., 2019, equation 2)."""
    n, channels, height, width = features.shape
    weights = masks.view(n, groups, 1, kernel_size**2, height * scale, width * scale)
    read = unfold(features, kernel_size, padding=kernel_size // 2)
    read = interpolate(read.view(n, -1, height, width), scale_factor=scale, mode="nearest")
    read = read.view(n, groups, channels // groups, kernel_size**2, height * scale, width * scale)
    return (read * weights).sum(dim=3).flatten(1, 2)


OPERATORS = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    modulated_deform_conv_forward,
    modulated_deform_conv_backward,
    masked_im2col_forward,
    masked_col2im_forward,
    carafe_forward,
    carafe_backward,
)
