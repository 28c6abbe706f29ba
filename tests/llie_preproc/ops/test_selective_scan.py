"""Every backend of ``selective_scan`` agrees with the definition in float64, and with filters and sums."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from llie_preproc.ops import selective_scan, selective_scan_2d
from tests.support.scans import (
    COMPILED,
    DEVICE,
    FAST,
    INTERPRETED,
    Inputs,
    assert_close,
    every_backend,
    image,
    in_float64,
    results,
    sequence,
)

pytestmark = pytest.mark.usefixtures("small_tiles")


def compare_with_definition(backend: str, inputs: Inputs, softplus: bool) -> None:
    if not softplus:
        # A negative step would let the state grow without bound.
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
def test_output_and_gradients_follow_the_definition(
    backend: str, batch: int, channels: int, length: int, states: int, groups: int, softplus: bool, seed: int
) -> None:
    compare_with_definition(backend, sequence(batch, channels * groups, length, states, groups, seed), softplus)


@pytest.mark.parametrize("backend", COMPILED)
@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(1, 12), width=st.integers(1, 12), channels=st.integers(1, 20), states=st.integers(1, 17),
    rank=st.integers(0, 5),
)  # fmt: skip
def test_images_follow_the_definition(
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
def test_interpreted_kernels_follow_the_definition(
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
def test_interpreted_kernels_follow_the_definition_on_images(
    backend: str, height: int, width: int, channels: int, states: int, rank: int
) -> None:
    compare_images_with_definition(backend, image(1, height, width, channels, states, rank))


@pytest.mark.slow
@every_backend
def test_many_chunks_and_blocks_follow_the_definition(backend: str) -> None:
    """The chunks need several passes and the channels several blocks, and the last of each is not full."""
    shape = (1, 5, 77, 2) if backend in INTERPRETED else (1, 67, 64 * 64 + 77, 2)
    found = results(selective_scan, sequence(*shape), delta_softplus=True, backend=backend)
    assert_close(found, defined(*shape))


@functools.cache
def defined(*shape: int) -> dict[str, Tensor]:
    """Output and gradients by the definition for ``sequence(*shape)``."""
    return results(selective_scan, in_float64(sequence(*shape)), delta_softplus=True, backend="reference")


def walked_by_hand(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """The scan of an image as four one-dimensional scans over flipped and transposed copies."""
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
def test_a_direction_can_be_chosen(backend: str) -> None:
    """A walk in reverse equals the forward walk over the picture turned by 180 degrees."""
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
def test_without_decay_the_scan_is_a_cumulative_sum(backend: str) -> None:
    u, ones = torch.randn(1, 3, 60, device=DEVICE), torch.ones(1, 1, 60, device=DEVICE)
    y = selective_scan(u, torch.ones_like(u), torch.zeros(3, 1, device=DEVICE), ones, ones, backend=backend)
    assert torch.allclose(y, u.cumsum(2), atol=1e-4)


@every_backend
def test_a_strong_decay_leaves_only_the_current_input(backend: str) -> None:
    u, ones = torch.randn(1, 2, 50, device=DEVICE), torch.ones(1, 1, 50, device=DEVICE)
    y = selective_scan(
        u, 50 * torch.ones_like(u), torch.full((2, 1), -60.0, device=DEVICE), ones, ones, backend=backend
    )
    assert torch.allclose(y, 50 * u)


@pytest.mark.examples(3)
@every_backend
@pytest.mark.parametrize("name", ["u", "delta", "B"])
def test_nan_spreads_from_its_position_on(backend: str, name: str) -> None:
    inputs = sequence(1, 3, 30, 2)
    inputs[name][..., 20] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True, backend=backend)
    assert torch.isfinite(y[..., :20]).all()
    assert torch.isnan(y[..., 20:]).all()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest relative error of all elements."""
    return float(((found.double() - expected) / expected).abs().max())


@every_backend
def test_small_steps_keep_their_digits(backend: str) -> None:
    """Mamba begins with steps of 1e-3, the softplus of -6.9; there log(1 + exp(x)) loses half of its digits."""
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
def test_a_large_step_does_not_cost_small_steps_their_digits(backend: str) -> None:
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
def test_autocast_does_not_change_the_scan(backend: str) -> None:
    inputs = image(1, 2, 3, channels=3, states=2)
    with torch.autocast(DEVICE, torch.bfloat16):
        inside = selective_scan_2d(**inputs, backend=backend)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, selective_scan_2d(**inputs, backend=backend))


@every_backend
def test_inputs_may_have_any_strides(backend: str) -> None:
    """Inputs may come from a transposition or a split, or be one picture expanded to a batch."""
    inputs = sequence(2, 3, 10, 2)

    def close_to_contiguous(strided: Inputs) -> bool:
        contiguous = {k: v.contiguous() for k, v in strided.items()}
        y, expected = (selective_scan(**x, delta_softplus=True, backend=backend) for x in (strided, contiguous))
        return torch.allclose(y, expected, atol=1e-6)

    assert close_to_contiguous({k: v.transpose(-1, 0).contiguous().transpose(-1, 0) for k, v in inputs.items()})
    assert close_to_contiguous({**inputs, "u": inputs["u"][:1].expand(2, -1, -1)})


@every_backend
def test_an_empty_sequence_gives_an_empty_result(backend: str) -> None:
    inputs = sequence(length=0)
    assert selective_scan(**inputs, backend=backend).shape == (2, 6, 0)
