"""The PyTorch operator of all backends, with its gradient, its shapes and its number of operations (FLOPs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...after_import import after_import
from .backends import implementation
from .problem import Problem

DIFFERENTIABLE = ("reference", "mamba_ssm")
"""Backends that are differentiable by themselves and are called outside the operator."""


# The schema is written out, because not every supported PyTorch can infer it from annotations.
_ARGUMENTS = (
    "Tensor u, Tensor delta, Tensor? weight, Tensor? bias, Tensor A, Tensor B, Tensor C, Tensor? skip, "
    "int[] directions, SymInt columns, bool softplus, str backend"
)


def _in_float32(tensor: Tensor) -> torch.autocast:
    """Switch autocast off, which would otherwise change the arithmetic of the backends."""
    return torch.autocast(tensor.device.type, enabled=False)


def _like(found: Tensor, tensor: Tensor) -> Tensor:
    """Convert ``found`` to the dtype and layout of ``torch.empty_like(tensor)``, which the operator has announced."""
    announced = torch.empty_like(tensor)
    same = found.dtype == announced.dtype and found.stride() == announced.stride()
    return found if same else announced.copy_(found)


@torch.library.custom_op("llie_preproc::selective_scan", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def scan(
    u: Tensor,
    delta: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    directions: Sequence[int],
    columns: int,
    softplus: bool,
    backend: str,
) -> Tensor:
    """Compute the ``y`` of a :class:`~llie_preproc.ops.scan.problem.Problem` in the dtype of ``u``."""
    problem = Problem(u, delta, weight, bias, A, B, C, skip, list(directions), columns, softplus)
    if not u.numel():
        return torch.empty_like(u)
    with _in_float32(u):
        return _like(implementation(backend).forward(problem), u)


@torch.library.custom_op(
    "llie_preproc::selective_scan_backward", mutates_args=(), schema=f"(Tensor grad, {_ARGUMENTS}) -> Tensor[]"
)
def scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    directions: Sequence[int],
    columns: int,
    softplus: bool,
    backend: str,
) -> list[Tensor]:
    """Compute the gradients with respect to the tensors that are not None, in their order and dtypes."""
    problem = Problem(u, delta, weight, bias, A, B, C, skip, list(directions), columns, softplus)
    given = [x for x in problem[:8] if x is not None]
    if not u.numel():
        return [torch.zeros_like(x) for x in given]
    with _in_float32(u):
        grads = [g for g in implementation(backend).backward(problem, grad) if g is not None]
    return [_like(g, x) for g, x in zip(grads, given, strict=True)]


@scan.register_fake
def _(u: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(u)


@scan_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    return [torch.empty_like(x) for x in inputs[:8] if x is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.settings = inputs[8:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    grads = iter(scan_backward(grad, *tensors, *ctx.settings))
    return (*(None if x is None else next(grads) for x in tensors), None, None, None, None)


scan.register_autograd(_differentiate, setup_context=_save)


def scan_flops(u_shape: Any, delta_shape: Any, weight: Any, bias: Any, A_shape: Any, *_: Any, **__: Any) -> int:
    """Count ``9 batch L D N`` operations for each group, by the formula that is usual for Mamba networks.

    The projection of a low-rank step is a matrix product and adds ``2 batch L D R`` for each group.
    """
    groups, channels, states = A_shape
    pixels = u_shape[0] * u_shape[1]
    rank = delta_shape[-1] if weight is not None else 0
    return pixels * groups * channels * (9 * states + 2 * rank)


def scan_backward_flops(grad_shape: Any, *shapes: Any, **kwargs: Any) -> int:
    """Count twice the operations of the forward pass, as is usual."""
    return 2 * scan_flops(*shapes, **kwargs)


def _register_flops() -> None:
    from torch.utils.flop_counter import register_flop_formula

    register_flop_formula(torch.ops.llie_preproc.selective_scan)(scan_flops)
    register_flop_formula(torch.ops.llie_preproc.selective_scan_backward)(scan_backward_flops)


# The counter is not imported here, because it imports Triton.
after_import("torch.utils.flop_counter", _register_flops)


def compute(problem: Problem, backend: str) -> Tensor:
    """Compute ``y``, in the shape and dtype of ``u``.

    Args:
        problem: Scan to compute.
        backend: Name that :func:`~llie_preproc.ops.scan.backends.choose_backend` returned.
    """
    # Empty and 'meta' tensors go through the operator, which knows their shapes and FLOPs without computing.
    if backend in DIFFERENTIABLE and problem.u.numel() and not problem.u.is_meta:
        with _in_float32(problem.u):
            return implementation(backend).forward(problem).to(problem.u.dtype)
    return scan(*problem, backend)
