"""The perceptual loss: the distance between features of a pretrained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llie_preproc.checks import each, one_of, within
from llie_preproc.registry import MODELS

from ..feature_encoders import FeatureEncoder, build_encoder

_DISTANCES = {"l1": functional.l1_loss, "l2": functional.mse_loss}


@MODELS.register_module()
class PerceptualLoss(nn.Module):
    """Distance between the features of the output and those of the reference, over some stages of an encoder.

    Semi-LLIE (Eq. 5) takes the mean of ``'l2'`` over the stages s2, s3 and s4 of RAM. CollaBA (Eq. 9) takes the sum
    over the stages conv1_2, conv2_2, conv3_4, conv4_4 and conv5_4 of VGG-19 with the weights 0.1, 0.1, 1, 1 and 1; its
    paper squares the distance (``'l2'``), its published code does not (``'l1'``). The distance of a stage is the mean
    over all its values. Eq. 5, as printed, does not divide by the number of channels.

    Only the output gets a gradient, through the encoder.

    >>> import torch
    >>> loss = PerceptualLoss(dict(type="llie_preproc.VGGEncoder", checkpoint=None, width=4), stages=["conv1_2"])
    >>> image = torch.rand(1, 3, 16, 16)
    >>> loss(image, image).item()
    0.0

    Args:
        encoder: Feature encoder or its config; equal configs share one encoder
            (:func:`~training.feature_encoders.build_encoder`).
        stages: Names of the encoder's feature maps.
        stage_weights: Weights of the stages in the sum. None takes the mean over the stages.
        distance: ``'l1'`` (absolute difference) or ``'l2'`` (squared difference).

    Raises:
        ValueError: A stage or the distance is unknown, there are not as many weights as stages, a weight is below 0,
            or all weights are 0.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any] | FeatureEncoder,
        stages: Sequence[str],
        stage_weights: Sequence[float] | None = None,
        distance: str = "l1",
    ) -> None:
        super().__init__()
        one_of("distance", distance, _DISTANCES)
        self.encoder = build_encoder(encoder)
        self.encoder.check_stages(stages)
        given = [1 / len(stages)] * len(stages) if stage_weights is None else stage_weights
        each("stage_weights", given, within, 0)
        weights = [float(weight) for weight in given]
        within("the sum of stage_weights", sum(weights), above=0)
        if len(weights) != len(stages):
            raise ValueError(f"stage_weights must have one entry a stage, got {len(weights)} for {len(stages)} stages")
        self.stages, self.stage_weights, self.distance = tuple(stages), tuple(weights), distance

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of an output against a reference, both ``(N, 3, H, W)`` RGB in [0, 1].

        The output is not clamped.

        Returns:
            A scalar.

        Raises:
            ValueError: The shapes differ, or the encoder refuses them.
        """
        if output.shape != target.shape:
            shapes = f"{tuple(output.shape)} and {tuple(target.shape)}"
            raise ValueError(f"output and target must have the same shape, got {shapes}")
        with torch.no_grad():
            expected = self.encoder(target, self.stages)
        features = self.encoder(output, self.stages)
        distance = _DISTANCES[self.distance]
        terms = [distance(f.float(), e.float()) for f, e in zip(features, expected, strict=True)]
        return torch.stack([w * term for w, term in zip(self.stage_weights, terms, strict=True)]).sum()
