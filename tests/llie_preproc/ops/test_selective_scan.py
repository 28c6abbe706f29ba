"""The selective scan: every backend against the definition in float64, and against what does not know of it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from llie_preproc.ops import scan_backends, selective_scan, selective_scan_2d
from llie_preproc.ops.scan import gpu, mamba
from llie_preproc.ops.scan.problem import Problem
from tests.support.places import ROOT

COMPILE = ROOT / "tests" / "support" / "compile_kernels.py"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FAST = [b.name for b in scan_backends() if b.available and b.name in ("triton", "mamba_ssm", "numba", "chunked")]
if DEVICE == "cuda":
    FAST.remove("numba")
every_backend = pytest.mark.parametrize("backend", FAST)
INTERPRETED = ["triton"] if os.environ.get("TRITON_INTERPRET") == "1" else []
COMPILED = [name for name in FAST if name not in INTERPRETED]
OPERATOR = [name for name in COMPILED if name != "mamba_ssm"]
Inputs = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _small_tiles() -> Iterator[None]:
    """Triton's interpreter computes element by element: several chunks and blocks in as few as possible."""
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
    """Arguments of ``selective_scan_2d``; a low-rank step unless ``rank`` is 0."""
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
    """The output and the gradients of a fixed functional of it."""
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    y = scan(**leaves, **options)
    # Exact in every dtype.
    weights = (torch.arange(y.numel(), device=y.device) % 7 - 3).view(y.shape) / 2
    grads = torch.autograd.grad((y * weights.to(y.dtype)).sum(), list(leaves.values()))
    return {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}


def in_float64(inputs: Inputs) -> Inputs:
    return {k: v.double() for k, v in inputs.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """1e-5 of the largest output, 1e-4 of the largest gradient."""
    for name, value in expected.items():
        bound = (1e-5 if name == "y" else 1e-4) * value.abs().max().clamp(min=1e-3)
        assert (found[name].double() - value).abs().max() <= bound, name


def compare_with_definition(backend: str, inputs: Inputs, softplus: bool) -> None:
    if not softplus:
        # A step below zero would let the state grow without bound.
        inputs["delta"], inputs["delta_bias"] = inputs["delta"].abs(), inputs["delta_bias"].abs()
    found = results(selective_scan, inputs, delta_softplus=softplus, backend=backend)
    expected = results(selective_scan, in_float64(inputs), delta_softplus=softplus, backend="reference")
    assert_close(found, expected)


def compare_images_with_definition(backend: str, inputs: Inputs) -> None:
    found = results(selective_scan_2d, inputs, backend=backend)
    assert_close(found, results(selective_scan_2d, in_float64(inputs), backend="reference"))


@pytest.mark.parametrize("backend", COMPILED)
@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 20), length=st.integers(1, 150), states=st.integers(1, 18),
    groups=st.integers(1, 2), softplus=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_output_and_gradients_are_the_definitions(
    backend: str, batch: int, channels: int, length: int, states: int, groups: int, softplus: bool, seed: int
) -> None:
    compare_with_definition(backend, sequence(batch, channels * groups, length, states, groups, seed), softplus)


@pytest.mark.parametrize("backend", COMPILED)
@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(1, 12), width=st.integers(1, 12), channels=st.integers(1, 20), states=st.integers(1, 17),
    rank=st.integers(0, 5),
)  # fmt: skip
def test_images_are_the_definitions(
    backend: str, height: int, width: int, channels: int, states: int, rank: int
) -> None:
    compare_images_with_definition(backend, image(2, height, width, channels, states, rank))


@pytest.mark.slow
@pytest.mark.parametrize("backend", INTERPRETED)
@settings(max_examples=5, deadline=None)
@given(
    batch=st.integers(1, 2), channels=st.integers(1, 6), length=st.integers(1, 20), states=st.integers(1, 3),
    groups=st.integers(1, 2), softplus=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_interpreted_kernels_are_the_definition(
    backend: str, batch: int, channels: int, length: int, states: int, groups: int, softplus: bool, seed: int
) -> None:
    compare_with_definition(backend, sequence(batch, channels * groups, length, states, groups, seed), softplus)


@pytest.mark.slow
@pytest.mark.parametrize("backend", INTERPRETED)
@settings(max_examples=4, deadline=None)
@given(
    height=st.integers(1, 4), width=st.integers(1, 4), channels=st.integers(1, 6), states=st.integers(1, 2),
    rank=st.integers(0, 2),
)  # fmt: skip
def test_interpreted_images_are_the_definition(
    backend: str, height: int, width: int, channels: int, states: int, rank: int
) -> None:
    compare_images_with_definition(backend, image(1, height, width, channels, states, rank))


@pytest.mark.slow
@every_backend
def test_many_chunks(backend: str) -> None:
    """More chunks than the pass over the chunks takes at a time, channels beyond a block, a part of each left over."""
    shape = (1, 5, 77, 2) if backend in INTERPRETED else (1, 67, 64 * 64 + 77, 2)
    found = results(selective_scan, sequence(*shape), delta_softplus=True, backend=backend)
    assert_close(found, defined(*shape))


@functools.cache
def defined(*shape: int) -> dict[str, Tensor]:
    """What the definition gives for ``sequence(*shape)``."""
    return results(selective_scan, in_float64(sequence(*shape)), delta_softplus=True, backend="reference")


def walked_by_hand(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Four one-dimensional scans over flipped and transposed copies."""
    total = torch.zeros_like(u)
    for k in range(4):

        def walk(x: Tensor, k: int = k) -> Tensor:
            x = x.transpose(1, 2) if k % 2 else x
            x = x.flatten(1, 2).transpose(1, 2)
            return x.flip(2) if k >= 2 else x

        y = selective_scan(
            walk(u), walk(delta[..., k, :]), A[k], walk(B[..., k, :]), walk(C[..., k, :]), D[k],
            delta_bias=delta_bias[k], delta_softplus=True, backend="reference",
        )  # fmt: skip
        y = (y.flip(2) if k >= 2 else y).transpose(1, 2)
        height, width = u.shape[1:3]
        total += y.unflatten(1, (width, height)).transpose(1, 2) if k % 2 else y.unflatten(1, (height, width))
    return total


@pytest.mark.examples(6)
@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 4)])
def test_an_image_is_four_sequences(backend: str, size: tuple[int, int]) -> None:
    inputs = image(1 if backend in INTERPRETED else 2, *size, rank=0)
    assert torch.allclose(selective_scan_2d(**inputs, backend=backend), walked_by_hand(**inputs), atol=1e-4)


@every_backend
def test_chosen_directions(backend: str) -> None:
    """One walk from the end is that walk over the picture turned by half a turn."""
    inputs = image(1, 3, 4, rank=0) if backend in INTERPRETED else image(rank=0)
    one = {k: v[..., :1, :] if k in ("delta", "B", "C") else v[:1] if k != "u" else v for k, v in inputs.items()}
    turned = {k: v.flip(1, 2) if k in ("u", "delta", "B", "C") else v for k, v in one.items()}
    forwards = selective_scan_2d(**turned, directions=["rows"], backend=backend).flip(1, 2)
    assert torch.allclose(selective_scan_2d(**one, directions=["rows_reversed"], backend=backend), forwards, atol=1e-5)


@every_backend
def test_a_constant_scan_is_a_recursive_filter(backend: str) -> None:
    """With one state and constant coefficients, ``h[t] = a h[t-1] + b u[t]``."""
    step, rate, length = 0.3, -0.7, 100
    u = torch.randn(1, 1, length, device=DEVICE)
    ones = torch.ones(1, 1, length, device=DEVICE)
    y = selective_scan(u, step * ones, torch.full((1, 1), rate, device=DEVICE), ones, 2 * ones, backend=backend)
    expected = lfilter([2 * step], [1, -np.exp(step * rate)], u[0, 0].cpu().double().numpy())
    assert np.allclose(y[0, 0].cpu(), expected, atol=1e-5)


@every_backend
def test_without_decay_it_sums(backend: str) -> None:
    u, ones = torch.randn(1, 3, 60, device=DEVICE), torch.ones(1, 1, 60, device=DEVICE)
    y = selective_scan(u, torch.ones_like(u), torch.zeros(3, 1, device=DEVICE), ones, ones, backend=backend)
    assert torch.allclose(y, u.cumsum(2), atol=1e-4)


@every_backend
def test_a_strong_decay_neither_overflows_nor_leaves_anything(backend: str) -> None:
    u, ones = torch.randn(1, 2, 50, device=DEVICE), torch.ones(1, 1, 50, device=DEVICE)
    y = selective_scan(
        u, 50 * torch.ones_like(u), torch.full((2, 1), -60.0, device=DEVICE), ones, ones, backend=backend
    )
    assert torch.allclose(y, 50 * u)


@pytest.mark.examples(3)
@every_backend
@pytest.mark.parametrize("name", ["u", "delta", "B"])
def test_nan_shows_from_where_it_stands(backend: str, name: str) -> None:
    inputs = sequence(1, 3, 30, 2)
    inputs[name][..., 20] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True, backend=backend)
    assert torch.isfinite(y[..., :20]).all()
    assert torch.isnan(y[..., 20:]).all()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest of all elements."""
    return float(((found.double() - expected) / expected).abs().max())


@every_backend
def test_small_steps_keep_their_digits(backend: str) -> None:
    """Mamba begins with steps of 1e-3: softplus of -6.9, where log(1 + e) has lost half of its digits."""
    inputs = {k: v.abs() for k, v in sequence(1, 3, 20, 2).items()}
    inputs["A"] = -inputs["A"]
    for shift in (-4, -7, -12):
        shifted = {
            **inputs,
            "delta": 0.1 * inputs["delta"],
            "delta_bias": torch.full((3,), float(shift), device=DEVICE),
        }
        shifted["D"] = torch.zeros(3, device=DEVICE)
        y = selective_scan(**shifted, delta_softplus=True, backend=backend)
        exact = selective_scan(**in_float64(shifted), delta_softplus=True, backend="reference")
        assert relative_error(y, exact) < 3e-6


@every_backend
def test_a_large_step_leaves_small_ones_their_digits(backend: str) -> None:
    inputs = {k: v.abs() for k, v in sequence(1, 2, 40, 2).items() if not k.startswith("D") and k != "delta_bias"}
    inputs["A"] = torch.full((2, 2), -16.0, device=DEVICE)
    inputs["delta"] = torch.full_like(inputs["delta"], 1e-3)
    inputs["delta"][..., :2] = 300.0
    y = selective_scan(**inputs, backend=backend)
    assert relative_error(y, selective_scan(**in_float64(inputs), backend="reference")) < 1e-5


@pytest.mark.examples(1)
@every_backend
@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_strong_decays_keep_the_digits_of_their_gradient(backend: str, step: float) -> None:
    inputs = {k: v.abs() for k, v in sequence(1, 2, 20, 2).items() if k in ("u", "A", "B", "C")}
    inputs["A"] = torch.full((2, 2), -16.0, device=DEVICE)
    inputs["delta"] = torch.full_like(inputs["u"], step)
    leaves = [{k: v.clone().requires_grad_() for k, v in x.items()} for x in (inputs, in_float64(inputs))]
    for x, name in zip(leaves, (backend, "reference"), strict=True):
        selective_scan(**x, backend=name).sum().backward()
    assert relative_error(leaves[0]["A"].grad, leaves[1]["A"].grad) < 1e-4


@every_backend
def test_a_step_of_minus_infinity_skips_a_position(backend: str) -> None:
    inputs = sequence(1, 3, 20, 2)
    masked = {k: v.clone() for k, v in inputs.items()}
    masked["delta"][..., 7] = -float("inf")
    left = {
        k: torch.cat([v[..., :7], v[..., 8:]], -1) if k in ("u", "delta", "B", "C") else v for k, v in inputs.items()
    }
    y = selective_scan(**masked, delta_softplus=True, backend=backend)
    expected = selective_scan(**left, delta_softplus=True, backend="reference")
    assert torch.allclose(y[..., 8:], expected[..., 7:], atol=1e-5)


@pytest.mark.examples(2)
@every_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(backend: str, dtype: torch.dtype) -> None:
    inputs = sequence(1, 3, 9, 2)
    rounded = {k: v.to(dtype) if k in ("u", "delta", "B", "C") else v for k, v in inputs.items()}
    found = results(selective_scan, rounded, delta_softplus=True, backend=backend)
    exact = results(selective_scan, {k: v.float() for k, v in rounded.items()}, delta_softplus=True, backend=backend)
    assert found["y"].dtype == dtype
    for name, value in {"y": rounded["u"], **rounded}.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], exact[name].to(value.dtype))


@every_backend
def test_autocast_changes_nothing(backend: str) -> None:
    inputs = image(1, 2, 3, channels=3, states=2)
    with torch.autocast(DEVICE, torch.bfloat16):
        inside = selective_scan_2d(**inputs, backend=backend)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, selective_scan_2d(**inputs, backend=backend))


@every_backend
def test_strides_are_read(backend: str) -> None:
    """Inputs as they come out of a transposition or a split, and one picture expanded to a batch."""
    inputs = sequence(2, 3, 10, 2)

    def close_to_contiguous(strided: Inputs) -> bool:
        contiguous = {k: v.contiguous() for k, v in strided.items()}
        y, expected = (selective_scan(**x, delta_softplus=True, backend=backend) for x in (strided, contiguous))
        return torch.allclose(y, expected, atol=1e-6)

    assert close_to_contiguous({k: v.transpose(-1, 0).contiguous().transpose(-1, 0) for k, v in inputs.items()})
    assert close_to_contiguous({**inputs, "u": inputs["u"][:1].expand(2, -1, -1)})


@every_backend
def test_nothing_to_scan(backend: str) -> None:
    inputs = sequence(length=0)
    assert selective_scan(**inputs, backend=backend).shape == (2, 6, 0)


def operator_arguments(backend: str, softplus: bool = True) -> tuple[Any, ...]:
    x = image(1, 3, 4, 5, 2, 2)
    tensors = {k: v.flatten(1, 2) if k in ("delta", "B", "C") else v for k, v in x.items()}
    given = [
        tensors["u"].reshape(1, 12, 1, 5), tensors["delta"], tensors["delta_weight"], tensors["delta_bias"],
        tensors["A"], tensors["B"], tensors["C"], tensors["D"],
    ]  # fmt: skip
    return (*(t.requires_grad_() for t in given), [0, 1, 2, 3], 4, softplus, backend)


@pytest.mark.further
@pytest.mark.parametrize("backend", OPERATOR)
def test_the_operator_is_registered_correctly(backend: str) -> None:
    arguments = operator_arguments(backend)
    torch.library.opcheck(torch.ops.llie_preproc.selective_scan.default, arguments)
    without = (*arguments[:2], None, None, *arguments[4:7], None, [0] * 4, 4, False, backend)
    spelled = (without[0], torch.rand(1, 12, 4, 5, device=DEVICE), *without[2:])
    torch.library.opcheck(torch.ops.llie_preproc.selective_scan.default, spelled)
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in arguments)
    backward = torch.ops.llie_preproc.selective_scan_backward.default
    torch.library.opcheck(backward, (torch.rand_like(detached[0]), *detached))


@pytest.mark.parametrize("backend", OPERATOR)
def test_it_compiles_into_one_graph(backend: str) -> None:
    inputs = image()
    compiled = torch.compile(lambda **x: selective_scan_2d(**x, backend=backend), fullgraph=True, backend="aot_eager")
    expected = results(selective_scan_2d, inputs, backend=backend)
    for name, value in results(compiled, inputs).items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_flops_are_the_formula() -> None:
    inputs = image(2, 7, 9, 6, 4, 3)
    with FlopCounterMode(display=False) as counter:
        selective_scan_2d(**inputs)
    assert counter.get_total_flops() == 2 * 7 * 9 * 4 * 6 * (9 * 4 + 2 * 3)


@pytest.mark.skipif("numba" not in FAST, reason="the fused CPU kernel is for the CPU, and needs Numba")
class TestThreads:
    """Numba's own thread pools break under these; ours must not."""

    def test_the_number_of_threads_changes_nothing(self) -> None:
        inputs = image(1, 12, 11, 40)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = results(selective_scan_2d, inputs, backend="numba")
            torch.set_num_threads(3)
            together = results(selective_scan_2d, inputs, backend="numba")
        finally:
            torch.set_num_threads(before)
        assert torch.equal(alone["y"], together["y"])
        assert_close(together, alone)

    def test_data_loader_workers(self) -> None:
        expected = _Scans()[0]
        for batch in DataLoader(_Scans(), batch_size=None, num_workers=2):
            assert torch.equal(batch, expected)


class _Scans(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return selective_scan(**sequence(), delta_softplus=True, backend="numba")


_LONG = """
import resource, sys, torch
from llie_preproc.ops import selective_scan
torch.manual_seed(0)
L, D, N, backend = 1_000_000, 8, 16, sys.argv[1]
# What is imported and compiled for both passes is there before memory is measured.
u, B = torch.randn(1, D, 8, requires_grad=True), torch.randn(1, N, 8)
selective_scan(u, u, -torch.rand(D, N), B, B, delta_softplus=True, backend=backend).sum().backward()
u, B = torch.randn(1, D, L, requires_grad=True), torch.randn(1, N, L)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.no_grad():
    y = selective_scan(u, u, -torch.rand(D, N), B, B, delta_softplus=True, backend=backend)
forward = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
selective_scan(u, u, -torch.rand(D, N), B, B, delta_softplus=True, backend=backend).sum().backward()
backward = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert torch.isfinite(y).all() and torch.isfinite(u.grad).all()
print((forward - before) // 1024, (backward - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
@pytest.mark.parametrize("backend", [name for name in COMPILED if DEVICE == "cpu"])
@pytest.mark.slow
def test_a_million_positions_in_bounded_memory(backend: str) -> None:
    """An ``L x D x N`` tensor would have 488 MiB; the inputs and gradients of 16 states have 61 MiB each."""
    run = subprocess.run([sys.executable, "-c", _LONG, backend], capture_output=True, text=True, check=True)
    forward, backward = map(int, run.stdout.split())
    assert forward < 150
    assert backward < 450


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.zeros(6, 50)}, r"u must be \(batch, D, L\)"),
        ({"delta": torch.zeros(2, 6, 49)}, r"delta must have the shape \(2, 6, 50\)"),
        ({"A": torch.zeros(5, 4)}, r"A must have the shape \(6, 4\)"),
        ({"B": torch.zeros(2, 3, 50)}, r"B must have the shape \(2, 1, 4, 50\)"),
        ({"B": torch.zeros(2, 4, 4, 50)}, "do not divide into the 4 groups"),
        ({"C": torch.zeros(2, 1, 4, 1)}, r"C must have the shape"),
        ({"D": torch.zeros(1)}, r"D must have the shape \(6,\)"),
        ({"delta_bias": torch.zeros(2, 6)}, r"delta_bias must have the shape"),
        ({"u": torch.zeros(2, 6, 50, device="meta")}, "different devices"),
    ],
)
def test_wrong_shapes_are_named(change: Inputs, message: str) -> None:
    inputs = {k: v.cpu() for k, v in sequence().items()}
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**inputs, **change})


@pytest.mark.parametrize("wrong", [torch.zeros(2, 6, 50, dtype=torch.int64), np.zeros((2, 6, 50)), None])
def test_wrong_kinds_are_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match="u must be a floating point tensor"):
        selective_scan(**{**sequence(), "u": wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": ["diagonal"]}, "diagonal"),
        ({"directions": []}, "none"),
        ({"directions": ["rows"]}, r"delta must have the shape \(2, 7, 9, 1, 3\)"),
        ({"delta_weight": torch.zeros(4, 6, 2)}, "delta must have the shape"),
        ({"u": torch.zeros(2, 7, 6)}, r"u must be \(batch, H, W, D\)"),
    ],
)
def test_wrong_images_are_named(change: Inputs, message: str) -> None:
    inputs = {k: v.cpu() for k, v in image().items()}
    with pytest.raises(ValueError, match=message):
        selective_scan_2d(**{**inputs, **change})


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = sequence()
    monkeypatch.setenv("LLIE_SCAN_BACKEND", "reference")
    by_environment = selective_scan(**inputs)
    assert torch.equal(by_environment, selective_scan(**inputs, backend="reference"))
    assert not torch.equal(by_environment, selective_scan(**inputs, backend="chunked"))
    monkeypatch.setenv("LLIE_SCAN_BACKEND", "fastest")
    with pytest.raises(ValueError, match=r"no scan backend 'fastest'; there are: triton, mamba_ssm, numba, chunked"):
        selective_scan(**inputs)


@pytest.mark.skipif(DEVICE == "cuda", reason="here it can run")
def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="'triton' cannot run here: no CUDA device"):
        selective_scan(**sequence(), backend="triton")


def test_every_backend_is_listed() -> None:
    listed = {b.name: b for b in scan_backends()}
    assert list(listed) == ["triton", "mamba_ssm", "numba", "chunked", "reference"]
    assert listed["chunked"].available
    assert all(b.reason for b in listed.values())


def fake_selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:  # fmt: skip
    """What mamba-ssm documents of its function: ``(batch, dim, L)``, contiguous, ``(batch, G, N, L)``."""
    assert all(x.is_contiguous() and x.dtype == torch.float32 for x in (u, delta, B, C))
    options = {"delta_bias": delta_bias, "delta_softplus": delta_softplus}
    return selective_scan(u, delta, A, B, C, D, **options, backend="reference")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("low_rank", [True, False])
def test_mamba_ssm_is_called_as_it_documents(shared: bool, low_rank: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = fake_selective_scan_fn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", module)
    x = image(rank=3 if low_rank else 0)
    pixels = {k: v.flatten(1, 2) for k, v in x.items() if k in ("u", "delta", "B", "C")}
    u = pixels["u"][:, :, None] if shared else pixels["u"][:, :, None].expand(-1, -1, 4, -1)
    problem = Problem(
        u, pixels["delta"], x.get("delta_weight"), x["delta_bias"], x["A"], pixels["B"], pixels["C"], x["D"],
        [0, 1, 2, 3], 9, True,
    )  # fmt: skip
    expected = selective_scan_2d(**x, backend="reference").flatten(1, 2)
    y = mamba.forward(problem)
    assert y.shape == u.shape
    assert torch.allclose(y.sum(2), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda", reason="it runs there")
@pytest.mark.parametrize("variant", [("80", "0", "float32", "plain"), ("90", "4", "bfloat16", "full")])
def test_the_kernels_compile_for_gpus(variant: tuple[str, ...]) -> None:
    """To machine code, without a device."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, COMPILE, *variant], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["chunk_states", "chunk_adjoints", "outputs", "gradients", "combine_chunks"]
