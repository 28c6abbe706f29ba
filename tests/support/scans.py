"""Arguments of selective scans, their results with gradients, and the available backends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from llie_preproc.ops import scan_backends
from llie_preproc.ops.scan import gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FAST = [b.name for b in scan_backends() if b.available and b.name in ("triton", "mamba_ssm", "numba", "chunked")]
if DEVICE == "cuda":
    FAST.remove("numba")
"""Available backends, except the slow reference with which the tests compare them."""

every_backend = pytest.mark.parametrize("backend", FAST)
INTERPRETED = ["triton"] if os.environ.get("TRITON_INTERPRET") == "1" else []
COMPILED = [name for name in FAST if name not in INTERPRETED]
"""Backends of :data:`FAST` that do not run element by element in Triton's interpreter."""

OPERATOR = [name for name in COMPILED if name != "mamba_ssm"]
"""Backends of :data:`COMPILED` that the library's own PyTorch operator calls."""

Inputs = dict[str, Any]


@pytest.fixture(scope="module")
def small_tiles() -> Iterator[None]:
    """Make chunks and blocks small under Triton's interpreter, which computes element by element.

    A short sequence then still has several of each.
    """
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("TRITON_INTERPRET") == "1":
            patch.setattr(gpu, "CHUNK", 8)
            patch.setattr(gpu, "BLOCK", 4)
        yield


def sequence(
    batch: int = 2, channels: int = 6, length: int = 50, states: int = 4, groups: int = 1, seed: int = 0
) -> Inputs:
    """Arguments of ``selective_scan``, all of them given."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    return {
        "u": normal(batch, channels, length),
        "delta": normal(batch, channels, length),
        "A": -3 * torch.rand(channels, states, generator=generator).to(DEVICE),
        "B": normal(batch, groups, states, length),
        "C": normal(batch, groups, states, length),
        "D": normal(channels),
        "delta_bias": normal(channels),
    }


def image(batch: int = 2, height: int = 7, width: int = 9, channels: int = 6, states: int = 4, rank: int = 3) -> Inputs:
    """Arguments of ``selective_scan_2d``, with a step size of low rank unless ``rank`` is 0."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    pixels = (batch, height, width)
    return {
        "u": normal(*pixels, channels),
        "delta": normal(*pixels, 4, rank or channels),
        "A": -3 * torch.rand(4, channels, states, generator=generator).to(DEVICE),
        "B": normal(*pixels, 4, states),
        "C": normal(*pixels, 4, states),
        "D": normal(4, channels),
        "delta_bias": normal(4, channels),
        **({"delta_weight": normal(4, channels, rank)} if rank else {}),
    }


def results(scan: Callable[..., Tensor], inputs: Inputs, **options: Any) -> dict[str, Tensor]:
    """The output, and the gradients of a fixed weighted sum of it."""
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    y = scan(**leaves, **options)
    # These weights are exact in every dtype.
    weights = (torch.arange(y.numel(), device=y.device) % 7 - 3).view(y.shape) / 2
    grads = torch.autograd.grad((y * weights.to(y.dtype)).sum(), list(leaves.values()))
    return {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}


def in_float64(inputs: Inputs) -> Inputs:
    return {k: v.double() for k, v in inputs.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert differences of at most 1e-5 of the largest output, and 1e-4 of the largest value of each gradient."""
    for name, value in expected.items():
        bound = (1e-5 if name == "y" else 1e-4) * value.abs().max().clamp(min=1e-3)
        assert (found[name].double() - value).abs().max() <= bound, name
