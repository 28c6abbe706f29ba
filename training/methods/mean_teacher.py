"""Semi-supervised training with a mean teacher (Semi-LLIE, Sections III-B and III-D to III-F)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.checks import within
from llie_preproc.enhancers.base import Enhancer
from llie_preproc.registry import MODELS
from llie_preproc.weighted_losses import build_losses

from ..losses.adversarial import check_kind, discriminator_loss, enhancer_loss
from .adversarial import discriminator_step, frozen
from .base import TrainingMethod, averaged_log, part_wrapper, stacked, update_average


def ramp_up(time: float, length: float) -> float:
    """``exp(-5 (1 - time / length)^2)``, and 1 from ``length`` on: the factor of lambda_1 (Semi-LLIE, Section IV-A).

    >>> [round(ramp_up(time, 100), 3) for time in (0, 50, 100, 200)]
    [0.007, 0.287, 1.0, 1.0]
    """
    return math.exp(-5 * (1 - min(time / length, 1.0)) ** 2)


@MODELS.register_module()
class SemiSupervisedMeanTeacher(TrainingMethod):
    """Trains an enhancer, the student, on pairs and on dark pictures without reference, with an average of itself.

    The loss (Eq. 10) is the sum of ``losses`` on the pairs (Eq. 7), lambda_1 times the unsupervised terms (Eq. 8), and
    ``adversarial_weight`` times the adversarial term on the outputs of the pairs (Eq. 9). There are two unsupervised
    terms. The consistency term is the mean absolute difference between the student's output of the strongly augmented
    picture and the teacher's output of the weakly augmented one (Eq. 1). The contrastive loss has the student's output
    as anchor, the teacher's as positive and the weakly augmented dark picture as negative (Eq. 4). The discriminator
    has an optimiser of its own and steps after the enhancer, on the same outputs.

    lambda_1 is ``consistency_weight * exp(-5 (1 - t / ramp)^2)``, and ``consistency_weight`` from t = ``ramp`` on; t
    is the share of the training that is done. The paper's 0.2 exp(-5 (1 - epoch / 200)^2) over 200 epochs is
    ``ramp=1``; the public code has ``ramp=0.5``. MMEngine's Runner tells t (``iter`` over ``max_iters``), so loops
    that count epochs and loops that count iterations ramp alike. Outside of a Runner lambda_1 is
    ``consistency_weight``.

    The teacher follows Eq. 2 after each step, with the momentum min(1 - 1 / (steps before + 1), ``momentum``): it is
    first a copy, then the mean of all weights so far, then a moving average. Validation and export use the teacher.

    Samples need ``target``. Unless ``consistency_weight`` is 0 they also need ``unpaired`` and ``strong``, a weakly
    and a strongly augmented version of one dark picture, with the same geometry
    (:class:`~training.datasets.SemiSupervisedSet`).

    >>> picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    >>> sample = BaseDataElement(target=picture, unpaired=picture, strong=picture)
    >>> network = dict(type="IAMLUNet", width=4, depth=1)
    >>> method = SemiSupervisedMeanTeacher(network, losses=dict(l1=dict(type="llie_preproc.L1Loss")))
    >>> list(method.loss(torch.rand(1, 3, 16, 16), [sample]))
    ['loss_l1', 'loss_consistency']

    Args:
        enhancer: Config of a registered enhancer, or its name.
        losses: Configs of losses on the pairs, as in :class:`~training.methods.base.TrainingMethod`; at least one. The
            paper has L1, the perceptual loss with weight 0.1 and the gradient loss with weight 0.1.
        contrastive: Config of a loss of ``(anchor, positive, negative)``
            (:class:`~training.losses.contrastive.ContrastiveLoss`), with an optional ``loss_weight``. None leaves the
            term out.
        discriminator: Config of a registered discriminator. None leaves the adversarial term out.
        consistency_weight: Largest value of lambda_1.
        ramp: Share of the training after which lambda_1 has its largest value, in (0, 1].
        adversarial_weight: Weight of the adversarial term, lambda_2.
        adversarial: Kind of the adversarial loss, ``'bce'`` or ``'lsgan'``.
        momentum: Momentum of the teacher, beta of Eq. 2. The paper does not give it; the default is the public code's.
        **options: ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: There is no loss on the pairs, ``adversarial`` is unknown, a weight is below 0, ``momentum`` is
            outside [0, 1), ``ramp`` is outside (0, 1], or there is a contrastive loss while ``consistency_weight`` is
            0.
    """

    updates: Tensor

    def __init__(
        self,
        enhancer: dict | str,
        losses: Mapping[str, dict | None],
        contrastive: dict | None = None,
        discriminator: dict | None = None,
        consistency_weight: float = 0.2,
        ramp: float = 1.0,
        adversarial_weight: float = 0.1,
        adversarial: str = "bce",
        momentum: float = 0.996,
        **options: Any,
    ) -> None:
        _check(consistency_weight, ramp, adversarial_weight, momentum)
        check_kind(adversarial)
        super().__init__(enhancer, losses, ema=momentum, **options)
        self.require_losses()
        if contrastive is not None and not consistency_weight:
            raise ValueError("consistency_weight is 0, so the contrastive loss has no effect: set contrastive=None")
        self.contrastive, self.contrastive_weights = build_losses({"contrastive": contrastive})
        self.discriminator: nn.Module | None = None if discriminator is None else MODELS.build(discriminator)
        self.consistency_weight, self.ramp = consistency_weight, ramp
        self.adversarial_weight, self.adversarial = adversarial_weight, adversarial
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._judged: tuple[Tensor, Tensor] | None = None

    @property
    def teacher(self) -> Enhancer:
        """The average of the student."""
        return self.evaluated

    def optimised(self) -> dict[str, nn.Module]:
        """``enhancer``, and ``discriminator`` where there is one."""
        parts = super().optimised()
        return parts if self.discriminator is None else parts | {"discriminator": self.discriminator}

    def consistency_factor(self) -> float:
        """lambda_1 at this point of the training."""
        hub = MessageHub.get_current_instance()
        last = hub.get_info("max_iters")
        done = hub.get_info("iter", 0) / last if last else 1.0
        return self.consistency_weight * ramp_up(done, self.ramp)

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The weighted terms of Eq. 10: ``losses``, ``loss_adversarial``, ``loss_consistency``, ``loss_contrastive``.

        Raises:
            ValueError: The samples lack a field, or the references are not of the output's size.
        """
        target, output = stacked(data_samples, "target"), self.enhancer(image)
        if output.shape != target.shape:
            raise ValueError(
                f"output and target must have the same shape, got {tuple(output.shape)} and {tuple(target.shape)}"
            )
        losses = self.paired_losses(output, target)
        if self.discriminator is not None:
            with frozen(self.discriminator):
                logits = self.discriminator(output)
            losses["loss_adversarial"] = self.adversarial_weight * enhancer_loss(logits, self.adversarial)
            self._judged = target, output.detach()
        if self.consistency_weight:
            losses |= self._unsupervised(stacked(data_samples, "unpaired"), stacked(data_samples, "strong"))
        return losses

    def train_step(self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Tensor]:
        """Run one iteration: step the enhancer, update the teacher, step the discriminator on the same outputs."""
        log = super().train_step(data, optim_wrapper)
        if self.discriminator is None or self._judged is None:
            return log
        (real, fake), self._judged = self._judged, None
        wrapper = part_wrapper(optim_wrapper, "discriminator")
        value = discriminator_step(self.discriminator, lambda: self._discrimination(real, fake), wrapper)
        return log | averaged_log({"discriminator": value})

    def after_step(self) -> None:
        """Let the teacher follow the student (Eq. 2)."""
        momentum = min(1 - 1 / (int(self.updates) + 1), self.ema or 0.0)
        update_average(self.teacher, self.enhancer, momentum)
        self.updates += 1

    def _unsupervised(self, weak: Tensor, strong: Tensor) -> dict[str, Tensor]:
        """The terms of Eq. 8 times lambda_1, in float32 even under autocast."""
        factor = self.consistency_factor()
        with torch.no_grad():
            pseudo = self.teacher(weak)
        student = self.enhancer(strong)
        # The differences between student and teacher are too small for bfloat16, in the encoder as well.
        with torch.autocast(student.device.type, enabled=False):
            student, pseudo = student.float(), pseudo.float()
            losses = {"loss_consistency": factor * F.l1_loss(student, pseudo)}
            for name, loss in self.contrastive.items():
                weight = factor * self.contrastive_weights[name]
                losses[f"loss_{name}"] = weight * loss(student, pseudo, weak.float())
        return losses

    def _discrimination(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss (Eq. 9)."""
        if self.discriminator is None:
            raise ValueError("there is no discriminator")
        return discriminator_loss(self.discriminator(real), self.discriminator(fake), self.adversarial)


def _check(consistency_weight: float, ramp: float, adversarial_weight: float, momentum: float) -> None:
    within("consistency_weight", consistency_weight, 0)
    within("adversarial_weight", adversarial_weight, 0)
    within("ramp", ramp, above=0, most=1)
    within("momentum", momentum, 0, below=1)
