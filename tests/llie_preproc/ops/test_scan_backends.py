"""The scan is an operator of torch that can be compiled and counted; its backends are chosen or refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from llie_preproc.ops import scan_backends, selective_scan, selective_scan_2d
from llie_preproc.ops.scan import mamba
from llie_preproc.ops.scan.problem import Problem
from tests.support.places import ROOT
from tests.support.scans import COMPILED, DEVICE, FAST, OPERATOR, Inputs, assert_close, image, results, sequence

pytestmark = pytest.mark.usefixtures("small_tiles")

COMPILE = ROOT / "tests" / "support" / "compile_kernels.py"


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
def test_the_scan_compiles_into_one_graph(backend: str) -> None:
    inputs = image()
    compiled = torch.compile(lambda **x: selective_scan_2d(**x, backend=backend), fullgraph=True, backend="aot_eager")
    expected = results(selective_scan_2d, inputs, backend=backend)
    for name, value in results(compiled, inputs).items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_operations_are_counted_by_the_formula() -> None:
    inputs = image(2, 7, 9, 6, 4, 3)
    with FlopCounterMode(display=False) as counter:
        selective_scan_2d(**inputs)
    assert counter.get_total_flops() == 2 * 7 * 9 * 4 * 6 * (9 * 4 + 2 * 3)


@pytest.mark.skipif("numba" not in FAST, reason="the fused CPU kernel is for the CPU, and needs Numba")
class TestThreads:
    """Numba's own thread pools fail in these cases; the threads that the backend starts must not."""

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

    def test_workers_of_a_data_loader_compute_the_same(self) -> None:
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
# Both passes run once before memory is measured, so that imports and compilation do not count.
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
def test_a_million_positions_need_bounded_memory(backend: str) -> None:
    """An ``L x D x N`` tensor would take 488 MiB; the inputs and gradients of 16 states take 61 MiB each."""
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
def test_wrong_shapes_are_refused_by_name(change: Inputs, message: str) -> None:
    inputs = {k: v.cpu() for k, v in sequence().items()}
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**inputs, **change})


@pytest.mark.parametrize("wrong", [torch.zeros(2, 6, 50, dtype=torch.int64), np.zeros((2, 6, 50)), None])
def test_wrong_types_are_refused_by_name(wrong: Any) -> None:
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
def test_wrong_images_are_refused_by_name(change: Inputs, message: str) -> None:
    inputs = {k: v.cpu() for k, v in image().items()}
    with pytest.raises(ValueError, match=message):
        selective_scan_2d(**{**inputs, **change})


def test_the_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = sequence()
    monkeypatch.setenv("LLIE_SCAN_BACKEND", "reference")
    by_environment = selective_scan(**inputs)
    assert torch.equal(by_environment, selective_scan(**inputs, backend="reference"))
    assert not torch.equal(by_environment, selective_scan(**inputs, backend="chunked"))
    monkeypatch.setenv("LLIE_SCAN_BACKEND", "fastest")
    with pytest.raises(ValueError, match=r"no scan backend 'fastest'; there are: triton, mamba_ssm, numba, chunked"):
        selective_scan(**inputs)


@pytest.mark.skipif(DEVICE == "cuda", reason="the backend can run here")
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
    """The function as mamba-ssm documents it: contiguous float32 ``(batch, dim, L)`` and ``(batch, G, N, L)``."""
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
@pytest.mark.skipif(DEVICE == "cuda", reason="the kernels run on this machine")
@pytest.mark.parametrize("variant", [("80", "0", "float32", "plain"), ("90", "4", "bfloat16", "full")])
def test_the_kernels_compile_for_gpus(variant: tuple[str, ...]) -> None:
    """The kernels compile to machine code without a device."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, COMPILE, *variant], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["chunk_states", "chunk_adjoints", "outputs", "gradients", "combine_chunks"]
