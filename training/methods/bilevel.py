"""Bi-level implicit adversarial training (CollaBA: Gao et al., Pattern Recognition 2024, sections 3.3 and 3.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.checks import at_least, within
from llie_preproc.enhancers.base import pad_to_requirements
from llie_preproc.registry import MODELS

from ..data_parallel import average_gradients, average_tensors
from ..losses.adversarial import discriminator_loss, enhancer_loss
from ..losses.illumination import illumination_prior_loss
from ..losses.sharpening import unsharp_mask
from ..losses.total_variation import squared_total_variation
from ..losses.weighting import LearnedWeights
from .adversarial import discriminator_step, frozen
from .base import TrainingMethod, averaged_log, part_wrapper, stacked

_TERMS = ("illumination", "attention_tv", "adversarial")


def best_response_ratio(
    grad_adv: Sequence[Tensor], grad_total: Sequence[Tensor], max_ratio: float = math.inf
) -> Tensor:
    """The ratio of CollaBA's Eq. 17: ``<grad_w L_adv, grad_w L_total> / <grad_w L_adv, grad_w L_adv>``.

    ``G_BR = -ratio * grad_s L_adv`` approximates how the enhancer's parameters s act on its loss L_total through the
    best response of the discriminators' parameters w. The exact product, ``-[d2 L_adv / dw ds]^T [d2 L_adv / dw2]^-1
    grad_w L_total``, follows from the implicit function theorem (Eq. 13 to 15); the approximation puts outer products
    of gradients in place of both second derivatives (Eq. 16). The sign of L_adv cancels in G_BR, so it does not matter
    whether the discriminators minimise or maximise L_adv. A common factor of all gradients cancels in the ratio.

    >>> best_response_ratio([torch.tensor([1.0, 1.0])], [torch.tensor([3.0, 1.0])]).item()
    2.0

    Args:
        grad_adv: Gradients of L_adv, one tensor for each parameter of the discriminators.
        grad_total: Gradients of L_total, of the same shapes.
        max_ratio: Bound of the result's magnitude. The paper has no bound; near the discriminators' optimum the
            denominator vanishes.

    Returns:
        A scalar, detached. It is 0 where the ratio is not finite and where grad_adv is 0.

    Raises:
        ValueError: The lists are empty or differ in shapes.
    """
    if not grad_adv or [g.shape for g in grad_adv] != [g.shape for g in grad_total]:
        shapes = [[tuple(g.shape) for g in grads] for grads in (grad_adv, grad_total)]
        raise ValueError(f"the gradients of both losses must belong to the same parameters, got the shapes {shapes}")
    product, norm = _inner(grad_adv, grad_total), _inner(grad_adv, grad_adv)
    ratio = product / (norm + torch.finfo(norm.dtype).tiny)
    return ratio.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-max_ratio, max_ratio)


@MODELS.register_module()
class BilevelAdversarial(TrainingMethod):
    """Trains an enhancer on pairs against discriminators whose best response it takes into account (Algorithm 1).

    Each iteration first makes one step of the discriminators (the lower level). It then makes one step of the enhancer
    and of the weights of its loss terms (the upper level), on the gradient of L_total (Eq. 11) plus the best-response
    gradient G_BR (Eq. 17). L_adv in G_BR is computed on the enhancer's output **with** its gradient. The public trainer
    detaches the output there, which makes G_BR zero.

    Samples need ``target``. For an enhancer that enlarges, the illumination prior loss also takes ``target_x1``, the
    normal-light picture at the input's size. Where samples have none, it is the mean of each ``scale x scale`` pixels
    of ``target``. A weight of 0 leaves its term out.

    >>> from mmengine.structures import BaseDataElement
    >>> method = BilevelAdversarial(
    ...     dict(type="IAMLUNet", width=4, depth=1),
    ...     losses=dict(pixel=dict(type="llie_preproc.L1Loss")),
    ...     discriminators=dict(patch=dict(type="llie_preproc.PatchDiscriminator", width=4)),
    ...     illumination_weight=0,
    ... )
    >>> sample = BaseDataElement(target=torch.zeros(3, 32, 32, dtype=torch.uint8))
    >>> list(method.loss(torch.rand(1, 3, 32, 32), [sample]))
    ['loss_pixel', 'loss_adversarial', 'loss_regulariser']

    Args:
        enhancer: Config of a registered enhancer, or its name; of any scale.
        losses: Configs of the losses between output and reference by name; CollaBA has ``pixel`` (Eq. 8) and
            ``perceptual`` (Eq. 9).
        discriminators: Configs of the discriminators by name; CollaBA has the global ``unet`` and the local ``patch``
            (Eq. 10). An entry that is None is left out. They are not used if ``adversarial_weight`` is 0.
        illumination_weight: Weight of the illumination prior loss (Eq. 7), for which the enhancer needs a method
            ``enhance_with_attention``.
        attention_tv_weight: Weight of the total variation of that attention, a term of the public code that the paper
            does not have.
        adversarial_weight: Weight of the enhancer's adversarial term, which is the sum over the discriminators.
        learned_weights: Whether to multiply all these weights by the learned ones of Eq. 11
            (:class:`~training.losses.weighting.LearnedWeights`).
        regulariser: Whether the learned weights have the regulariser R.
        bia: Whether to add the best-response gradient. Without it the two levels just alternate (Eq. 18).
        max_ratio: Bound of the factor of G_BR, as in :func:`best_response_ratio`; infinity sets no bound.
        enhancer_interval: Number of iterations from one step of the enhancer to the next; the discriminators step in
            every iteration.
        sharpen_target: Whether ``losses`` compare with the sharpened reference
            (:func:`~training.losses.sharpening.unsharp_mask`). The discriminators always see the plain one.
        **options: ``ema`` and ``data_preprocessor`` of :class:`~training.methods.base.TrainingMethod`.

    Raises:
        ValueError: An argument is out of its range, no loss term is left, ``bia`` or ``enhancer_interval`` is set while
            the adversarial term is left out, or the enhancer predicts no attention while a term needs it.
    """

    def __init__(
        self,
        enhancer: dict | str,
        losses: Mapping[str, dict | None],
        discriminators: Mapping[str, dict | None] | None = None,
        illumination_weight: float = 1.0,
        attention_tv_weight: float = 0.0,
        adversarial_weight: float = 0.1,
        learned_weights: bool = True,
        regulariser: bool = True,
        bia: bool = True,
        max_ratio: float = 1.0,
        enhancer_interval: int = 1,
        sharpen_target: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(enhancer, losses, **options)
        chosen = {name: config for name, config in (discriminators or {}).items() if config is not None}
        self.discriminators = nn.ModuleDict({name: MODELS.build(config) for name, config in chosen.items()})
        self.term_weights = dict(
            zip(_TERMS, (illumination_weight, attention_tv_weight, adversarial_weight), strict=True)
        )
        self.bia, self.max_ratio, self.enhancer_interval = bia, max_ratio, enhancer_interval
        self.sharpen_target = sharpen_target
        self._check_arguments()
        if self._needs_attention:
            self._check_attention()
        names = [*self.losses, *(name for name, weight in self.term_weights.items() if weight)]
        self.weights = LearnedWeights(names, regulariser) if learned_weights else None
        self._iteration = 0

    @property
    def _needs_attention(self) -> bool:
        return bool(self.term_weights["illumination"] or self.term_weights["attention_tv"])

    def _check_arguments(self) -> None:
        for name, weight in self.term_weights.items():
            within(f"{name}_weight", weight, 0)
        # Infinity sets no bound, as in the paper; within() would refuse it.
        if self.max_ratio != math.inf:
            within("max_ratio", self.max_ratio, above=0)
        at_least("enhancer_interval", self.enhancer_interval, 1)
        if taken := sorted(set(self.losses) & {*_TERMS, "regulariser"}):
            raise ValueError(f"losses cannot have the names {taken}: this method has terms of these names")
        if not any(self.loss_weights.values()) and not any(self.term_weights.values()):
            raise ValueError("there is no loss term: losses is empty, or every weight is 0")
        adversarial = self.term_weights["adversarial"]
        if adversarial and not len(self.discriminators):
            raise ValueError(f"adversarial_weight is {adversarial}, but there are no discriminators: set it to 0")
        if not adversarial and (self.bia or self.enhancer_interval > 1):
            raise ValueError(
                f"adversarial_weight is {adversarial}: without the adversarial term there is no best response and no "
                "step of the discriminators to wait for; set bia=False and enhancer_interval=1"
            )

    def _check_attention(self) -> None:
        name = type(self.enhancer).__name__
        advice = "set illumination_weight=0 and attention_tv_weight=0"
        if not hasattr(self.enhancer, "enhance_with_attention"):
            raise ValueError(f"{name} predicts no illumination attention: {advice}")
        smallest = pad_to_requirements(torch.zeros(1, 3, 1, 1), self.enhancer.capabilities)
        try:
            with torch.no_grad():
                self.enhancer.enhance_with_attention(smallest)
        except ValueError as error:
            raise ValueError(f"{error}: {advice}") from error

    def optimised(self) -> dict[str, nn.Module]:
        """The enhancer together with the learned weights, and the discriminators."""
        parts: dict[str, nn.Module] = {"enhancer": self.enhancer}
        if self.weights is not None:
            parts["enhancer"] = nn.ModuleDict({"enhancer": self.enhancer, "weights": self.weights})
        if len(self.discriminators):
            parts["discriminator"] = self.discriminators
        return parts

    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The terms of L_total (Eq. 11) without the best response; the discriminators get no gradient."""
        output, attention = self._enhance(image)
        target = self._target(output, data_samples)
        terms = self._terms(image, data_samples, output, attention, target)
        if self.term_weights["adversarial"]:
            with frozen(self.discriminators):
                terms["adversarial"] = self._adversarial_term(self._judged(output))
        return self._weighted(terms)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Tensor]:
        """Run one iteration of Algorithm 1.

        Raises:
            ValueError: An optimiser wrapper accumulates gradients; the factor of Eq. 17 needs a whole batch at once.
        """
        _refuse_accumulation(optim_wrapper)
        wrapper = part_wrapper(optim_wrapper, "enhancer")
        with_enhancer = self._iteration % self.enhancer_interval == 0
        self._iteration += 1
        with wrapper.optim_context(self), torch.set_grad_enabled(with_enhancer):
            data = self.data_preprocessor(data, True)
            image, samples = data["inputs"], data["data_samples"]
            output, attention = self._enhance(image)
        target = self._target(output, samples)
        log: dict[str, Tensor] = {}
        if self.term_weights["adversarial"]:
            fake = output.detach()
            log["discriminator"] = discriminator_step(
                self.discriminators,
                lambda: self._adversarial_loss(target, self._judged(fake)),
                optim_wrapper["discriminator"],
            )
        if with_enhancer:
            with wrapper.optim_context(self):
                terms = self._terms(image, samples, output, attention, target)
            log.update(self._enhancer_step(terms, output, target, wrapper))
        return averaged_log(log)

    def training_state(self) -> dict[str, Any]:
        """The number of iterations so far."""
        return {"iteration": self._iteration}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Continue after the number of iterations in ``state``."""
        self._iteration = state["iteration"]

    def _enhance(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        if self._needs_attention:
            return self.enhancer.enhance_with_attention(image)
        return self.enhancer(image), None

    def _target(self, output: Tensor, data_samples: Sequence[BaseDataElement]) -> Tensor:
        target = stacked(data_samples, "target")
        if output.shape != target.shape:
            raise ValueError(
                f"{type(self.enhancer).__name__} enlarges {self.enhancer.scale} times, to {tuple(output.shape)}, "
                f"but the references have the shape {tuple(target.shape)}"
            )
        return target

    def _terms(
        self,
        image: Tensor,
        data_samples: Sequence[BaseDataElement],
        output: Tensor,
        attention: Tensor | None,
        target: Tensor,
    ) -> dict[str, Tensor]:
        """The terms L_u of Eq. 11 with their fixed weights, except the adversarial term."""
        reference = unsharp_mask(target) if self.sharpen_target and len(self.losses) else target
        terms = {k.removeprefix("loss_"): v for k, v in self.paired_losses(output, reference).items()}
        if attention is not None:
            attention = attention.float()
            if weight := self.term_weights["illumination"]:
                normal = self._normal_light(data_samples, target)
                terms["illumination"] = weight * illumination_prior_loss(attention, image, normal)
            if weight := self.term_weights["attention_tv"]:
                terms["attention_tv"] = weight * squared_total_variation(attention)
        return terms

    def _normal_light(self, data_samples: Sequence[BaseDataElement], target: Tensor) -> Tensor:
        """The normal-light picture at the input's size."""
        if self.enhancer.scale > 1 and all("target_x1" in sample for sample in data_samples):
            return stacked(data_samples, "target_x1")
        return F.avg_pool2d(target, self.enhancer.scale)

    def _weighted(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weighted = terms if self.weights is None else self.weights(terms)
        return {f"loss_{name}": term for name, term in weighted.items()}

    def _judged(self, picture: Tensor) -> list[Tensor]:
        """The logits of each discriminator."""
        return [discriminator(picture.float()) for discriminator in self.discriminators.values()]

    def _adversarial_term(self, fake: list[Tensor]) -> Tensor:
        return self.term_weights["adversarial"] * torch.stack([enhancer_loss(logits) for logits in fake]).sum()

    def _adversarial_loss(self, target: Tensor, fake: list[Tensor]) -> Tensor:
        """L_adv (Eq. 10) as the discriminators minimise it; ``fake`` holds their logits of the output."""
        pairs = zip(self._judged(target), fake, strict=True)
        return torch.stack([discriminator_loss(real, logits) for real, logits in pairs]).sum()

    def _enhancer_step(
        self, terms: dict[str, Tensor], output: Tensor, target: Tensor, wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """Step the upper level: the gradient is that of L_total, the sum of ``terms``, plus the best response."""
        adversarial: Tensor | None = None
        with wrapper.optim_context(self):
            if self.term_weights["adversarial"]:
                fake = self._judged(output)
                terms["adversarial"] = self._adversarial_term(fake)
                adversarial = self._adversarial_loss(target, fake) if self.bia else None
            weighted = self._weighted(terms)
        total, log = self.parse_losses(weighted)
        if self.weights is not None:
            log.update({f"rho_{name}": rho.detach().clone() for name, rho in self.weights.rho.items()})
        minimised = total
        if adversarial is not None:
            log["best_response"] = ratio = self._ratio(adversarial, weighted["loss_adversarial"], wrapper)
            # In Eq. 17 the ratio is a number without a gradient, and the fake picture in L_adv keeps its gradient.
            minimised = total - ratio * adversarial
        parameters = [p for p in self.optimised()["enhancer"].parameters() if p.requires_grad]
        # The inputs are named because the graph also reaches the discriminators, which have made their step already.
        wrapper.backward(minimised, inputs=parameters)
        average_gradients(parameters)
        wrapper.step()
        wrapper.zero_grad()
        self.after_step()
        return log

    def _ratio(self, adversarial: Tensor, term: Tensor, wrapper: OptimWrapper) -> Tensor:
        """The factor of Eq. 17 over the batches of all processes.

        Only one term of L_total depends on the discriminators: the adversarial one, ``term``.
        """
        parameters = [p for p in self.discriminators.parameters() if p.requires_grad]
        scaler = getattr(wrapper, "loss_scaler", None)
        # The losses are scaled against underflow in float16; the scale cancels in the ratio.
        values = (adversarial, term) if scaler is None else (scaler.scale(adversarial), scaler.scale(term))
        grad_adv, grad_total = (
            [g.contiguous() for g in torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True)]
            for v in values
        )
        average_tensors(grad_adv + grad_total)
        return best_response_ratio(grad_adv, grad_total, self.max_ratio)


def _inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def _refuse_accumulation(optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    parts = optim_wrapper if isinstance(optim_wrapper, OptimWrapperDict) else {"enhancer": optim_wrapper}
    for name, wrapper in parts.items():
        if (counts := wrapper._accumulative_counts) != 1:
            raise ValueError(
                f"BilevelAdversarial takes no accumulated gradients, got accumulative_counts={counts} for {name!r}: "
                "the best response needs a whole batch at once; use a smaller batch instead"
            )
