"""The training of the small SAM of :mod:`benchmarks.small_sam`, after SAM's paper (Kirillov et al., ICCV 2023).

Prompts are single points and boxes. Each edge of a box is moved by about a tenth of the box's size. The loss of a mask
is 20 x focal + dice. Each prompt gets four masks. Of the three for ambiguous prompts, only the one with the least loss
counts. The fourth, for clear prompts, always counts. The IoU head learns the IoU of every mask. After the first third
of the training, every second step takes the mask with the highest predicted IoU as a further prompt, with a point where
it is wrong. The optimiser is AdamW with a warm-up, a cosine and clipped gradients. There is no augmentation, because no
scene is seen twice.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss
from torchvision.ops import sigmoid_focal_loss

from detection_eval.demo.mask_scenes import MaskScene, mask_scene
from detection_eval.metrics.masks import mask_boxes
from llie_preproc.checkpoints import save_state_dict

_FOCAL, _DICE = 20.0, 1.0
_BOX_NOISE = 0.1
_PROMPTS = 2
"""Number of boxes, and of points, for a picture in a step."""


@dataclass(frozen=True)
class Recipe:
    """The settings of the training; the defaults are those of the committed weights."""

    seed: int = 0
    iterations: int = 2200
    batch_size: int = 8
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    warm_up: int = 50
    clip: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Pictures with prompts: ``n`` boxes, then ``n`` points.

    Attributes:
        pictures: Pictures ``(B, 3, H, W)`` RGB float in [0, 255].
        boxes: Boxes ``(n, 4)`` x1 y1 x2 y2 in pixels.
        points: Points ``(n, 1, 2)`` x y in pixels.
        of_picture: Index of the picture of each prompt, ``(2n,)``.
        targets: Masks of the prompts, ``(2n, H, W)`` float, 0 or 1.
    """

    pictures: Tensor
    boxes: Tensor
    points: Tensor
    of_picture: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def prompted(scenes: list[MaskScene], rng: np.random.Generator) -> Batch:
    """Random prompts for some of the objects of each scene."""
    pictures = np.stack([scene.day for scene in scenes]).transpose(0, 3, 1, 2)
    of_picture = np.repeat(np.arange(len(scenes)), _PROMPTS)
    masks = [np.stack([scenes[i].masks[rng.integers(len(scenes[i].masks))] for i in of_picture]) for _ in range(2)]
    points = np.array([rng.choice(np.argwhere(mask))[::-1] for mask in masks[1]])
    return Batch(
        torch.from_numpy(pictures).float(),
        torch.from_numpy(_moved(boxes_of(masks[0]), rng)).float(),
        torch.from_numpy(points).float()[:, None],
        torch.from_numpy(np.tile(of_picture, 2)),
        torch.from_numpy(np.concatenate(masks)).float(),
    )


def boxes_of(masks: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The tightest boxes of masks, ``(n, 4)`` x1 y1 x2 y2, measured at the edges of pixels."""
    boxes = mask_boxes(masks)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _moved(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + sides * rng.normal(0, _BOX_NOISE, boxes.shape).clip(-2 * _BOX_NOISE, 2 * _BOX_NOISE)


@dataclass(frozen=True)
class Correction:
    """What corrects each prompt: logits of a mask ``(P, 1, h, w)``, and a point ``(P, 1, 2)`` with its label."""

    masks: Tensor
    points: Tensor
    labels: Tensor


def batch_loss(sam: Any, batch: Batch, refine: bool) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step, and the IoU of the masks with the highest predicted IoU, for boxes and for points.

    Args:
        sam: SAM of :func:`~llie_preproc.segmentation.build_sam`, in training mode.
        batch: Batch of pictures as large as the model's input.
        refine: Whether to give each best mask back as a prompt, with a point where it is wrong, and to add the loss of
            the answer.
    """
    embeddings = sam.image_encoder(sam.preprocess(batch.pictures))
    logits, predicted = decode(sam, embeddings, batch)
    loss, iou = _mask_loss(logits, predicted, batch.targets)
    best = predicted[:, 1:].argmax(dim=1, keepdim=True) + 1
    of_boxes, of_points = iou.gather(1, best)[:, 0].chunk(2)
    if refine:
        given = logits.detach().gather(1, best[..., None, None].expand(-1, -1, *logits.shape[2:]))
        corrected, predicted = decode(sam, embeddings, batch, _correct(given, batch.targets))
        loss = loss + _mask_loss(corrected, predicted, batch.targets)[0]
    return loss, {"box_iou": float(of_boxes.mean()), "point_iou": float(of_points.mean())}


def decode(sam: Any, embeddings: Tensor, batch: Batch, correction: Correction | None = None) -> tuple[Tensor, Tensor]:
    """The four masks of each prompt ``(P, 4, h, w)``, and their predicted IoU ``(P, 4)``."""
    count = len(batch.boxes)
    click = batch.points, torch.ones_like(batch.points[..., 0])
    prompts: list[dict[str, Any]] = [
        {"points": None, "boxes": batch.boxes, "masks": None},
        {"points": click, "boxes": None, "masks": None},
    ]
    if correction is not None:
        points, labels, masks = correction.points, correction.labels, correction.masks
        clicks = torch.cat([click[0], points[count:]], dim=1), torch.cat([click[1], labels[count:]], dim=1)
        prompts = [
            {"points": (points[:count], labels[:count]), "boxes": batch.boxes, "masks": masks[:count]},
            {"points": clicks, "boxes": None, "masks": masks[count:]},
        ]
    sparse, dense = (torch.cat(parts) for parts in zip(*(sam.prompt_encoder(**each) for each in prompts), strict=True))
    # The decoder adds the embedding of one picture to all dense prompts. Here each dense prompt holds the embedding of
    # its own picture already and the decoder adds zero, so that one call decodes the prompts of many pictures.
    return sam.mask_decoder.predict_masks(
        torch.zeros_like(embeddings[:1]),
        sam.prompt_encoder.get_dense_pe(),
        sparse,
        dense + embeddings[batch.of_picture],
    )


def _mask_loss(logits: Tensor, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of the four masks of each prompt, at the decoder's resolution, and their IoU, ``(P, 4)``."""
    wanted = interpolate(targets[:, None], logits.shape[2:], mode="area").expand_as(logits)
    focal = sigmoid_focal_loss(logits, wanted, alpha=-1).mean(dim=(2, 3))
    chance = logits.sigmoid()
    both, sizes = (chance * wanted).sum(dim=(2, 3)), (chance + wanted).sum(dim=(2, 3))
    each = _FOCAL * focal + _DICE * (1 - (2 * both + 1) / (sizes + 1))
    iou = mask_iou(logits.detach() > 0, wanted > 0.5)
    return each[:, 1:].amin(dim=1).mean() + each[:, 0].mean() + mse_loss(predicted, iou), iou


def mask_iou(masks: Tensor, targets: Tensor) -> Tensor:
    return (masks & targets).sum(dim=(-2, -1)) / (masks | targets).sum(dim=(-2, -1)).clamp(min=1)


def _correct(given: Tensor, targets: Tensor) -> Correction:
    """Choose a random pixel where a mask is wrong (any pixel if none is), and give it the right label."""
    masks = interpolate(given, targets.shape[1:], mode="bilinear", align_corners=False)[:, 0] > 0
    wrong = (masks != (targets > 0.5)).flatten(1).float() + 1e-6
    at = torch.multinomial(wrong, 1)
    width = targets.shape[2]
    return Correction(given, torch.stack([at % width, at // width], dim=2).float(), targets.flatten(1).gather(1, at))


def training_batches(recipe: Recipe, size: int) -> Iterator[Batch]:
    """Batches of scenes; no scene comes twice."""
    rng = np.random.default_rng(recipe.seed)
    for start in range(0, recipe.iterations * recipe.batch_size, recipe.batch_size):
        yield prompted([mask_scene(recipe.seed, start + i, size) for i in range(recipe.batch_size)], rng)


def train(
    sam: Any, recipe: Recipe, batches: Iterator[Batch], keep: Callable[[dict[str, float]], None] | None = None
) -> list[dict[str, float]]:
    """Train a SAM in place.

    Args:
        sam: SAM of :func:`~llie_preproc.segmentation.build_sam`.
        recipe: Settings of the training; its seed is also PyTorch's.
        batches: Batches, one for each iteration.
        keep: Function that is called with each row of the curve.

    Returns:
        The curve: the mean loss and IoU over every 50 iterations, on scenes not yet trained on, and the seconds since
        the start.
    """
    torch.manual_seed(recipe.seed)
    sam.train()
    optimiser = torch.optim.AdamW(sam.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: _factor(at, recipe))
    curve: list[dict[str, float]] = []
    rows: list[dict[str, float]] = []
    start = time.perf_counter()
    for at, batch in enumerate(batches, 1):
        loss, scores = batch_loss(sam, batch.to(sam.device), refine=at % 2 == 0 and 3 * at > recipe.iterations)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), recipe.clip)
        optimiser.step()
        schedule.step()
        rows.append({"loss": loss.item(), **scores})
        if at % 50 == 0 or at == recipe.iterations:
            mean = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
            curve.append({"iteration": at, **mean, "seconds": round(time.perf_counter() - start, 1)})
            rows = []
            if keep is not None:
                keep(curve[-1])
    sam.eval()
    return curve


def _factor(at: int, recipe: Recipe) -> float:
    if at < recipe.warm_up:
        return (at + 1) / recipe.warm_up
    return 0.5 * (1 + math.cos(math.pi * (at - recipe.warm_up) / max(1, recipe.iterations - recipe.warm_up)))


def save_half(sam: Any, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> str:
    """Write the weights as float16, and return the SHA-256 of the file."""
    return save_state_dict({name: value.half() for name, value in sam.state_dict().items()}, path, metadata)
