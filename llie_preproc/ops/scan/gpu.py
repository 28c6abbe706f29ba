"""The Triton backend: it launches the kernels of :mod:`.gpu_kernels`."""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from . import gpu_kernels as kernels
from .problem import Gradients, Problem

CHUNK = 64
BLOCK = 32
WARPS = 4


def forward(problem: Problem) -> Tensor:
    """Compute ``y``, in the shape of ``u`` and in float32."""
    # Triton launches on the current device, even if the tensors are on another one.
    with torch.cuda.device_of(problem.u):
        return _forward(problem)


def backward(problem: Problem, grad: Tensor) -> Gradients:
    """Compute the gradients in float32; the states are computed again.

    Sums over channels, images and chunks are added up from partial sums, so that the result is the same each time. The
    partial sums take, for each group, ``N / 64`` of the memory of ``u``, and ``dB`` and ``dC`` have a copy for every 32
    channels.
    """
    with torch.cuda.device_of(problem.u):
        return _backward(problem, grad)


def _forward(problem: Problem) -> Tensor:
    launch = _Launch(problem)
    y = torch.empty_like(problem.u, dtype=torch.float32)
    ends, _ = launch.states()
    p = launch.problem
    for group in launch.launched_groups:
        kernels.outputs[launch.grid(launch.launched)](
            p.u, p.delta, p.weight, p.bias, launch.A, p.B, p.C, p.skip, launch.directions, ends, y, group,
            *launch.sizes, *p.u.stride(), *p.delta.stride(), *p.B.stride(), *p.C.stride(), *y.stride(),
            **launch.constants, HAS_SKIP=p.skip is not None, ADD=group > 0,
        )  # fmt: skip
    return y


def _backward(problem: Problem, grad: Tensor) -> Gradients:
    launch = _Launch(problem)
    p, (batch, length, groups, states) = launch.problem, problem.B.shape
    ends, totals = launch.states()
    starts = launch.adjoints(grad, totals)
    blocks, chunks, channels = launch.blocks, launch.chunks, p.A.shape[1]
    rank = launch.rank
    empty = p.A.new_empty
    du = torch.empty_like(p.u, dtype=torch.float32)
    dB, dC = (empty(blocks, batch, length, groups, states) for _ in range(2))
    ddelta = empty(blocks if rank else 1, batch, length, groups, rank or channels)
    dweight = empty(batch, groups, chunks, channels, rank)
    dbias, dskip = (empty(batch, groups, chunks, channels) for _ in range(2))
    dA = empty(batch, groups, chunks, states, channels)
    for group in launch.launched_groups:
        kernels.gradients[launch.grid(launch.launched)](
            grad, p.u, p.delta, p.weight, p.bias, launch.A, p.B, p.C, p.skip, launch.directions, ends, starts,
            du, ddelta, dweight, dbias, dA, dB, dC, dskip, group,
            *launch.sizes, batch, *grad.stride(), *p.u.stride(), *p.delta.stride(), *p.B.stride(), *p.C.stride(),
            *du.stride(), **{**launch.constants, "num_warps": 2 * WARPS}, HAS_SKIP=p.skip is not None, ADD=group > 0,
        )  # fmt: skip
    return Gradients(
        u=du,
        delta=ddelta.sum(0),
        weight=dweight.sum((0, 2)) if rank else None,
        bias=dbias.sum((0, 2)) if p.bias is not None else None,
        A=dA.sum((0, 2)).mT,
        B=dB.sum(0),
        C=dC.sum(0),
        skip=dskip.sum((0, 2)) if p.skip is not None else None,
    )


@functools.lru_cache(maxsize=64)
def _directions(directions: tuple[int, ...], device: torch.device) -> Tensor:
    """The directions, kept on the device: copying them would wait for the device, and no CUDA graph can record it."""
    return torch.tensor(directions, dtype=torch.int32, device=device)


class _Launch:
    """Sizes, constants and arguments that all launches for one problem share."""

    def __init__(self, problem: Problem) -> None:
        names = ("weight", "bias", "A", "skip")
        small = {k: v.float().contiguous() for k in names if (v := getattr(problem, k)) is not None}
        self.problem = p = problem._replace(**small)
        self.batch, self.length, self.groups, self.states_each = p.B.shape
        self.channels, self.rank = p.A.shape[1], p.weight.shape[2] if p.weight is not None else 0
        self.block = min(BLOCK, triton.next_power_of_2(self.channels))
        self.blocks, self.chunks = triton.cdiv(self.channels, self.block), triton.cdiv(self.length, CHUNK)
        self.A = p.A.mT.contiguous()
        self.directions = _directions(tuple(p.directions), p.u.device)
        # Groups that add to the same pixels are launched one after the other.
        self.launched = 1 if p.shared else self.groups
        self.launched_groups = range(self.groups) if p.shared else (0,)
        self.sizes = (self.length, p.columns, self.channels, self.groups, self.chunks)
        self.constants: dict[str, Any] = {
            "N": self.states_each,
            "R": self.rank,
            "T": CHUNK,
            "BLOCK": self.block,
            "HAS_BIAS": p.bias is not None,
            "SOFTPLUS": p.softplus,
            "SHARED": p.shared,
            "num_warps": WARPS,
        }

    def grid(self, groups: int) -> tuple[int, int]:
        # The large number goes to x, because the other axes are limited to 65,535.
        return self.chunks * self.batch * groups, self.blocks

    def states(self) -> tuple[Tensor, Tensor]:
        """Compute the state after each chunk, ``(batch, G, chunks, N, D)``, and the sum of the chunk's steps."""
        p = self.problem
        ends = self.A.new_empty(self.batch, self.groups, self.chunks, self.states_each, self.channels)
        totals = self.A.new_empty(self.batch, self.groups, self.chunks, self.channels)
        kernels.chunk_states[self.grid(self.groups)](
            p.u, p.delta, p.weight, p.bias, self.A, p.B, self.directions, ends, totals, *self.sizes,
            *p.u.stride(), *p.delta.stride(), *p.B.stride(), **self.constants,
        )  # fmt: skip
        self._combine(ends, totals, reverse=False)
        return ends, totals

    def adjoints(self, grad: Tensor, totals: Tensor) -> Tensor:
        """Compute the gradient that each chunk and all chunks after it pass to the state before the chunk."""
        p = self.problem
        starts = self.A.new_empty(self.batch, self.groups, self.chunks, self.states_each, self.channels)
        kernels.chunk_adjoints[self.grid(self.groups)](
            grad, p.delta, p.weight, p.bias, self.A, p.C, self.directions, starts, *self.sizes,
            *grad.stride(), *p.delta.stride(), *p.C.stride(), **self.constants,
        )  # fmt: skip
        self._combine(starts, totals, reverse=True)
        return starts

    def _combine(self, states: Tensor, totals: Tensor, reverse: bool) -> None:
        kernels.combine_chunks[(self.batch * self.groups, self.states_each, self.blocks)](
            states, totals, self.A, self.channels, self.groups, self.chunks,
            N=self.states_each, T=CHUNK, BLOCK=self.block, REVERSE=reverse, num_warps=WARPS,
        )  # fmt: skip
