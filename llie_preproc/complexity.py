"""How large an enhancer is, and how much it computes."""

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
        macs: Multiply-adds for one image, half the FLOPs of :class:`torch.utils.flop_counter.FlopCounterMode`:
            convolutions, matrix products, attention, and operators that declare a formula of their own (the
            selective scan). Activations, norms, pooling, interpolation, tone curves and other arithmetic by element
            count as nothing. None: the enhancer computes outside of torch.
    """

    parameters: int
    macs: int | None


def complexity(enhancer: Enhancer, height: int = 256, width: int = 256) -> Complexity:
    """Count the parameters of an enhancer, and its multiply-adds for one image; nothing is computed.

    Args:
        enhancer: The network, on any device; it stays as it is.
        height, width: Size of the input in pixels, padded to what the network needs.

    Raises:
        ValueError: ``height`` or ``width`` is below 1.
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
            # It asks for values, to compute on them outside of torch: meta tensors have none.
            return None
    return counter.get_total_flops() // 2
