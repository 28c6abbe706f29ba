"""Training through frozen detectors, so that they see in the dark what they see in good light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn import functional

from llie_preproc.checks import within
from llie_preproc.registry import MODELS

from ..feature_encoders import FrozenDetector
from ..randomness import batch_uniform
from .base import TrainingMethod, stacked


@MODELS.register_module()
class DetectorConsistency(TrainingMethod):
    """Trains an enhancer through one or several frozen detectors; boxes are not needed.

    The terms, each in float32, are means over pictures and over detectors:

    * ``loss_feature``: the mean, over the chosen levels, of the distance between the detector's features of the output
      and of the well-lit reference, relative to the reference's: ``sum |f - r| / sum |r|``.
    * ``loss_score``: the divergence of the detector's scores in the output from those in the reference, which are
      probabilities: binary cross-entropy less the entropy of the reference, summed over the classes of a position and
      averaged over the positions of a level, then over the levels. It is 0 where the scores agree, and is largest
      where the detector finds something in one of the pictures alone.
    * ``losses`` between output and reference, as in the base class. They keep the pictures like pictures, so that
      other detectors profit too.

    Output and reference are resized alike before a detector sees them, by a factor drawn from its ``scales``. The
    output is not clamped. The enhancer may have any scale; the references must be as large as its output.

    Samples need ``target``, the well-lit picture (:class:`~training.datasets.SynthesisedPairs`).
    :class:`~training.methods.SamConsistency` is the same idea for SAM. If boxes are at hand, ``EnhancedDetector`` with
    ``train_detector=False`` trains by the detector's own losses (the preset ``enhancer-only`` of ``llie finetune``).

    >>> from mmengine.config import Config
    >>> model = dict(
    ...     type="RetinaNet",
    ...     data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    ...     backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
    ...     neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
    ...     bbox_head=dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8),
    ... )
    >>> detector = dict(config=Config(dict(model=model)), checkpoint=None)
    >>> method = DetectorConsistency(dict(type="IAMLUNet", width=4, depth=1), detector)
    >>> sample = BaseDataElement(target=torch.zeros(3, 64, 64, dtype=torch.uint8))
    >>> list(method.loss(torch.rand(1, 3, 64, 64), [sample]))
    ['loss_feature']

    Args:
        enhancer: Config of a registered enhancer, or its name.
        detector: Arguments of :class:`~training.feature_encoders.FrozenDetector`: ``config``, ``checkpoint``,
            ``levels``, ``scales``; or a list of such arguments, one for each detector. ``checkpoint`` must be given;
            None, random weights, is for tests: such a detector teaches nothing.
        feature_weight: Weight of ``loss_feature``; 0 leaves the term out.
        score_weight: Weight of ``loss_score``; 0 leaves the term out. Above 0 it needs detectors with a dense head of
            independent scores (YOLOX, RetinaNet, FCOS, or the RPN of a Faster R-CNN).
        losses: Configs of losses, as in :class:`~training.methods.base.TrainingMethod`.
        **options: ``ema`` and ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: There is no detector, one has no ``checkpoint``, a weight is below 0, or both weights are 0; or
            ``score_weight`` is above 0 and a detector has no such head.
        TypeError, FileNotFoundError, CheckpointError: :class:`~training.feature_encoders.FrozenDetector` raises them.
    """

    def __init__(
        self,
        enhancer: dict | str,
        detector: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        feature_weight: float = 0.3,
        score_weight: float = 0.0,
        losses: Mapping[str, dict | None] | None = None,
        **options: Any,
    ) -> None:
        detectors = [detector] if isinstance(detector, Mapping) else detector
        if not _has_checkpoints(detectors):
            raise ValueError(
                "detector must be the arguments of at least one detector, each with a 'checkpoint', that of a trained "
                f"model, got {detector}"
            )
        within("feature_weight", feature_weight, 0)
        within("score_weight", score_weight, 0)
        if not feature_weight and not score_weight:
            raise ValueError(
                "feature_weight and score_weight are 0, so detectors have no part in the training: use "
                "SupervisedTraining"
            )
        super().__init__(enhancer, losses, **options)
        frozen = [FrozenDetector(**given) for given in detectors]
        self.feature_weight, self.score_weight = feature_weight, score_weight
        if score_weight:
            for each in frozen:
                each.score_head()
        self.detectors = torch.nn.ModuleList(frozen)
        # oneDNN's convolutions are about twice as fast with the channels last.
        self.to(memory_format=torch.channels_last)

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted terms.

        Raises:
            ValueError: The samples lack ``target``, or it has another size than the output.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        target = stacked(data_samples, "target").contiguous(memory_format=torch.channels_last)
        output = self.enhancer(image)
        losses = self.paired_losses(output, target)
        terms = [self._compared(detector, output, target) for detector in self.detectors]
        for name in terms[0]:
            losses[f"loss_{name}"] = torch.stack([each[name] for each in terms]).mean()
        return losses

    def _compared(self, detector: Any, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted terms of one detector."""
        draw = batch_uniform()
        found = detector.features(detector.resized(output, draw))
        with torch.no_grad():
            expected = detector.features(detector.resized(target, draw))
        terms = {}
        if self.feature_weight:
            distances = [relative_distance(found[level], expected[level]) for level in detector.levels]
            terms["feature"] = self.feature_weight * torch.stack(distances).mean()
        if self.score_weight:
            with torch.no_grad():
                wanted = detector.scores(expected)
            terms["score"] = self.score_weight * score_divergence(detector.scores(found), wanted)
        return terms


def _has_checkpoints(detectors: object) -> bool:
    """Whether these are the arguments of at least one detector, all with a checkpoint."""
    return (
        isinstance(detectors, Sequence)
        and bool(detectors)
        and all(isinstance(given, Mapping) and "checkpoint" in given for given in detectors)
    )


def relative_distance(found: Tensor, expected: Tensor) -> Tensor:
    """``sum |found - expected| / sum |expected|`` for each picture of ``(N, C, h, w)``, averaged over pictures.

    >>> relative_distance(torch.full((1, 2, 3, 3), 1.5), torch.ones(1, 2, 3, 3)).item()
    0.5
    """
    found, expected = found.float(), expected.float()
    sums = (found - expected).abs().sum(dim=(1, 2, 3)), expected.abs().sum(dim=(1, 2, 3))
    return (sums[0] / sums[1].clamp_min(torch.finfo(torch.float32).eps)).mean()


def score_divergence(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Tensor:
    """The divergence of independent scores, given as logits ``(N, C, h, w)``, from those expected.

    It is summed over the channels of a position, and averaged over positions and pictures, then over the maps.

    >>> score_divergence([torch.zeros(1, 2, 1, 1)], [torch.zeros(1, 2, 1, 1)]).item()
    0.0
    """
    divergences = []
    for logits, wanted in zip(found, expected, strict=True):
        own, probability = logits.float(), wanted.float().sigmoid()
        entropy = functional.binary_cross_entropy_with_logits(wanted.float(), probability, reduction="none")
        cross = functional.binary_cross_entropy_with_logits(own, probability, reduction="none")
        divergences.append((cross - entropy).sum(dim=1).mean())
    return torch.stack(divergences).mean()
