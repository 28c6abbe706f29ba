"""Overlapping crops that keep the detail that SAM's resizing would lose, and the merging of their masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

OVERSIZE = ("resize", "crops")
"""Treatments of images that are larger than SAM's input."""

# Number of prompts that are decoded together; each takes a copy of the embedding (4 MiB in the public models).
_BATCH = 64

# Distance between logit and threshold at which a pixel is surely inside or outside a mask. segment-anything's stability
# score moves its threshold by the same offset.
_SURE = 1.0


class Prompts(NamedTuple):
    """SAM's prompts; each is None if it is not given.

    Attributes:
        points: Points ``(B, N, 2)``, x y in pixels of some frame.
        point_labels: Labels ``(B, N)`` of the points.
        boxes: Boxes ``(B, 4)``, x1 y1 x2 y2 in pixels of the same frame.
        mask_input: Low-resolution logits ``(B, 1, h, w)``.
    """

    points: Tensor | None
    point_labels: Tensor | None
    boxes: Tensor | None
    mask_input: Tensor | None = None

    def scaled(self, ratio: tuple[float, float]) -> Prompts:
        """The prompts in a frame where x and y are multiplied by ``ratio``."""
        points, boxes = self.points, self.boxes
        if points is not None:
            points = points * points.new_tensor(ratio)
        if boxes is not None:
            boxes = boxes * boxes.new_tensor((*ratio, *ratio))
        return self._replace(points=points, boxes=boxes)


@dataclass(frozen=True)
class Crop:
    """A part of an image.

    Attributes:
        box: Corners x1 y1 x2 y2 in pixels.
        weight: Weights ``(h, w)`` of its pixels; the weights of all crops that share a pixel sum to 1.
    """

    box: tuple[int, int, int, int]
    weight: Tensor

    @property
    def window(self) -> tuple[slice, slice]:
        """Slices of the rows and of the columns."""
        x1, y1, x2, y2 = self.box
        return slice(y1, y2), slice(x1, x2)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        x1, y1, x2, y2 = self.box
        return y2 - y1, x2 - x1


def crops_of(size: Sequence[int], side: int, overlap_ratio: float) -> list[Crop]:
    """The fewest crops of up to ``side`` pixels a side that cover ``(H, W)``; empty if one would cover all of it.

    Neighbours share at least ``overlap_ratio`` of ``side``, and fade into each other over that length.

    Examples:
        >>> [crop.box for crop in crops_of((60, 100), side=60, overlap_ratio=0.25)]
        [(0, 0, 60, 60), (40, 0, 100, 60)]
    """
    if max(size) <= side:
        return []
    overlap = int(side * overlap_ratio)
    rows, columns = (_spans(length, side, overlap) for length in size)
    return [
        Crop((x1, y1, x2, y2), row[:, None] * column)
        for (y1, y2), row in zip(rows, _weights(rows, overlap), strict=True)
        for (x1, x2), column in zip(columns, _weights(columns, overlap), strict=True)
    ]


def refined(
    logits: Tensor,
    iou: Tensor,
    prompts: Prompts,
    crops: Sequence[Crop],
    ask: Callable[[Crop, Prompts, Tensor], tuple[Tensor, Tensor]],
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Refine the masks of a whole image by the crops through which their borders run.

    Args:
        logits: Logits ``(B, C, H, W)`` of the whole image.
        iou: Predicted IoU ``(B, C)`` of these masks.
        prompts: Prompts in the image's pixels.
        crops: Crops of the image.
        ask: Function that returns logits ``(n, h, w)`` and predicted IoU ``(n,)`` of a crop, for prompts and logits in
            the crop's pixels.
        threshold: Value above which a logit belongs to the mask.

    Returns:
        Refined logits and IoU. The logits of crops are weighted by the crops' weights, and their IoU by the share of
        the mask that lies in the crop. Both are continuous in ``logits``: the less of a border shows in a crop, the
        less the crop counts.
    """
    whole_logits, whole_iou = logits, iou
    logits, iou = logits.clone(), iou.clone()
    inside = _sureness(whole_logits, threshold)
    area = inside.sum(dim=(2, 3)).clamp(min=1)
    for crop in crops:
        rows, columns = crop.window
        # The more surely both sides of a border show in a crop, the more the crop counts. So if rounding adds or drops
        # a crop, that crop counts zero.
        outside = _sureness(-whole_logits[..., rows, columns], -threshold)
        shown = torch.minimum(inside[..., rows, columns].amax(dim=(2, 3)), outside.amax(dim=(2, 3)))
        asked = (shown > 0).nonzero()
        for which in asked.split(_BATCH) if len(asked) else ():
            b, c = which.unbind(1)
            found, part = whole_logits[b, c, rows, columns], inside[b, c, rows, columns]
            fine, fine_iou = ask(crop, _within(prompts, crop, b, part), found)
            weight = shown[b, c, None, None] * crop.weight.to(logits)
            logits[..., rows, columns][b, c] += weight * (fine - found)
            share = (weight * part).sum(dim=(1, 2)) / area[b, c]
            iou[b, c] += share * (fine_iou - whole_iou[b, c])
    return logits, iou


def _sureness(logits: Tensor, threshold: float) -> Tensor:
    """Certainty that pixels belong to the mask: 0 up to the threshold, 1 from :data:`_SURE` above it."""
    return ((logits - threshold) / _SURE).clamp(0, 1)


def _within(prompts: Prompts, crop: Crop, chosen: Tensor, masks: Tensor) -> Prompts:
    """The prompts of the indices ``chosen`` in a crop's pixels; each of ``masks`` ``(n, h, w)`` has a pixel above 0."""
    points, labels, boxes, _ = prompts
    height, width = crop.size
    around = _boxes_of(masks)
    corner, limit = around.new_tensor(crop.box[:2]), around.new_tensor((width, height))
    if boxes is not None:
        own = ((boxes[chosen].view(-1, 2, 2) - corner).clamp(min=0).minimum(limit)).flatten(1)
        empty = (own[:, 2:] <= own[:, :2]).any(1)
        around = torch.where(empty[:, None], around, own)
    if points is not None and labels is not None:
        points = points[chosen] - corner
        outside = ((points < 0) | (points >= limit)).any(-1)
        # SAM itself pads prompts with points of the label -1.
        labels = torch.where(outside, -1, labels[chosen])
    return Prompts(points, labels, around)


def _boxes_of(masks: Tensor) -> Tensor:
    """Boxes ``(n, 4)``, x1 y1 x2 y2 at pixel edges, around masks ``(n, h, w)`` of certainties in 0 to 1.

    A row or column extends the box in proportion to its certainty, compared with the largest one of the mask. So the
    box does not jump to a pixel whose logit is lifted above the threshold by rounding.
    """
    ends = []
    for across in (1, 2):
        # Half precision is too coarse for coordinates.
        line = masks.amax(across).to(torch.promote_types(masks.dtype, torch.float32))
        length = line.shape[1]
        start, unsure = torch.arange(length, device=line.device), length * (1 - line / line.amax(1, keepdim=True))
        ends.append(((start + unsure).amin(1), (start + 1 - unsure).amax(1)))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], dim=1)


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [(start, start + side) for start in starts]


def _weights(spans: Sequence[tuple[int, int]], overlap: int) -> list[Tensor]:
    """Weights of each span's pixels, which rise over ``overlap`` pixels from its inner ends; all spans add up to 1."""
    length = spans[-1][1]
    total = torch.zeros(length)
    weights = []
    for start, end in spans:
        place = torch.arange(start, end) + 0.5
        ramp = torch.ones(end - start)
        if start > 0:
            ramp = ramp.minimum((place - start) / max(overlap, 1))
        if end < length:
            ramp = ramp.minimum((end - place) / max(overlap, 1))
        total[start:end] += ramp
        weights.append(ramp)
    return [weight / total[start:end] for (start, end), weight in zip(spans, weights, strict=True)]
