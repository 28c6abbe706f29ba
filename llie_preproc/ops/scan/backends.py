"""The implementations of the selective scan, and the choice of the one that computes a call."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from ...after_import import after_import
from ...errors import require

VARIABLE = "LLIE_SCAN_BACKEND"
"""Environment variable that names the backend for all calls without a ``backend``."""


@dataclass(frozen=True)
class ScanBackend:
    """A backend, as ``llie list --backends`` shows it.

    Attributes:
        name: Name for ``backend=`` and for the environment variable ``LLIE_SCAN_BACKEND``.
        devices: Device types that it runs on; empty if it runs on every one.
        about: Description of the implementation.
        missing: Reason why it cannot run here, or None if it can.

    Examples:
        >>> ScanBackend("mine", ("cuda",), "a kernel of mine", missing="no CUDA device").available
        False
    """

    name: str
    devices: tuple[str, ...]
    about: str
    missing: str | None = None

    @property
    def available(self) -> bool:
        """Whether it can run here."""
        return self.missing is None

    @property
    def reason(self) -> str:
        """Its description or, if it cannot run here, the reason why."""
        return self.missing or self.about


def scan_backends() -> list[ScanBackend]:
    """Every backend, in the order of preference.

    Examples:
        >>> [backend.name for backend in scan_backends()]
        ['triton', 'mamba_ssm', 'numba', 'chunked', 'reference']
    """
    return [
        ScanBackend(
            "triton",
            ("cuda", "cpu") if _interpreted() else ("cuda",),
            "Triton kernels, parallel over chunks of the sequence",
            _triton_missing(),
        ),
        ScanBackend("mamba_ssm", ("cuda",), "the CUDA kernel of the mamba-ssm package", _mamba_missing()),
        ScanBackend("numba", ("cpu",), "fused CPU kernel, compiled by Numba when first used", _numba_missing()),
        ScanBackend("chunked", (), "plain PyTorch, for every device"),
        ScanBackend("reference", (), "the definition in float64, position by position: for tests"),
    ]


def choose_backend(name: str | None, device: str) -> str:
    """Choose the backend of a call.

    Args:
        name: Name of a backend; None leaves the choice to ``LLIE_SCAN_BACKEND`` or, if that is not set, takes the first
            backend that runs on ``device``.
        device: Type of the device, such as ``'cuda'``.

    Raises:
        ValueError: There is no such backend, or it cannot run here or on this type of device.

    Examples:
        >>> choose_backend("chunked", "cuda")
        'chunked'
    """
    name = name or os.environ.get(VARIABLE) or _preferred(device)
    if name in _ANYWHERE:
        return name
    backends = {backend.name: backend for backend in scan_backends()}
    if name not in backends:
        raise ValueError(f"no scan backend {name!r}; there are: {', '.join(backends)}")
    backend = backends[name]
    if not backend.available:
        raise ValueError(f"the scan backend {name!r} cannot run here: {backend.missing}")
    if device not in ("meta", *backend.devices):
        raise ValueError(
            f"the scan backend {name!r} runs on {' and '.join(backend.devices)}, not on {device}: leave the choice to "
            "the library, or name 'chunked'"
        )
    return name


# torch.compile treats the choice as a constant. PyTorch's decorator for it would import the compiler at once, which
# takes a second.
after_import("torch._dynamo", lambda: torch.compiler.assume_constant_result(choose_backend))


@functools.cache
def implementation(name: str) -> Any:
    """Import the module with ``forward(problem)`` and, for most backends, ``backward(problem, grad)``."""
    return import_module(f".{_MODULES[name]}", __package__)


_ANYWHERE = ("chunked", "reference")
_MODULES = {"triton": "gpu", "mamba_ssm": "mamba", "numba": "cpu", "chunked": "chunked", "reference": "reference"}


@functools.cache
def _preferred(device: str) -> str:
    """The first backend that runs on the device, apart from Triton's interpreter and the reference."""
    # Each check imports the library that it looks for, so only the checks for the device's type are made.
    usual: dict[str, dict[str, Callable[[], str | None]]] = {
        "cuda": {"triton": _triton_missing, "mamba_ssm": _mamba_missing},
        "cpu": {"numba": _numba_missing},
    }
    found = (name for name, missing in usual.get(device, {}).items() if missing() is None)
    return next(found, "chunked")


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _triton_missing() -> str | None:
    if find_spec("triton") is None:
        return "triton is not installed"
    if not hasattr(import_module("triton.language"), "gather"):
        return "triton is older than 3.2"
    if _interpreted():
        return None
    if not torch.cuda.is_available():
        return "no CUDA device (with TRITON_INTERPRET=1 it runs on the CPU, slowly)"
    if torch.cuda.get_device_capability() < (7, 0):
        return "the device's compute capability is below 7.0"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler to launch kernels: install gcc or clang, or set CC"
    return None


@functools.cache
def _mamba_missing() -> str | None:
    if find_spec("mamba_ssm") is None:
        return "mamba-ssm is not installed: pip install 'llie-preproc[mamba]' (needs CUDA to build)"
    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        import_module("mamba_ssm.ops.selective_scan_interface")
    except Exception as error:
        # An extension that was built for another torch may fail with any kind of exception.
        return f"mamba-ssm does not import: {type(error).__name__}: {error}"
    return None


@functools.cache
def _numba_missing() -> str | None:
    try:
        require("numba", "the fused CPU scan")
        import_module("numba")
    except Exception as error:
        # Numba raises when it does not support the installed NumPy.
        return str(error)
    return None
