"""The base class of all training methods: MMEngine's interface, paired losses, optimiser step and averaged weights."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from llie_preproc.checks import one_of, within
from llie_preproc.enhancers.base import Enhancer
from llie_preproc.enhancers.build import build_enhancer
from llie_preproc.errors import nearest
from llie_preproc.inference import enhance_batch
from llie_preproc.registry import MODELS
from llie_preproc.safe_loading import SafeInit
from llie_preproc.weighted_losses import build_losses

from ..data_parallel import average_gradients, average_tensors
from ..randomness import share_stochastic_depth


@MODELS.register_module()
class BytesToUnit(BaseDataPreprocessor):
    """Moves a batch to the device and converts ``inputs`` from bytes to floats in [0, 1]; nothing is padded.

    In training the inputs become one tensor ``(N, 3, H, W)``. Otherwise they stay a list of ``(3, H, W)`` of any sizes.

    >>> images = [torch.full((3, 4, 6), 255, dtype=torch.uint8) for _ in range(2)]
    >>> batch = BytesToUnit()(dict(inputs=images), training=True)["inputs"]
    >>> batch.shape, batch.max().item()
    (torch.Size([2, 3, 4, 6]), 1.0)
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Convert a batch of the data loader.

        Raises:
            ValueError: The inputs differ in size in training.
        """
        data = self.cast_data(data)
        if not training:
            return data | {"inputs": [image.float() / 255 for image in data["inputs"]]}
        return data | {"inputs": to_batch(data["inputs"])}


class TrainingMethod(SafeInit, BaseModel):
    """The base class of methods that train an enhancer; subclasses define the loss.

    Args:
        enhancer: Config of a registered enhancer, or its name. With ``checkpoint`` in the config, training starts from
            those weights; otherwise it starts from random ones.
        losses: Configs of the losses between output and reference (:mod:`training.losses`) by name, each with an
            optional ``loss_weight`` (1 by default). An entry that is None is left out, so an ablation takes one line.
        ema: Momentum of an exponential moving average of the enhancer's weights: after each step,
            ``average = ema * average + (1 - ema) * weights``. Validation and export then use the average. None keeps
            no average.
        data_preprocessor: Config of the module that turns a batch of the data loader into ``(N, 3, H, W)`` RGB in
            [0, 1]; :class:`BytesToUnit` by default.
        **unknown: Arguments that neither the method nor this class has.

    Raises:
        TypeError: There are unknown arguments; the message names the method and the nearest known ones.
        ValueError: The enhancer cannot be trained because it is not differentiable or has no parameters, ``ema`` is
            outside [0, 1), or a ``loss_weight`` is below 0.
    """

    def __init__(
        self,
        enhancer: dict | str,
        losses: Mapping[str, dict | None] | None = None,
        ema: float | None = None,
        data_preprocessor: dict | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(_no_arguments(type(self), unknown))
        super().__init__(data_preprocessor or {"type": "llie_preproc.BytesToUnit"})
        self.enhancer: Any = build_enhancer(enhancer, checkpoint=None)
        share_stochastic_depth(self.enhancer)
        if refusal := self.enhancer.training_refusal:
            raise ValueError(f"{refusal}: it cannot be trained")
        if ema is not None:
            within("ema", ema, 0, below=1)
        self.ema = ema
        self.average: Enhancer | None = frozen_copy(self.enhancer) if ema is not None else None
        self.losses, self.loss_weights = build_losses(losses or {})

    def require_losses(self) -> None:
        """Check that ``losses`` holds a loss with a weight above 0.

        Raises:
            ValueError: There is no loss, or every loss has the weight 0.
        """
        if not any(self.loss_weights.values()):
            raise ValueError(
                f"{type(self).__name__} needs at least one loss between output and reference, with a loss_weight above "
                f"0, got {self.loss_weights or 'none'}"
            )

    @property
    def evaluated(self) -> Enhancer:
        """The network that is validated and exported."""
        return self.enhancer if self.average is None else self.average

    def optimised(self) -> dict[str, nn.Module]:
        """The modules that have an optimiser of their own, by name; the enhancer's name is ``enhancer``."""
        return {"enhancer": self.enhancer}

    def train(self, mode: bool = True) -> TrainingMethod:
        """Set the mode of the trained modules; frozen ones (averages, teachers, encoders) stay in evaluation mode."""
        super().train(mode)
        for module in self.children():
            if not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self

    def forward(self, inputs: Any, data_samples: list[BaseDataElement] | None = None, mode: str = "tensor") -> Any:
        """Run the method in one of MMEngine's modes.

        Args:
            inputs: Images, ``(N, 3, H, W)`` RGB in [0, 1]. ``'predict'`` also takes a list of ``(3, H, W)`` of any
                sizes.
            data_samples: Data samples, one for each image.
            mode: ``'loss'`` returns the terms of :meth:`loss`. ``'predict'`` returns the samples with ``enhanced``
                ``(3, sH, sW)``, clamped to [0, 1]. ``'tensor'`` returns the enhancer's output, not clamped.

        Raises:
            ValueError: ``mode`` is unknown.
        """
        one_of("mode", mode, ("loss", "predict", "tensor"))
        if mode == "loss":
            return self.loss(inputs, data_samples or [])
        if mode == "predict":
            samples = data_samples or [BaseDataElement() for _ in inputs]
            for sample, enhanced in zip(samples, enhance_batch(list(inputs), self.evaluated), strict=True):
                sample.enhanced = enhanced
            return samples
        return self.enhancer(inputs)

    @abstractmethod
    def loss(self, image: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The terms of the enhancer's loss. Terms named ``loss*`` are summed and minimised; others are only logged."""

    def train_step(self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Tensor]:
        """Run one iteration: compute the loss, step the optimiser, update the averages; returns what is logged."""
        wrapper = part_wrapper(optim_wrapper, "enhancer")
        with wrapper.optim_context(self):
            data = self.data_preprocessor(data, True)
            losses = self(**data, mode="loss")
        total, log = self.parse_losses(losses)
        if backward_and_step(total, wrapper, self.optimised()["enhancer"].parameters()):
            self.after_step()
        return averaged_log(log)

    def after_step(self) -> None:
        """Update the averages; called after each step of the enhancer's optimiser."""
        if self.average is not None and self.ema is not None:
            update_average(self.average, self.enhancer, self.ema)

    def paired_losses(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted losses between output and reference, by the names ``loss_<name>``.

        Raises:
            ValueError: Output and reference differ in shape.
        """
        if output.shape != target.shape:
            shapes = f"{tuple(output.shape)} and {tuple(target.shape)}"
            raise ValueError(f"output and target must have the same shape, got {shapes}")
        pair = output.float(), target.float()
        return {f"loss_{k}": self.loss_weights[k] * _in_float32(loss, *pair) for k, loss in self.losses.items()}

    def training_state(self) -> dict[str, Any]:
        """State that a resumed run needs besides parameters and buffers. Checkpoints contain it."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""


def _no_arguments(kind: type, unknown: Iterable[str]) -> str:
    """Say which arguments a method does not have, and which are near them."""
    signatures = [inspect.signature(each.__init__) for each in kind.__mro__ if issubclass(each, TrainingMethod)]
    known = {
        parameter.name
        for signature in signatures
        for parameter in [*signature.parameters.values()][1:]
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    told = [f"{name!r}{f' ({meant})' if (meant := nearest(name, known)) else ''}" for name in unknown]
    return f"{kind.__name__} has no {', '.join(told)}"


def _in_float32(loss: nn.Module, output: Tensor, target: Tensor) -> Tensor:
    """Compute a loss with autocast off.

    A loss with an encoder runs under autocast, because it converts its features to float32 itself.
    """
    if hasattr(loss, "encoder"):
        return loss(output, target)
    with torch.autocast(output.device.type, enabled=False):
        return loss(output, target)


def stacked(data_samples: Sequence[BaseDataElement], field: str) -> Tensor:
    """The pictures ``(3, H, W)`` uint8 in a field of the samples, as one batch ``(N, 3, H, W)`` in [0, 1].

    Raises:
        ValueError: A sample lacks the field, or the shapes differ.
    """
    if not data_samples or any(field not in sample for sample in data_samples):
        raise ValueError(f"this method needs a dataset whose samples have {field!r}: see docs/training.md")
    return to_batch([sample.get(field) for sample in data_samples])


def to_batch(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``(3, H, W)`` uint8 as one batch ``(N, 3, H, W)`` in [0, 1].

    Raises:
        ValueError: The shapes differ.
    """
    if len({p.shape for p in pictures}) > 1:
        shapes = sorted({tuple(p.shape) for p in pictures})
        raise ValueError(
            f"pictures of one batch must have the same shape, got {shapes}: crop or resize them, or set batch_size=1"
        )
    return torch.stack(list(pictures)).float() / 255


def frozen_copy(module: Any) -> Any:
    """A copy in evaluation mode whose parameters take no gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, source: nn.Module, momentum: float) -> None:
    """``average = momentum * average + (1 - momentum) * source`` for parameters; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(source.parameters()), 1 - momentum)
    for buffer, current in zip(average.buffers(), source.buffers(), strict=True):
        buffer.copy_(current)


def averaged_log(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means of logged scalars over all processes, so that a schedule that watches the loss is the same in each."""
    copies = {name: value.detach().clone() for name, value in values.items()}
    average_tensors(list(copies.values()))
    return copies


def part_wrapper(optim_wrapper: OptimWrapper | OptimWrapperDict, part: str) -> OptimWrapper:
    """The optimiser wrapper of one part of a method."""
    return optim_wrapper[part] if isinstance(optim_wrapper, OptimWrapperDict) else optim_wrapper


def backward_and_step(loss: Tensor, optim_wrapper: OptimWrapper, parameters: Iterable[nn.Parameter]) -> bool:
    """Back-propagate, average the gradients over the processes and step; returns False while gradients accumulate."""
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    if not optim_wrapper.should_update():
        return False
    average_gradients(parameters)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return True
