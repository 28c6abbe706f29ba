"""Progressive self-enhancement, PSENet's unsupervised training with pseudo ground truth (Sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn import functional as F

from llie_preproc.checks import at_least, odd, rising, within
from llie_preproc.ops import inverse_gamma
from llie_preproc.registry import MODELS

from ..losses import log_total_variation
from ..randomness import sample_uniform
from .base import TrainingMethod

_EPS = 1 / 255
# Beyond this log gamma every picture is black or white.
_MOST_LOG_GAMMA = 10.0


def reference_images(
    image: Tensor, number: int, brighter: tuple[float, float], darker: tuple[float, float]
) -> list[Tensor]:
    """``number`` brighter and ``number`` darker versions of each image (Eq. 1).

    Each of the two ranges is cut into ``number`` equal parts. Each image and part gets one draw of log gamma, uniform
    on that part. Gamma above 1 brightens, so the references of ``brighter`` correct under-exposure. The paper draws
    them from U(0, 3), and calls them the under-exposed references.

    >>> references = reference_images(torch.full((1, 3, 4, 4), 0.2), 2, brighter=(0, 3), darker=(-2, 0))
    >>> len(references), references[0].shape
    (4, torch.Size([1, 3, 4, 4]))

    Args:
        image: ``(N, 3, H, W)`` in [0, 1].
        number: Number of brighter references, and of darker ones.
        brighter: Range of log gamma of the brighter references.
        darker: Range of log gamma of the darker references.

    Returns:
        ``2 * number`` tensors of the shape of ``image``, the brighter ones first.
    """
    references = []
    for low, high in (brighter, darker):
        step = (high - low) / number
        for part in range(number):
            draw = sample_uniform(len(image)).to(image)[..., None, None]
            references.append(inverse_gamma(image, (low + step * (part + draw)).exp()))
    return references


def quality_score(image: Tensor, well_exposed: float = 0.5, patch: int = 25) -> Tensor:
    """The quality of each pixel: contrast times saturation over the distance from ``well_exposed`` (Eq. 2 to 5).

    >>> quality_score(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 1, 32, 32])

    Args:
        image: ``(N, 3, H, W)`` in [0, 1], H and W above ``patch // 2``.
        well_exposed: Level of a well exposed pixel.
        patch: Side of the local window, odd.

    Returns:
        ``(N, 1, H, W)``; higher is better.

    Raises:
        ValueError: H or W is at most ``patch // 2``.
    """
    if min(image.shape[-2:]) <= patch // 2:
        raise ValueError(f"patch {patch} needs a height and width above {patch // 2}, got {tuple(image.shape[-2:])}")
    # The means over the channels and over the window commute, so one channel is filtered in place of three.
    mean = _box(image.mean(dim=1, keepdim=True), patch)
    exposedness = (mean - well_exposed).abs() + _EPS
    largest = image.amax(dim=1, keepdim=True)
    saturation = (largest - image.amin(dim=1, keepdim=True) + _EPS) / (largest + _EPS)
    contrast = _box(image.square().mean(dim=1, keepdim=True), patch) - mean.square()
    return contrast * saturation / exposedness


def pseudo_ground_truth(candidates: list[Tensor], well_exposed: float = 0.5, patch: int = 25) -> Tensor:
    """The picture that takes each pixel from the candidate with the highest :func:`quality_score` there (Eq. 5).

    Candidates are not blended. Where scores are equal, the first candidate wins.

    >>> image = torch.rand(1, 3, 32, 32)
    >>> torch.equal(pseudo_ground_truth([image, torch.zeros_like(image)]), image)
    True

    Args:
        candidates: Tensors of the same shape ``(N, 3, H, W)`` in [0, 1].
        well_exposed: Level of a well exposed pixel.
        patch: Side of the local window of the score, odd.
    """
    best, best_score = candidates[0], quality_score(candidates[0], well_exposed, patch)
    for candidate in candidates[1:]:
        score = quality_score(candidate, well_exposed, patch)
        better = score > best_score
        best = torch.where(better, candidate, best)
        best_score = torch.where(better, score, best_score)
    return best


def check_references(
    num_references: int,
    brighter: tuple[float, float],
    darker: tuple[float, float],
    well_exposed: float,
    patch: int,
) -> None:
    """Raise ``ValueError`` for arguments with which references cannot be made or scored."""
    at_least("num_references", num_references, 1)
    for name, interval in (("brighter", brighter), ("darker", darker)):
        rising(name, interval, -_MOST_LOG_GAMMA, _MOST_LOG_GAMMA)
    within("well_exposed", well_exposed, 0, 1)
    odd("patch", patch)


@MODELS.register_module()
class ProgressiveSelfEnhancement(TrainingMethod):
    """Trains an enhancer towards the best regions of its input, of references made from it, and of its own output.

    The pseudo ground truth of a batch is made when the batch arrives and is used at the next iteration, as in the
    public code. Its output candidate thus comes from the weights one step before. This needs no store of outputs and
    does not depend on the order of the images.

    >>> method = ProgressiveSelfEnhancement("PSENet")
    >>> list(method.loss(torch.rand(1, 3, 32, 32)))
    ['loss_rec', 'loss_tv']

    Args:
        enhancer: Config of a registered enhancer of scale 1, or its name. With ``tv_weight`` it needs the methods
            ``gamma_map`` and ``apply_gamma``.
        num_references: Number of brighter references of an image, and of darker ones (N of Table 5).
        tv_weight: Weight of the total variation, alpha of Eq. 7: 5 for SICE, 500 for the exposure-errors set. 0 leaves
            the term out.
        brighter: Range of log gamma of the brighter references.
        darker: Range of log gamma of the darker references.
        well_exposed: Level of a well exposed pixel, mu of Eq. 2 (Table 7).
        patch: Side of the local window, K of Eq. 2 and 3.
        **options: ``ema`` and ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: The enhancer changes the size, ``tv_weight`` is positive and the enhancer has no gamma map,
            ``tv_weight`` is below 0, ``num_references`` is below 1, ``well_exposed`` is outside [0, 1], ``patch`` is
            not odd, or a range does not rise or leaves [-10, 10].
    """

    def __init__(
        self,
        enhancer: dict | str,
        num_references: int = 1,
        tv_weight: float = 5.0,
        brighter: tuple[float, float] = (0.0, 3.0),
        darker: tuple[float, float] = (-2.0, 0.0),
        well_exposed: float = 0.5,
        patch: int = 25,
        **options: Any,
    ) -> None:
        within("tv_weight", tv_weight, 0)
        check_references(num_references, brighter, darker, well_exposed, patch)
        super().__init__(enhancer, **options)
        if self.enhancer.scale != 1:
            raise ValueError(
                f"ProgressiveSelfEnhancement needs an enhancer of scale 1, got {type(self.enhancer).__name__} of scale "
                f"{self.enhancer.scale}"
            )
        if tv_weight and not hasattr(self.enhancer, "gamma_map"):
            raise ValueError(f"{type(self.enhancer).__name__} has no gamma_map: set tv_weight=0")
        self.num_references, self.tv_weight = num_references, tv_weight
        self.brighter, self.darker = brighter, darker
        self.well_exposed, self.patch = well_exposed, patch
        self._pending: tuple[Tensor, Tensor] | None = None

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement] = ()) -> dict[str, Tensor]:
        """Reconstruction and total variation (Eq. 7) of the previous batch; at the first call, of this batch.

        This batch and its pseudo ground truth are kept for the next call.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        arrived = (image, self._pseudo_ground_truth(image))
        image, target = self._pending or arrived
        self._pending = arrived
        if not self.tv_weight:
            return {"loss_rec": F.mse_loss(self.enhancer(image), target)}
        gamma = self.enhancer.gamma_map(image)
        output = self.enhancer.apply_gamma(image, gamma)
        return {"loss_rec": F.mse_loss(output, target), "loss_tv": self.tv_weight * log_total_variation(gamma)}

    def training_state(self) -> dict[str, Any]:
        """The batch that waits for its step. The batches of other processes are not saved."""
        return {"pending": self._pending}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Continue with the batch that waited.

        If there are several processes, each had its own batch, but only one batch was saved. They start without one.
        """
        self._pending = state["pending"] if get_world_size() == 1 else None

    @torch.no_grad()
    def _pseudo_ground_truth(self, image: Tensor) -> Tensor:
        references = reference_images(image, self.num_references, self.brighter, self.darker)
        candidates = [image, self.enhancer(image), *references]
        return pseudo_ground_truth(candidates, self.well_exposed, self.patch)


def _box(image: Tensor, patch: int) -> Tensor:
    """Mean over a ``patch x patch`` window with reflected borders, in two passes: 2 * patch additions for a pixel."""
    margin = patch // 2
    padded = F.pad(image, (margin, margin, margin, margin), mode="reflect")
    return F.avg_pool2d(F.avg_pool2d(padded, (1, patch), 1), (patch, 1), 1)
