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
    """Pulls the student's output to the teacher's and away from the dark input, in the space of an encoder's vectors.

    The loss of one picture is ``weight * d(anchor, positive) / (d(anchor, negative) + eps)``, where d is the mean
    absolute difference of two vectors. The loss of a batch is the mean over its pictures. Semi-LLIE's Eq. 4 prints
    d(student, input) / d(teacher, input), which is smallest when the student returns the dark input. This class
    follows the published code and the paper's text instead. That code also adds the ratio of RAM's tag logits and
    computes the whole loss without gradient. Here the gradient reaches the anchor, through the encoder.

    >>> import torch
    >>> loss = ContrastiveLoss(dict(type="llie_preproc.VGGEncoder", checkpoint=None, width=4))
    >>> dark, bright = torch.full((1, 3, 16, 16), 0.1), torch.full((1, 3, 16, 16), 0.6)
    >>> loss(anchor=bright, positive=bright, negative=dark).item()
    0.0

    Args:
        encoder: Feature encoder or its config; equal configs share one encoder
            (:func:`~training.feature_encoders.build_encoder`). Semi-LLIE uses RAM, and compares VGG, CLIP and SAM in
            its Table IV.
        weight: Factor of the loss, omega of Eq. 4.
        eps: Number that is added to the denominator.

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
        """The loss of N pictures ``(N, 3, H, W)``, RGB in [0, 1]; H and W may differ between the arguments.

        Args:
            anchor: Student's output on the strongly augmented input. Only this argument gets a gradient.
            positive: Teacher's output on the weakly augmented input.
            negative: The weakly augmented, dark input itself.

        Returns:
            A scalar.

        Raises:
            ValueError: The arguments hold different numbers of pictures, or the encoder refuses them.
        """
        if not len(anchor) == len(positive) == len(negative):
            counts = f"{len(anchor)}, {len(positive)} and {len(negative)}"
            raise ValueError(f"anchor, positive and negative must hold equally many pictures, got {counts}")
        with torch.no_grad():
            near, far = self.encoder.embed(positive).float(), self.encoder.embed(negative).float()
        student = self.encoder.embed(anchor).float()
        pulled, pushed = (student - near).abs().mean(dim=1), (student - far).abs().mean(dim=1)
        return self.weight * (pulled / (pushed + self.eps)).mean()
