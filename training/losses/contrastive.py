"""Semi-LLIE's semantic-aware contrastive loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llie_preproc.checks import within
from llie_preproc.registry import MODELS

from ..feature_encoders import FeatureEncoder, build_encoder


@MODELS.register_module()
class ContrastiveLoss(nn.Module):
    """Draws the student's output to the teacher's and away from the dark input, in the space of an encoder's vectors.

    ``weight * d(anchor, positive) / (d(anchor, negative) + eps)`` with d the mean absolute difference of the vectors of
    one picture; then the mean over the batch. Semi-LLIE's Eq. 4 prints d(student, input) / d(teacher, input), which is
    least where the student returns the dark input; this is the ratio of the published code and of the paper's text.
    That code also adds the ratio of RAM's tag logits and takes all of it without gradient; here the gradient reaches
    the anchor, through the encoder.

    Args:
        encoder: A feature encoder or its config; equal configs share one
            (:func:`~training.feature_encoders.build_encoder`). Semi-LLIE: RAM; Table IV: VGG, CLIP, SAM.
        weight: omega of Eq. 4.
        eps: Added to the denominator.

    Raises:
        ValueError: ``weight`` or ``eps`` is not above 0.
    """

    def __init__(self, encoder: Mapping[str, Any] | FeatureEncoder, weight: float = 1.0, eps: float = 1e-7) -> None:
        super().__init__()
        within("weight", weight, above=0)
        within("eps", eps, above=0)
        self.encoder = build_encoder(encoder)
        self.weight, self.eps = float(weight), float(eps)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss of N pictures ``(N, 3, H, W)``, RGB in [0, 1]; H and W may differ between the three.

        Args:
            anchor: The student's output on the strongly augmented input; the only one that gets a gradient.
            positive: The teacher's output on the weakly augmented input.
            negative: That input, dark.

        Raises:
            ValueError: They differ in number, or the encoder refuses them.
        """
        if not len(anchor) == len(positive) == len(negative):
            counts = f"{len(anchor)}, {len(positive)} and {len(negative)}"
            raise ValueError(f"anchor, positive and negative must be as many pictures, got {counts}")
        with torch.no_grad():
            near, far = self.encoder.embed(positive).float(), self.encoder.embed(negative).float()
        student = self.encoder.embed(anchor).float()
        pulled, pushed = (student - near).abs().mean(dim=1), (student - far).abs().mean(dim=1)
        return self.weight * (pulled / (pushed + self.eps)).mean()
