"""Training through a frozen Segment Anything Model, so that it sees in the dark what it sees by day."""

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
    """Trains an enhancer through a frozen SAM (CollaBA, Section 4.3, shows SAM enhanced pictures, and trains none so).

    The terms, each in float32:

    * ``loss_feature``: the mean distance between SAM's embedding of the output and that of the well-lit reference, over
      the patches that show the picture.
    * ``loss_mask_bce`` and ``loss_mask_dice``: of SAM's masks in the output, prompted by boxes
      (:func:`~llie_preproc.segmentation.mask_loss.mask_losses`), meaned over the masks of a picture, then over the
      pictures of the batch. Where samples have ``masks`` these are wanted, and the boxes are drawn round them as they
      are after crops and turns; masks of nothing are dropped. Other samples get ``boxes`` random boxes, and wanted is
      what SAM itself answers in the reference: the probabilities, so that what it is unsure of by day counts less.
    * ``losses``, between output and reference, as in the base class: they keep colours what they should be, to which
      SAM is nearly blind.

    Each picture goes through SAM's encoder once; the reference without gradient. The output is not clamped. Enhancers
    of any scale will do, with references as large as their output.

    Samples have ``target`` unless only annotated masks are used (``feature_weight=0``, no ``losses``), and may have
    ``masks`` ``(n, H, W)``, in the frame of the input or of the output (:class:`~training.datasets.MaskedPairs`).

    Args:
        enhancer: Config of a registered enhancer, or its name.
        sam: What :func:`llie_preproc.segmentation.build_sam` takes: ``model``, ``checkpoint``, which must be named, and
            sizes. ``checkpoint=None``, random weights, is for tests: such a SAM teaches nothing.
        feature_weight: Of ``loss_feature``; 0 leaves it out.
        feature_distance: ``'l1'`` (absolute difference) or ``'l2'`` (squared difference).
        mask_bce_weight: Of ``loss_mask_bce``; 0 leaves it out.
        mask_dice_weight: Of ``loss_mask_dice``; 0 leaves it out.
        boxes: Number of random boxes for a picture without ``masks``.
        box_share: Their sides are drawn from this range, as shares of the picture's.
        box_jitter: Each side of a box round a mask is moved by up to this share of the box, in [0, 0.5).
        max_masks: Of more masks in a picture so many are drawn.
        losses: As for :class:`~training.methods.base.TrainingMethod`.
        **options: ``ema`` and ``data_preprocessor``, likewise.

    Raises:
        ValueError: ``sam`` names no checkpoint, an unknown distance, a weight, share, jitter or number out of its
            range, or the weights of all SAM's terms are 0.
        TypeError, FileNotFoundError, CheckpointError, MissingExtraError: As :func:`build_sam`.
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
            raise ValueError(f"sam must name the checkpoint of a trained model, got {dict(sam)}")
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
            ValueError: The samples lack what a term needs, or references or masks are of another size.
        """
        teaches = self._asks_at_random(data_samples) or bool(self.feature_weight)
        target = self._target(data_samples) if teaches or self.losses else None
        output = self.enhancer(image)
        losses = {} if target is None else self._paired(output, target)
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
                "samples without 'target', the well-lit picture, train by their masks alone: give them masks, and set "
                "feature_weight=0 and losses=None"
            )
        return stacked(samples, "target")

    def _paired(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        if output.shape != target.shape:
            shapes = f"{tuple(output.shape)} and {tuple(target.shape)}"
            raise ValueError(f"output and target must have one shape, got {shapes}")
        return self.paired_losses(output, target)

    def _asks_at_random(self, samples: Sequence[BaseDataElement]) -> bool:
        """Whether a sample has no masks of its own, so that SAM's in the reference are wanted."""
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
        """Boxes ``(n, 4)`` and the masks ``(n, H, W)`` that are wanted for them, for each sample.

        Args:
            samples: Of a batch.
            wanted: SAM's embeddings of the references.
            sizes: ``(H, W)`` of the input and of the output.
        """
        # One number a sample from the shared generator, however many boxes it has: so processes need not count alike.
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
        """The losses of the masks in the output, of embeddings ``found``."""
        # Nothing, with a gradient: a batch may be without a mask.
        terms = dict.fromkeys(self.mask_weights, found[:0].sum())
        for embedding, (boxes, masks) in zip(found.split(1), questions, strict=True):
            if len(boxes):
                values = mask_losses(self.sam.masks(embedding, masks.shape[-2:], boxes), masks)
                terms = {name: total + values[name] for name, total in terms.items()}
        return {f"loss_mask_{name}": self.mask_weights[name] * total / len(found) for name, total in terms.items()}


def some_masks(masks: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most ``most`` of masks ``(n, H, W)``, drawn, as bool; those of nothing are left out."""
    inside = masks > 0
    shown = inside[inside.flatten(1).any(1)]
    if len(shown) <= most:
        return shown
    return shown[torch.randperm(len(shown), generator=generator)[:most].to(shown.device)]


def tight_boxes(masks: Tensor) -> Tensor:
    """``(n, 4)`` x1 y1 x2 y2 round masks ``(n, H, W)`` of at least one pixel each, to the outer edges of pixels."""
    boxes = masks_to_boxes(masks)
    return boxes + boxes.new_tensor([0, 0, 1, 1])


def moved(boxes: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Boxes ``(n, 4)``, each side moved by up to ``jitter`` times the box's extent across it."""
    draws = 2 * torch.rand(len(boxes), 4, generator=generator).to(boxes) - 1
    return boxes + jitter * draws * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def random_boxes(number: int, size: Sequence[int], share: tuple[float, float], generator: torch.Generator) -> Tensor:
    """``(number, 4)`` x1 y1 x2 y2 within a picture of ``size`` ``(H, W)``, sides and places uniform.

    Args:
        number: Of boxes.
        size: In pixels.
        share: Range of the sides, as shares of the picture's.
        generator: On the CPU.
    """
    draws = torch.rand(number, 4, generator=generator)
    sides = share[0] + (share[1] - share[0]) * draws[:, :2]
    corners = draws[:, 2:] * (1 - sides)
    return torch.cat([corners, corners + sides], dim=1) * torch.tensor([size[1], size[0]] * 2)


def _check_masks(masks: Tensor, sizes: Sequence[Sequence[int]]) -> None:
    if masks.ndim != 3 or tuple(masks.shape[-2:]) not in {tuple(size) for size in sizes}:
        frames = " or ".join(str(("n", *size)) for size in dict.fromkeys(map(tuple, sizes)))
        raise ValueError(f"masks must be {frames}, as the input or the output, got {tuple(masks.shape)}")


def _check_weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        at_least(name, weight, 0.0)
    if not any(weights.values()):
        raise ValueError(f"{', '.join(weights)} are 0: SAM has no part in this, use SupervisedTraining")


def _check_boxes(boxes: int, share: tuple[float, float], jitter: float, most: int) -> None:
    at_least("boxes", boxes, 0)
    at_least("max_masks", most, 1)
    rising("box_share", share, above=0, most=1)
    within("box_jitter", jitter, 0, below=0.5)
