"""The one form that every selective scan is brought into, and that every backend computes."""

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
    of what they compute, each put back in its pixels' order.

    Attributes:
        u: ``(batch, P, U, D)``.
        delta: ``(batch, P, G, D)``; with ``weight``, ``(batch, P, G, R)``.
        weight: ``(G, D, R)``, or None.
        bias: ``(G, D)``, or None.
        A: ``(G, D, N)``.
        B, C: ``(batch, P, G, N)``.
        skip: ``(G, D)``, or None.
        directions: For each group: 0 row by row, 1 column by column, 2 and 3 the same from the end.
        columns: Width of the image that the P pixels are, row by row.
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
        """All groups read the same channels."""
        return self.u.shape[2] == 1

    def walk(self, group: int) -> Tensor:
        """The pixel at each position of the group's walk, ``(P,)`` int64."""
        pixels = torch.arange(self.u.shape[1], device=self.u.device)
        if self.directions[group] % 2:
            pixels = pixels.view(-1, self.columns).t().flatten()
        return pixels.flip(0) if self.directions[group] >= 2 else pixels

    def raw_step(self, group: int, pixels: Tensor) -> Tensor:
        """What softplus is applied to, at these pixels: ``(batch, len(pixels), D)``, in the precision of ``A``."""
        raw = self.delta[:, pixels, group].to(self.A.dtype)
        if self.weight is not None:
            raw = raw @ self.weight[group].t()
        return raw if self.bias is None else raw + self.bias[group]

    def step(self, raw: Tensor) -> Tensor:
        """The step, from what :meth:`raw_step` gives."""
        return F.softplus(raw, threshold=30) if self.softplus else raw


class Gradients(NamedTuple):
    """Gradients with respect to the tensors of a :class:`Problem`, None for those that it lacks."""

    u: Tensor
    delta: Tensor
    weight: Tensor | None
    bias: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    skip: Tensor | None
