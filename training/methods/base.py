"""What all training methods share: MMEngine's interface, paired losses, the optimiser step, averaged weights."""

from __future__ import annotations

import copy
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
from llie_preproc.inference import enhance_batch
from llie_preproc.registry import MODELS
from llie_preproc.safe_loading import SafeInit
from llie_preproc.weighted_losses import build_losses

from ..data_parallel import average_gradients, average_tensors
from ..randomness import share_stochastic_depth


@MODELS.register_module()
class BytesToUnit(BaseDataPreprocessor):
    """Moves a batch to the device and brings ``inputs`` from bytes to [0, 1]; nothing is padded.

    In training they become one ``(N, 3, H, W)``; else they stay a list of ``(3, H, W)``, of any sizes.

    Raises:
        ValueError: In training, inputs of different sizes.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Convert a batch of the data loader."""
        data = self.cast_data(data)
        if not training:
            return data | {"inputs": [image.float() / 255 for image in data["inputs"]]}
        return data | {"inputs": to_batch(data["inputs"])}


class TrainingMethod(SafeInit, BaseModel):
    """A method that trains an enhancer; subclasses say with which loss.

    Args:
        enhancer: Config of a registered enhancer, or its name; ``checkpoint`` in it starts from weights.
        losses: Name to config of a loss between output and reference (:mod:`training.losses`), each with an optional
            ``loss_weight`` (1 by default). An entry that is None is left out, so an ablation is one line.
        ema: Momentum of an exponential moving average of the enhancer, which then is what is validated and exported:
            ``average = ema * average + (1 - ema) * weights`` after each step. None: no average.
        data_preprocessor: Brings batches to ``(N, 3, H, W)`` RGB in [0, 1]; by default from bytes.

    Raises:
        ValueError: The enhancer cannot be trained: it is not differentiable or has no parameters. Or a momentum
            outside [0, 1), or a ``loss_weight`` below 0.
    """

    def __init__(
        self,
        enhancer: dict | str,
        losses: Mapping[str, dict | None] | None = None,
        ema: float | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
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
        """Check that something is left to minimise between output and reference.

        Raises:
            ValueError: There is no loss, or each has the weight 0.
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
        """The modules with an optimiser each, by name; the enhancer's is ``enhancer``."""
        return {"enhancer": self.enhancer}

    def train(self, mode: bool = True) -> TrainingMethod:
        """Training mode for what is trained; averages, teachers and encoders, all frozen, stay in evaluation."""
        super().train(mode)
        for module in self.children():
            if not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self

    def forward(self, inputs: Any, data_samples: list[BaseDataElement] | None = None, mode: str = "tensor") -> Any:
        """MMEngine's modes: ``'loss'``, ``'predict'`` (clamped, samples with ``enhanced``) and ``'tensor'``.

        Args:
            inputs: ``(N, 3, H, W)`` RGB in [0, 1]; in ``'predict'`` a list of ``(3, H, W)`` of any sizes will do.
            data_samples: One an image; ``'predict'`` returns them with ``enhanced`` ``(3, sH, sW)`` set.
            mode: One of these.

        Raises:
            ValueError: Another mode.
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
        """The terms of the enhancer's loss; those named ``loss*`` are summed and minimised, the others only logged."""

    def train_step(self, data: dict, optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, Tensor]:
        """One iteration: loss, step, averages."""
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
        """Each of ``losses``, weighted, as ``loss_<name>``."""
        pair = output.float(), target.float()
        return {f"loss_{k}": self.loss_weights[k] * _in_float32(loss, *pair) for k, loss in self.losses.items()}

    def training_state(self) -> dict[str, Any]:
        """What a resumed run needs beside parameters and buffers; kept in checkpoints."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""


def _in_float32(loss: nn.Module, output: Tensor, target: Tensor) -> Tensor:
    """A loss without autocast, unless it has an encoder, whose features it compares in float32 by itself."""
    if hasattr(loss, "encoder"):
        return loss(output, target)
    with torch.autocast(output.device.type, enabled=False):
        return loss(output, target)


def stacked(data_samples: Sequence[BaseDataElement], field: str) -> Tensor:
    """The pictures ``(3, H, W)`` uint8 of a field of the samples as one batch in [0, 1].

    Raises:
        ValueError: A sample has no such field, or their shapes differ.
    """
    if not data_samples or any(field not in sample for sample in data_samples):
        raise ValueError(f"this method needs a dataset whose samples have {field!r}: see docs/training.md")
    return to_batch([sample.get(field) for sample in data_samples])


def to_batch(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``(3, H, W)`` uint8 as one batch in [0, 1].

    Raises:
        ValueError: Their shapes differ.
    """
    if len({p.shape for p in pictures}) > 1:
        shapes = sorted({tuple(p.shape) for p in pictures})
        raise ValueError(f"pictures of one batch must have one shape, got {shapes}: crop or resize them, or batch 1")
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
    """Logged scalars, as means over the processes: so a schedule that watches the loss acts alike on all of them."""
    copies = {name: value.detach().clone() for name, value in values.items()}
    average_tensors(list(copies.values()))
    return copies


def part_wrapper(optim_wrapper: OptimWrapper | OptimWrapperDict, part: str) -> OptimWrapper:
    """The optimiser wrapper of a part of a method."""
    return optim_wrapper[part] if isinstance(optim_wrapper, OptimWrapperDict) else optim_wrapper


def backward_and_step(loss: Tensor, optim_wrapper: OptimWrapper, parameters: Iterable[nn.Parameter]) -> bool:
    """Back-propagate, average the gradients over the processes and step; False while gradients accumulate."""
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    if not optim_wrapper.should_update():
        return False
    average_gradients(parameters)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return True
