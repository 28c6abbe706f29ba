"""Optimisers and wrappers of the training methods."""

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
    """timm's AdamP (Heo et al., ICLR 2021), Semi-LLIE's optimiser.

    Raises:
        MissingExtraError: timm is not installed.
    """
    require("timm", "AdamP")
    from timm.optim import AdamP

    return AdamP(params, **options)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward and loss under autocast to ``bfloat16``, on CUDA devices and on the CPU; needs no loss scaling.

    Every network of this package is faithful in bfloat16, not every one in float16 (``llie list``). For devices
    without bfloat16 there is MMEngine's ``AmpOptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the device of ``model``."""
        device = next(model.parameters()).device.type
        # Without the cache of cast weights: a network may run without gradient first, and would cache them so.
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, cache_enabled=False):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MethodOptimWrapperConstructor:
    """One optimiser for each part of a method that has its own: ``enhancer``, ``discriminator``.

    ``optim_wrapper = dict(constructor='llie_preproc.MethodOptimWrapperConstructor', enhancer=dict(...),
    discriminator=dict(...))``, each an ordinary ``optim_wrapper`` config. The parts are those of
    :meth:`~training.methods.base.TrainingMethod.optimised`; a config of a part that the method leaves out is not used,
    so leaving it out is one line. A method of one part gets one plain wrapper.

    Raises:
        ValueError: A part of the method has no config, or a config is of no part.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.configs = dict(optim_wrapper_cfg)
        self.configs.pop("type", None)
        if paramwise_cfg is not None:
            raise ValueError("paramwise_cfg belongs inside the config of each part")

    def __call__(self, model: nn.Module) -> OptimWrapper | OptimWrapperDict:
        """Build the wrappers for ``model``."""
        method: Any = unwrapped(model)
        parts = method.optimised()
        if set(parts) - set(self.configs) or set(self.configs) - _PARTS:
            raise ValueError(
                f"{type(method).__name__} trains {sorted(parts)}, the optim_wrapper configures {sorted(self.configs)}"
            )
        wrappers = {name: build_optim_wrapper(part, self.configs[name]) for name, part in parts.items()}
        return OptimWrapperDict(**wrappers) if len(wrappers) > 1 else next(iter(wrappers.values()))
