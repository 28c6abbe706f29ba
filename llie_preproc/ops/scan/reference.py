"""The definition of the selective scan, position by position, in float64; it is slow and meant for tests.

Its gradient is PyTorch's automatic differentiation of the definition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .problem import Problem


def forward(problem: Problem) -> Tensor:
    """Compute ``y``, in the shape of ``u`` and in float64."""
    p = _in_float64(problem)
    parts = [_scan(p, g) for g in range(p.A.shape[0])]
    return sum(parts[1:], parts[0])[:, :, None] if p.shared else torch.stack(parts, 2)


def _in_float64(problem: Problem) -> Problem:
    doubled: dict[str, Any] = {k: v.double() for k, v in problem._asdict().items() if isinstance(v, Tensor)}
    return problem._replace(**doubled)


def _scan(p: Problem, group: int) -> Tensor:
    walk = p.walk(group)
    step = p.step(p.raw_step(group, walk))
    u, B, C = (x[:, walk, g] for x, g in ((p.u, 0 if p.shared else group), (p.B, group), (p.C, group)))
    state = u.new_zeros(u.shape[0], *p.A.shape[1:])
    outputs = []
    for t in range(walk.numel()):
        now = step[:, t, :, None]
        state = torch.exp(now * p.A[group]) * state + now * u[:, t, :, None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    y = torch.stack(outputs, 1)
    if p.skip is not None:
        y = y + p.skip[group] * u
    return y[:, walk.argsort()]
