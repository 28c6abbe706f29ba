"""The size of an enhancer, and the amount of its computation."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from .enhancers.base import Enhancer, pad_to_requirements


@dataclass(frozen=True)
class Complexity:
    """The size of an enhancer.

    Attributes:
        parameters: Number of parameters, trained or frozen.
        macs: Multiply-adds for one image, half the FLOPs that :class:`torch.utils.flop_counter.FlopCounterMode` counts.
            It counts convolutions, matrix products, attention, and operators with their own formula (the selective
            scan), but no activations, norms, pooling, interpolation, tone curves and other element-wise arithmetic.
            None for an enhancer that computes outside of torch.

    Examples:
        >>> Complexity(parameters=15251, macs=150_000_000).macs
        150000000
    """

    parameters: int
    macs: int | None


def complexity(enhancer: Enhancer, height: int = 256, width: int = 256) -> Complexity:
    """Count the parameters of an enhancer and its multiply-adds for one image, without computing the image.

    Args:
        enhancer: Network on any device; it is not changed.
        height, width: Size of the input in pixels, which is padded to the size that the network needs.

    Raises:
        ValueError: ``height`` or ``width`` is below 1.

    Examples:
        >>> from llie_preproc.enhancers import CLAHE, GammaCorrection
        >>> complexity(GammaCorrection(), 720, 1080)
        Complexity(parameters=0, macs=0)
        >>> complexity(CLAHE())
        Complexity(parameters=0, macs=None)
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    return Complexity(sum(p.numel() for p in enhancer.parameters()), _macs(enhancer, height, width))


def _macs(enhancer: Enhancer, height: int, width: int) -> int | None:
    shapes_only = copy.deepcopy(enhancer).to("meta").eval()
    image = pad_to_requirements(torch.empty(1, 3, height, width, device="meta"), enhancer.capabilities)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            shapes_only(image)
        except (RuntimeError, TypeError):
            # The network computes outside of torch, which needs values, and meta tensors have none.
            return None
    return counter.get_total_flops() // 2
