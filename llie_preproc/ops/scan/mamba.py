"""The CUDA kernel of the mamba-ssm package.

The kernel reads one sequence for each group. Therefore the image is copied once for each walk, and a low-rank step is
expanded to all channels. The gradient is that of mamba-ssm.
"""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from .problem import Problem


def forward(problem: Problem) -> Tensor:
    """Compute ``y``, in the shape of ``u``."""
    selective_scan_fn = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    p = problem
    groups, channels, states = p.A.shape
    walks = [p.walk(g) for g in range(groups)]

    def walked(x: Tensor, own: bool = True) -> Tensor:
        """Lay out ``x`` as ``(batch, G, last dimension, P)``, each group along its walk."""
        return torch.stack([x[:, walk, g if own else 0].mT for g, walk in enumerate(walks)], 1).float()

    delta = walked(p.delta)
    if p.weight is not None:
        delta = p.weight.float() @ delta
    y = selective_scan_fn(
        walked(p.u, own=not p.shared).flatten(1, 2),
        delta.flatten(1, 2),
        p.A.float().reshape(groups * channels, states),
        walked(p.B),
        walked(p.C),
        None if p.skip is None else p.skip.float().flatten(),
        delta_bias=None if p.bias is None else p.bias.float().flatten(),
        delta_softplus=p.softplus,
    )
    parts = y.unflatten(1, (groups, channels)).unbind(1)
    placed = [part[..., walk.argsort()].mT for part, walk in zip(parts, walks, strict=True)]
    return sum(placed[1:], placed[0])[:, :, None] if p.shared else torch.stack(placed, 2)
