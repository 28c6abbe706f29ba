"""Training through a frozen Segment Anything Model (SAM), so that SAM sees in the dark what it sees by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn import functional
from torchvision.ops import masks_to_boxes

from llie_preproc.checks import at_least, one_of, rising, within
from llie_preproc.registry import MODELS
from llie_preproc.segmentation.mask_loss import mask_losses

from ..feature_encoders import FrozenSAM
from ..randomness import sample_uniform
from .base import TrainingMethod, stacked

_DISTANCES = {"l1": functional.l1_loss, "l2": functional.mse_loss}


@MODELS.register_module()
class SamConsistency(TrainingMethod):
    """Trains an enhancer through a frozen SAM.

    CollaBA (Section 4.3) shows enhanced pictures to SAM, but does not train an enhancer through it. The terms, each
    in float32, are:

    * ``loss_feature``: the mean distance between SAM's embeddings of the output and of the well-lit reference, over
      the patches that show the picture.
    * ``loss_mask_bce`` and ``loss_mask_dice``: the losses of SAM's masks in the output, prompted by boxes
      (:func:`~llie_preproc.segmentation.mask_loss.mask_losses`); they are averaged over the masks of a picture, then
      over the pictures of the batch. If a sample has ``masks``, these are the expected masks, and each box encloses a
      mask as it is after crops and turns; empty masks are dropped. Any other sample gets ``boxes`` random boxes, and
      the expected masks are SAM's own answers in the reference. They are probabilities, so that pixels of which SAM is
      unsure by day count less.
    * ``losses`` between output and reference, as in the base class. They keep the colours right, to which SAM is
      nearly blind.

    Each picture goes through SAM's encoder once, the reference without gradient. The output is not clamped. The
    enhancer may have any scale; the references must be as large as its output.

    Samples need ``target`` unless only annotated masks are used (``feature_weight=0`` and no ``losses``). They may have
    ``masks`` ``(n, H, W)``, in the frame of the input or of the output (:class:`~training.datasets.MaskedPairs`).

    >>> sizes = dict(img_size=64, patch_size=8, embed_dim=16, depth=1, num_heads=2, window_size=4, out_chans=16)
    >>> sam = dict(model="small", checkpoint=None, global_attn_indexes=(0,), decoder_heads=2, **sizes)
    >>> method = SamConsistency(dict(type="IAMLUNet", width=4, depth=1), sam)
    >>> sample = BaseDataElement(target=torch.zeros(3, 32, 32, dtype=torch.uint8))
    >>> list(method.loss(torch.rand(1, 3, 32, 32), [sample]))
    ['loss_feature', 'loss_mask_bce', 'loss_mask_dice']

    Args:
        enhancer: Config of a registered enhancer, or its name.
        sam: Arguments of :func:`llie_preproc.segmentation.build_sam`: ``model``, ``checkpoint`` and sizes.
            ``checkpoint`` must be given; None, random weights, is for tests: such a SAM teaches nothing.
        feature_weight: Weight of ``loss_feature``; 0 leaves the term out.
        feature_distance: ``'l1'`` (absolute difference) or ``'l2'`` (squared difference).
        mask_bce_weight: Weight of ``loss_mask_bce``; 0 leaves the term out.
        mask_dice_weight: Weight of ``loss_mask_dice``; 0 leaves the term out.
        boxes: Number of random boxes for a picture without ``masks``.
        box_share: Range from which the sides of random boxes are drawn, as shares of the picture's sides.
        box_jitter: Largest shift of each side of a box round a mask, as a share of the box, in [0, 0.5).
        max_masks: Largest number of masks of a picture that are used; of more, as many are drawn.
        losses: Configs of losses, as in :class:`~training.methods.base.TrainingMethod`.
        **options: ``ema`` and ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: ``sam`` has no ``checkpoint``, ``feature_distance`` is unknown, a weight, share, jitter or number is
            out of its range, or the weights of all of SAM's terms are 0.
        TypeError, FileNotFoundError, CheckpointError, MissingExtraError: :func:`build_sam` raises them.
    """

    def __init__(
        self,
        enhancer: dict | str,
        sam: Mapping[str, Any],
        feature_weight: float = 1.0,
        feature_distance: str = "l2",
        mask_bce_weight: float = 1.0,
        mask_dice_weight: float = 1.0,
        boxes: int = 4,
        box_share: tuple[float, float] = (0.2, 0.6),
        box_jitter: float = 0.0,
        max_masks: int = 16,
        losses: Mapping[str, dict | None] | None = None,
        **options: Any,
    ) -> None:
        if "checkpoint" not in sam:
            raise ValueError(f"sam must have a 'checkpoint', that of a trained model, got {dict(sam)}")
        one_of("feature_distance", feature_distance, _DISTANCES)
        mask_weights = {"bce": mask_bce_weight, "dice": mask_dice_weight}
        _check_weights({"feature_weight": feature_weight, **{f"mask_{k}_weight": w for k, w in mask_weights.items()}})
        _check_boxes(boxes, box_share, box_jitter, max_masks)
        super().__init__(enhancer, losses, **options)
        self.sam = FrozenSAM(**sam)
        self.feature_weight, self.feature_distance = feature_weight, feature_distance
        self.mask_weights = {name: weight for name, weight in mask_weights.items() if weight}
        self.boxes, self.box_share, self.box_jitter, self.max_masks = boxes, box_share, box_jitter, max_masks

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted terms.

        Raises:
            ValueError: The samples lack what a term needs, or references or masks have the wrong size.
        """
        teaches = self._asks_at_random(data_samples) or bool(self.feature_weight)
        target = self._target(data_samples) if teaches or self.losses else None
        output = self.enhancer(image)
        losses = {} if target is None else self.paired_losses(output, target)
        found = self.sam.embed(output)
        wanted = None
        if teaches and target is not None:
            with torch.no_grad():
                wanted = self.sam.embed(target)
        size = output.shape[-2:]
        if self.feature_weight and wanted is not None:
            distance = _DISTANCES[self.feature_distance](self.sam.shown(found, size), self.sam.shown(wanted, size))
            losses["loss_feature"] = self.feature_weight * distance
        if self.mask_weights:
            questions = self._questions(data_samples, wanted, [image.shape[-2:], size])
            losses |= self._mask_terms(found, questions)
        return losses

    def _target(self, samples: Sequence[BaseDataElement]) -> Tensor:
        if any("target" not in sample for sample in samples):
            raise ValueError(
                "samples without 'target', the well-lit picture, can train by their masks alone: give all of them "
                "'masks', and set feature_weight=0 and losses=None"
            )
        return stacked(samples, "target")

    def _asks_at_random(self, samples: Sequence[BaseDataElement]) -> bool:
        """Whether a sample has no masks of its own, so that SAM's masks in the reference are needed."""
        if not self.mask_weights or all("masks" in sample for sample in samples):
            return False
        if not self.boxes:
            raise ValueError(
                "samples without 'masks' need random boxes: set boxes above 0, or mask_bce_weight=0 and "
                "mask_dice_weight=0"
            )
        return True

    def _questions(
        self, samples: Sequence[BaseDataElement], wanted: Tensor | None, sizes: Sequence[Sequence[int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes ``(n, 4)`` and the masks ``(n, H, W)`` that are expected for them, for each sample.

        Args:
            samples: Samples of a batch.
            wanted: SAM's embeddings of the references.
            sizes: ``(H, W)`` of the input and of the output.
        """
        # Each sample takes one number from the shared generator, however many boxes it has, so that the processes stay
        # in step.
        seeds = (2**24 * sample_uniform(len(samples))).long().flatten().tolist()
        questions = []
        for i, (sample, seed) in enumerate(zip(samples, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            if "masks" in sample:
                _check_masks(sample.masks, sizes)
                masks = some_masks(sample.masks, self.max_masks, generator)
                boxes = moved(tight_boxes(masks), self.box_jitter, generator)
            elif wanted is not None:
                boxes = random_boxes(self.boxes, sizes[1], self.box_share, generator).to(wanted.device)
                with torch.no_grad():
                    masks = self.sam.masks(wanted[i : i + 1], sizes[1], boxes).sigmoid()
            questions.append((boxes, masks))
        return questions

    def _mask_terms(self, found: Tensor, questions: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The losses of the masks in the output, whose embeddings are ``found``."""
        # The terms start from a zero that has a gradient, because a batch may hold no mask.
        terms = dict.fromkeys(self.mask_weights, found[:0].sum())
        for embedding, (boxes, masks) in zip(found.split(1), questions, strict=True):
            if len(boxes):
                values = mask_losses(self.sam.masks(embedding, masks.shape[-2:], boxes), masks)
                terms = {name: total + values[name] for name, total in terms.items()}
        return {f"loss_mask_{name}": self.mask_weights[name] * total / len(found) for name, total in terms.items()}


def some_masks(masks: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most ``most`` of the masks ``(n, H, W)``, drawn at random, as bool; empty masks are left out."""
    inside = masks > 0
    shown = inside[inside.flatten(1).any(1)]
    if len(shown) <= most:
        return shown
    return shown[torch.randperm(len(shown), generator=generator)[:most].to(shown.device)]


def tight_boxes(masks: Tensor) -> Tensor:
    """Boxes ``(n, 4)`` x1 y1 x2 y2 round masks ``(n, H, W)``, to the outer edges of their pixels; no mask is empty."""
    boxes = masks_to_boxes(masks)
    return boxes + boxes.new_tensor([0, 0, 1, 1])


def moved(boxes: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Boxes ``(n, 4)``, each side moved at random by up to ``jitter`` times the box's extent across that side."""
    draws = 2 * torch.rand(len(boxes), 4, generator=generator).to(boxes) - 1
    return boxes + jitter * draws * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def random_boxes(number: int, size: Sequence[int], share: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Random boxes ``(number, 4)`` x1 y1 x2 y2 within a picture; sides and places are uniform.

    Args:
        number: Number of boxes.
        size: ``(H, W)`` of the picture in pixels.
        share: Range of the boxes' sides, as shares of the picture's sides.
        generator: Generator on the CPU.
    """
    draws = torch.rand(number, 4, generator=generator)
    sides = share[0] + (share[1] - share[0]) * draws[:, :2]
    corners = draws[:, 2:] * (1 - sides)
    return torch.cat([corners, corners + sides], dim=1) * torch.tensor([size[1], size[0]] * 2)


def _check_masks(masks: Tensor, sizes: Sequence[Sequence[int]]) -> None:
    if masks.ndim != 3 or tuple(masks.shape[-2:]) not in {tuple(size) for size in sizes}:
        frames = " or ".join(str(("n", *size)) for size in dict.fromkeys(map(tuple, sizes)))
        raise ValueError(f"masks must have the shape {frames}, as the input or the output, got {tuple(masks.shape)}")


def _check_weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        within(name, weight, 0)
    if not any(weights.values()):
        raise ValueError(f"{', '.join(weights)} are all 0, so SAM has no part in the training: use SupervisedTraining")


def _check_boxes(boxes: int, share: tuple[float, float], jitter: float, most: int) -> None:
    at_least("boxes", boxes, 0)
    at_least("max_masks", most, 1)
    rising("box_share", share, above=0, most=1)
    within("box_jitter", jitter, 0, below=0.5)
