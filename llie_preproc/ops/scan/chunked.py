"""Selective scan in plain PyTorch, for every device.

The sequence is cut into chunks of T positions. Inside a chunk, recursive doubling solves ``h_t = a_t h_{t-1} + x_t``
for all positions in log2(T) steps, without the division by decayed factors that makes the cumulative-sum form overflow.
Memory holds the ``T x D x N`` states of one chunk and, for the backward pass, the state before each chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .problem import Gradients, Problem

# Number of elements of one chunk's states: on the CPU they fit the cache, on other devices they keep the device busy.
_CPU_ELEMENTS, _DEVICE_ELEMENTS = 2**18, 2**22


def forward(problem: Problem) -> Tensor:
    """Compute ``y``, in the shape of ``u`` and in float32."""
    p = _in_float32(problem)
    y = torch.zeros_like(p.u, dtype=torch.float32)
    for g in range(p.A.shape[0]):
        state = p.A.new_zeros(p.u.shape[0], *p.A.shape[1:])
        for chunk in _chunks(p, g):
            states = _solve(chunk.decay, chunk.update, state)
            state = states[:, -1].clone()
            y[:, chunk.pixels, chunk.source] += torch.einsum("btdn,btn->btd", states, chunk.C) + chunk.skipped
    return y


def backward(problem: Problem, grad: Tensor) -> Gradients:
    """Compute the gradients in float32; the states are computed again, chunk by chunk."""
    p = _in_float32(problem)
    tensors = {k: v for k, v in p._asdict().items() if isinstance(v, Tensor)}
    zeros = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in tensors.items()}
    grads = Gradients(**{k: zeros.get(k) for k in Gradients._fields})  # type: ignore[arg-type]
    for g in range(p.A.shape[0]):
        state = p.A.new_zeros(p.u.shape[0], *p.A.shape[1:])
        entries = []
        for chunk in _chunks(p, g):
            entries.append(state)
            # A view instead of the clone would keep all states of the chunk in memory.
            state = _solve(chunk.decay, chunk.update, state)[:, -1].clone()
        carry = torch.zeros_like(state)
        for chunk, entry in zip(_chunks(p, g, reverse=True), reversed(entries), strict=True):
            carry = _adjoint(p, g, chunk, entry, carry, grad[:, chunk.pixels, chunk.source].float(), grads)
    return grads


class _Chunk(NamedTuple):
    pixels: Tensor
    source: int
    u: Tensor
    raw: Tensor
    step: Tensor
    B: Tensor
    C: Tensor
    decay: Tensor
    update: Tensor
    skipped: Tensor | float


def _in_float32(problem: Problem) -> Problem:
    # The other inputs are as long as the sequence, so they are converted chunk by chunk.
    small = {k: v.float() for k in ("weight", "bias", "A", "skip") if (v := getattr(problem, k)) is not None}
    return problem._replace(**small)


def _chunks(p: Problem, g: int, reverse: bool = False) -> Iterator[_Chunk]:
    elements = p.u.shape[0] * p.A.shape[1] * p.A.shape[2]
    budget = _CPU_ELEMENTS if p.u.device.type == "cpu" else _DEVICE_ELEMENTS
    size = max(16, min(1024, budget // elements))
    source = 0 if p.shared else g
    parts = p.walk(g).split(size)
    for pixels in reversed(parts) if reverse else parts:
        u, B, C = (x[:, pixels, i].float() for x, i in ((p.u, source), (p.B, g), (p.C, g)))
        raw = p.raw_step(g, pixels)
        step = p.step(raw)
        decay = torch.exp(step[..., None] * p.A[g])
        update = (step * u)[..., None] * B[:, :, None]
        skipped = p.skip[g] * u if p.skip is not None else 0.0
        yield _Chunk(pixels, source, u, raw, step, B, C, decay, update, skipped)


def _solve(decay: Tensor, update: Tensor, entry: Tensor) -> Tensor:
    """Compute all states ``(batch, T, D, N)`` of a chunk from the state before it."""
    states = update.clone()
    states[:, 0] += decay[:, 0] * entry
    distance, length = 1, states.shape[1]
    while distance < length:
        states[:, distance:] += decay[:, distance:] * states[:, :-distance]
        distance *= 2
        if distance < length:
            half = distance // 2
            decay = torch.cat([decay[:, :half], decay[:, half:] * decay[:, :-half]], 1)
    return states


def _adjoint(p: Problem, g: int, chunk: _Chunk, entry: Tensor, carry: Tensor, grad: Tensor, grads: Gradients) -> Tensor:
    """Add a chunk's gradients to ``grads``, and return the gradient of the state before the chunk."""
    states = _solve(chunk.decay, chunk.update, entry)
    before = torch.cat([entry[:, None], states[:, :-1]], 1)
    # The adjoint follows the same recurrence backwards, with the decay of the following position.
    factors = torch.cat([chunk.decay[:, 1:], torch.ones_like(chunk.decay[:, :1])], 1)
    adjoint = _solve(factors.flip(1), (grad[..., None] * chunk.C[:, :, None]).flip(1), carry).flip(1)
    through = adjoint * chunk.decay
    by_decay = through * before
    by_update = torch.einsum("btdn,btn->btd", adjoint, chunk.B)
    raw_grad = (by_decay * p.A[g]).sum(-1) + by_update * chunk.u
    if p.softplus:
        raw_grad = raw_grad * torch.sigmoid(chunk.raw)
    u_grad = by_update * chunk.step
    if p.skip is not None and grads.skip is not None:
        u_grad = u_grad + p.skip[g] * grad
        grads.skip[g] += (grad * chunk.u).sum((0, 1))
    if p.bias is not None and grads.bias is not None:
        grads.bias[g] += raw_grad.sum((0, 1))
    if p.weight is not None and grads.weight is not None:
        grads.weight[g] += torch.einsum("btd,btr->dr", raw_grad, p.delta[:, chunk.pixels, g].float())
        raw_grad = raw_grad @ p.weight[g]
    grads.u[:, chunk.pixels, chunk.source] += u_grad
    grads.delta[:, chunk.pixels, g] = raw_grad
    grads.A[g] += (by_decay * chunk.step[..., None]).sum((0, 1))
    grads.B[:, chunk.pixels, g] = torch.einsum("btdn,btd->btn", adjoint, chunk.step * chunk.u)
    grads.C[:, chunk.pixels, g] = torch.einsum("btdn,btd->btn", states, grad)
    return through[:, 0]
