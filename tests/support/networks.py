"""Networks that are small or have random weights, and functions to compare networks."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from llie_preproc import build_enhancer
from llie_preproc.enhancers import Capabilities, Enhancer

SMALL = {"SemiLLIE": dict(width=4), "IAMLUNet": dict(width=4, depth=2)}
"""Arguments of the enhancers that are large by default."""


class Gain(Enhancer):
    """A network that multiplies each colour by a factor and repeats each pixel ``scale`` times in both directions."""

    def __init__(self, scale: int = 1, start: float = 1.0) -> None:
        super().__init__()
        self.capabilities = Capabilities(scale=scale)
        self.factor = nn.Parameter(torch.full((3, 1, 1), start))

    def forward(self, image: Tensor) -> Tensor:
        return (self.factor * image).repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


@functools.cache
def untrained(name: str) -> Enhancer:
    """The enhancer of this name, with the same random weights each time.

    All callers share it, so tests must not change it.
    """
    torch.manual_seed(0)
    return build_enhancer(name, checkpoint=None)


def parameter_count(module: nn.Module) -> int:
    """The number of values in all parameters."""
    return sum(p.numel() for p in module.parameters())


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of both are bit for bit the same."""
    return first.keys() == second.keys() and all(value.equal(second[key]) for key, value in first.items())
