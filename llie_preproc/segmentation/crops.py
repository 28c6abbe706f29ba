"""Overlapping crops that keep what SAM's resizing would lose, and how their masks become one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

OVERSIZE = ("resize", "crops")
"""Treatments of what is larger than SAM's input."""

# Prompts that are decoded together: each takes a copy of the embedding, 4 MiB of the public models'.
_BATCH = 64

# Logits from the threshold to where a pixel is surely of a mask or surely not: the offset by which segment-anything's
# stability score moves its threshold.
_SURE = 1.0


class Prompts(NamedTuple):
    """SAM's prompts, None for what is not given.

    ``points`` ``(B, N, 2)`` x y with ``point_labels`` ``(B, N)``, ``boxes`` ``(B, 4)`` x1 y1 x2 y2, both in pixels of
    some frame, and ``mask_input`` ``(B, 1, h, w)``.
    """

    points: Tensor | None
    point_labels: Tensor | None
    boxes: Tensor | None
    mask_input: Tensor | None = None

    def scaled(self, ratio: tuple[float, float]) -> Prompts:
        """Points and boxes in a frame where x and y are multiplied by ``ratio``."""
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
        box: x1 y1 x2 y2, pixels.
        weight: ``(h, w)`` of each of its pixels; of all crops that share a pixel they sum to 1.
    """

    box: tuple[int, int, int, int]
    weight: Tensor

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        x1, y1, x2, y2 = self.box
        return slice(y1, y2), slice(x1, x2)

    @property
    def size(self) -> tuple[int, int]:
        """``(h, w)``."""
        x1, y1, x2, y2 = self.box
        return y2 - y1, x2 - x1


def crops_of(size: Sequence[int], side: int, overlap_ratio: float) -> list[Crop]:
    """The fewest crops of up to ``side`` pixels a side that cover ``(H, W)``; none where one would be the whole.

    Neighbours share at least ``overlap_ratio`` of ``side``, and over that length fade into each other.
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
    """Masks of a whole image with those of the crops through which their borders run.

    Args:
        logits: ``(B, C, H, W)`` of the whole.
        iou: ``(B, C)``, predicted for these.
        prompts: In the image's pixels.
        crops: Of the image.
        ask: Gives logits ``(n, h, w)`` and predicted IoU ``(n,)`` of a crop, for prompts and logits in its pixels.
        threshold: Logits above it are of the mask.

    Returns:
        The same two: logits are weighted by the crops' weights, IoU by how much of the mask was asked where. Both are
        continuous in ``logits``: where a border only just shows in a crop, the crop counts as little.
    """
    whole_logits, whole_iou = logits, iou
    logits, iou = logits.clone(), iou.clone()
    inside = _sureness(whole_logits, threshold)
    area = inside.sum(dim=(2, 3)).clamp(min=1)
    for crop in crops:
        rows, columns = crop.window
        # A crop counts as far as both sides of a border show in it, so one that rounding adds or drops changes nothing.
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
    """How surely pixels are of the mask: 0 up to the threshold, 1 from :data:`_SURE` above it."""
    return ((logits - threshold) / _SURE).clamp(0, 1)


def _within(prompts: Prompts, crop: Crop, chosen: Tensor, masks: Tensor) -> Prompts:
    """The prompts ``chosen`` (indices), in a crop's pixels; of ``masks`` ``(n, h, w)`` each has a pixel above 0."""
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
        # -1: what SAM itself fills up a prompt with.
        labels = torch.where(outside, -1, labels[chosen])
    return Prompts(points, labels, around)


def _boxes_of(masks: Tensor) -> Tensor:
    """``(n, 4)`` x1 y1 x2 y2 round masks ``(n, h, w)`` of sureness, 0 to 1: pixel edges.

    A row or column extends the box as far as it is as sure as the surest of its mask, so that the box does not jump to
    a pixel whose logit rounding lifts above the threshold.
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
    """Of each span's pixels: rising from its inner ends over ``overlap`` pixels, and 1 in total."""
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
