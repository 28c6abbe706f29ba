"""The common form of all selective scans, which every backend computes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Problem(NamedTuple):
    """A selective scan over the P pixels (or positions) of an image (or sequence), in G groups.

    Group g walks the pixels along ``directions[g]`` and has its own parameters; it computes, along its walk,

        h = exp(step * A) * h + step * B * u;    y = C h + skip * u

    with ``step = softplus(delta + bias)``, or ``softplus(weight @ delta + bias)`` where ``delta`` is low-rank. With
    ``U = G`` every group has channels of its own; with ``U = 1`` all groups read the same channels and ``y`` is the sum
    of their results, each put back into the order of the pixels.

    Attributes:
        u: Input ``(batch, P, U, D)``.
        delta: Step ``(batch, P, G, D)`` or, with ``weight``, its low-rank form ``(batch, P, G, R)``.
        weight: Matrices ``(G, D, R)`` of a low-rank step, or None.
        bias: Bias ``(G, D)`` of the step, or None.
        A: Rates ``(G, D, N)``.
        B, C: Input and output weights ``(batch, P, G, N)``.
        skip: Weights ``(G, D)`` of the skip connection, or None.
        directions: Walk of each group: 0 is row by row, 1 column by column, 2 and 3 are the same from the end.
        columns: Width of the image, whose P pixels are stored row by row.
        softplus: Whether softplus is applied to the step.
    """

    u: Tensor
    delta: Tensor
    weight: Tensor | None
    bias: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    skip: Tensor | None
    directions: list[int]
    columns: int
    softplus: bool

    @property
    def shared(self) -> bool:
        """Whether all groups read the same channels."""
        return self.u.shape[2] == 1

    def walk(self, group: int) -> Tensor:
        """Index ``(P,)`` (int64) of the pixel at each position of the group's walk."""
        pixels = torch.arange(self.u.shape[1], device=self.u.device)
        if self.directions[group] % 2:
            pixels = pixels.view(-1, self.columns).t().flatten()
        return pixels.flip(0) if self.directions[group] >= 2 else pixels

    def raw_step(self, group: int, pixels: Tensor) -> Tensor:
        """Argument of the softplus at these pixels: ``(batch, len(pixels), D)`` in the precision of ``A``."""
        raw = self.delta[:, pixels, group].to(self.A.dtype)
        if self.weight is not None:
            raw = raw @ self.weight[group].t()
        return raw if self.bias is None else raw + self.bias[group]

    def step(self, raw: Tensor) -> Tensor:
        """The step, computed from the result of :meth:`raw_step`."""
        return F.softplus(raw, threshold=30) if self.softplus else raw


class Gradients(NamedTuple):
    """Gradients with respect to the tensors of a :class:`Problem`; None for those that it does not have."""

    u: Tensor
    delta: Tensor
    weight: Tensor | None
    bias: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    skip: Tensor | None
