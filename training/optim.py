"""Optimisers and optimiser wrappers of the training methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from torch import nn

from llie_preproc.errors import require
from llie_preproc.mm.runner_parts import unwrapped
from llie_preproc.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_PARTS = {"enhancer", "discriminator"}


@OPTIMIZERS.register_module(name="AdamP")
def adamp(params: Any, **options: Any) -> torch.optim.Optimizer:
    """timm's AdamP (Heo et al., ICLR 2021), the optimiser of Semi-LLIE.

    >>> type(adamp(nn.Linear(2, 2).parameters(), lr=2e-4)).__name__
    'AdamP'

    Raises:
        MissingExtraError: timm is not installed.
    """
    require("timm", "AdamP")
    from timm.optim import AdamP

    return AdamP(params, **options)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Runs the forward pass and the loss under autocast to ``bfloat16``, on CUDA devices and on the CPU.

    No loss scaling is needed. Every network of this package that has parameters keeps its accuracy in bfloat16. Devices
    without bfloat16 can use MMEngine's ``AmpOptimWrapper``, if the network's ``capabilities.precisions`` list float16.

    >>> model = nn.Linear(2, 2)
    >>> wrapper = AutocastOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    >>> with wrapper.optim_context(model):
    ...     model(torch.ones(1, 2)).dtype
    torch.bfloat16
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast on the device of ``model``."""
        device = next(model.parameters()).device.type
        # The cache of converted weights is off: a network that first runs without gradients would cache its weights
        # without gradients.
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, cache_enabled=False):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MethodOptimWrapperConstructor:
    """Builds an optimiser wrapper for each part of a method that has an optimiser of its own.

    A config looks like ``optim_wrapper = dict(constructor='llie_preproc.MethodOptimWrapperConstructor',
    enhancer=dict(...), discriminator=dict(...))``, where each part has an ordinary ``optim_wrapper`` config. The parts
    are those of :meth:`~training.methods.base.TrainingMethod.optimised`. If the method has no discriminator, the config
    of ``discriminator`` is ignored. A method with a single part gets a plain wrapper.

    >>> from training.methods import SupervisedTraining
    >>> network = dict(type="IAMLUNet", width=4, depth=1)
    >>> method = SupervisedTraining(network, losses=dict(l1=dict(type="llie_preproc.L1Loss")))
    >>> adam = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
    >>> type(MethodOptimWrapperConstructor(dict(enhancer=adam, discriminator=adam))(method)).__name__
    'OptimWrapper'

    Args:
        optim_wrapper_cfg: Configs of the optimiser wrappers by part; ``type`` is ignored.
        paramwise_cfg: Must be None; it belongs inside the config of each part.

    Raises:
        ValueError: ``paramwise_cfg`` is given. A call also raises it if a part of the method has no config, or if a
            config names an unknown part.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.configs = dict(optim_wrapper_cfg)
        self.configs.pop("type", None)
        if paramwise_cfg is not None:
            raise ValueError(f"paramwise_cfg must stand inside the config of each part, got {paramwise_cfg}")

    def __call__(self, model: nn.Module) -> OptimWrapper | OptimWrapperDict:
        """Build the wrappers for ``model``, a method or its distributed wrapper."""
        method: Any = unwrapped(model)
        parts = method.optimised()
        if set(parts) - set(self.configs) or set(self.configs) - _PARTS:
            raise ValueError(
                f"optim_wrapper must have a config for each of {sorted(parts)}, which {type(method).__name__} trains, "
                f"got {sorted(self.configs)}"
            )
        wrappers = {name: build_optim_wrapper(part, self.configs[name]) for name, part in parts.items()}
        return OptimWrapperDict(**wrappers) if len(wrappers) > 1 else next(iter(wrappers.values()))
