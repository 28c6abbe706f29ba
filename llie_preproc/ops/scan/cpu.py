"""The fused CPU backend: it splits the work of :mod:`.cpu_kernels` among threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .problem import Gradients, Problem

# With fewer channels, lanes of the vector instructions would stay empty.
_LEAST_CHANNELS = 16


def forward(problem: Problem) -> Tensor:
    """Compute ``y``, in the shape of ``u`` and in float32."""
    from .cpu_kernels import forward_task

    arrays = _arrays(problem)
    y = torch.empty_like(problem.u, dtype=torch.float32)
    tasks = _tasks(problem)
    _run(forward_task(), ((*task[:3], *arrays, y.numpy()) for task in tasks))
    return y


def backward(problem: Problem, grad: Tensor) -> Gradients:
    """Compute the gradients in float32."""
    from .cpu_kernels import backward_task

    p, arrays = problem, _arrays(problem)
    tasks = _tasks(p)
    parts = 1 + max(task.part for task in tasks)
    batch, _, groups, states = p.B.shape
    channels, rank = p.A.shape[1], p.weight.shape[2] if p.weight is not None else 0
    du = torch.empty_like(p.u, dtype=torch.float32)
    # A sum over channels has a copy for each part of the channels; a sum over images has one for each image.
    dB, dC = (torch.zeros((parts, *p.B.shape)) for _ in range(2))
    ddelta = torch.zeros((parts if rank else 1, *p.delta.shape))
    dweight = torch.zeros((batch, groups, rank, channels))
    dbias, dskip = (torch.zeros((batch, groups, channels)) for _ in range(2))
    dA = torch.zeros((batch, groups, states, channels))
    grads = grad.detach().float().numpy()

    def arguments(task: _Task) -> tuple[Any, ...]:
        b, part = task.b, task.part
        own = (ddelta[part if rank else 0], dweight[b], dbias[b], dA[b], dB[part], dC[part], dskip[b])
        return (*task[:3], *arrays, grads, du.numpy(), *(x.numpy() for x in own))

    _run(backward_task(), map(arguments, tasks))
    return Gradients(
        u=du,
        delta=ddelta.sum(0),
        weight=dweight.sum(0).mT if rank else None,
        bias=dbias.sum(0) if p.bias is not None else None,
        A=dA.sum(0).mT,
        B=dB.sum(0),
        C=dC.sum(0),
        skip=dskip.sum(0) if p.skip is not None else None,
    )


class _Task(NamedTuple):
    b: int
    begin: int
    end: int
    part: int


def _tasks(problem: Problem) -> list[_Task]:
    """Tasks that cut the channels of each image so that every thread has work."""
    batch, channels = problem.u.shape[0], problem.A.shape[1]
    wanted = math.ceil(torch.get_num_threads() / batch)
    size = _LEAST_CHANNELS * math.ceil(channels / wanted / _LEAST_CHANNELS)
    return [
        _Task(b, begin, min(begin + size, channels), part)
        for b in range(batch)
        for part, begin in enumerate(range(0, channels, size))
    ]


def _arrays(p: Problem) -> tuple[Any, ...]:
    groups, channels, _ = p.A.shape
    weight = p.weight.mT if p.weight is not None else p.A.new_zeros(groups, 0, channels)
    bias, skip = (x if x is not None else p.A.new_zeros(groups, channels) for x in (p.bias, p.skip))
    walked = [x.detach().float().numpy() for x in (p.u, p.delta)]
    small = [x.detach().float().contiguous().numpy() for x in (weight, bias, p.A.mT)]
    states = [x.detach().float().numpy() for x in (p.B, p.C)]
    directions = np.array(p.directions, np.int64)
    return (
        *walked, *small, *states, skip.detach().float().contiguous().numpy(), directions, p.columns, p.softplus,
    )  # fmt: skip


def _run(task: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> None:
    """Run the calls on as many threads as PyTorch may use.

    The kernels release the interpreter lock. New threads are started for each call, because Numba's thread pools abort
    after a fork (data loader workers) or when two threads enter them.
    """
    calls, threads = list(calls), torch.get_num_threads()
    if len(calls) == 1 or threads == 1:
        for call in calls:
            task(*call)
        return
    with ThreadPoolExecutor(min(threads, len(calls))) as pool:
        for future in [pool.submit(task, *call) for call in calls]:
            future.result()
