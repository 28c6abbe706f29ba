"""Enhancers as ONNX graphs, each checked against the network that it came from."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .enhancers.base import Capabilities, Enhancer
from .errors import ExportError, require
from .files import atomic_path
from .version import __version__

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference, of values in [0, 1], that the check of an exported graph accepts."""

# The tracing exporter exists in every supported torch and takes seconds. The newer one needs torch 2.7, takes up to
# minutes, and fails on some networks.
_TRACING: dict[str, Any] = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}


def export_onnx(
    enhancer: Enhancer,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    opset: int = OPSET,
) -> None:
    """Write an enhancer as an ONNX graph, in evaluation mode, and check it with ONNX Runtime.

    The graph's input is ``image``, ``(N, 3, H, W)`` float32 RGB in [0, 1]. Its output is ``enhanced``,
    ``(N, 3, s*H, s*W)``, clamped to [0, 1], as :func:`llie_preproc.enhance` returns it for float images. The graph does
    not pad: H and W must be multiples of ``size_divisor`` and at least ``min_size``. Its metadata hold these two, the
    enhancer's name, the scale, the channel order and the ranges. N may be any number.

    Args:
        enhancer: Network with its weights, on any device; it is not changed.
        path: File to write, which appears whole and checked, or not at all; an existing file is replaced.
        size: Height and width of the only size that the graph accepts; None for any size.
        opset: Version of the ONNX operators.

    Raises:
        MissingExtraError: ``onnx`` or ``onnxruntime`` is not installed.
        ExportError: The enhancer cannot be exported (the message says why), or the result of ONNX Runtime differs from
            that of PyTorch by more than 1e-4.
        ValueError: The network does not accept images of ``size``.

    Examples:
        >>> import tempfile
        >>> from llie_preproc.enhancers import GammaCorrection
        >>> path = Path(tempfile.mkdtemp()) / "gamma.onnx"
        >>> export_onnx(GammaCorrection(), path)
        >>> path.exists()
        True
    """
    check_exportable(enhancer)
    for module in ("onnx", "onnxruntime"):
        require(module, "exporting to ONNX")
    import onnx

    network = _Clamped(copy.deepcopy(enhancer).cpu()).eval()
    example, *others = _example_shapes(enhancer.capabilities, size)
    with atomic_path(path, ".onnx") as temporary:
        _trace(network, temporary, torch.zeros(example), size is None, opset)
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, _metadata(enhancer))
        onnx.save(model, temporary)
        _check(temporary, network, others)


def check_exportable(enhancer: Enhancer) -> None:
    """Raise :class:`~llie_preproc.errors.ExportError` with the reason if a network cannot be exported.

    Examples:
        >>> from llie_preproc.enhancers import CLAHE
        >>> check_exportable(CLAHE())
        Traceback (most recent call last):
        llie_preproc.errors.ExportError: CLAHE cannot be exported to ONNX: it computes through OpenCV
    """
    if enhancer.onnx_refusal is not None:
        raise ExportError(f"{type(enhancer).__name__} cannot be exported to ONNX: {enhancer.onnx_refusal}")


class _Clamped(nn.Module):
    def __init__(self, enhancer: Enhancer) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, image: Tensor) -> Tensor:
        return self.enhancer(image).clamp(0, 1)


def _example_shapes(capabilities: Capabilities, size: tuple[int, int] | None) -> list[tuple[int, int, int, int]]:
    """The shape for the export, then shapes for the check: other batch sizes and, if ``size`` is None, other sizes."""
    divisor = capabilities.size_divisor
    if size is not None:
        if any(n < capabilities.min_size or n % divisor for n in size):
            raise ValueError(
                f"size must be multiples of {divisor}, at least {capabilities.min_size}, got {size[0]}x{size[1]}"
            )
        return [(n, 3, *size) for n in (2, 1)]
    least = math.ceil(capabilities.min_size / divisor) * divisor
    usual = math.ceil(max(least, 16) / divisor) * divisor
    return [
        (2, 3, usual, usual + divisor),
        (1, 3, least, least),
        (3, 3, usual + 3 * divisor, usual + 2 * divisor),
    ]


def _trace(network: _Clamped, path: Path, example: Tensor, dynamic: bool, opset: int) -> None:
    spatial = {2: "height", 3: "width"} if dynamic else {}
    try:
        with warnings.catch_warnings():
            # Warnings, for example of sizes that become constant, are not shown: the check at other sizes finds those.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(path),
                input_names=["image"],
                output_names=["enhanced"],
                opset_version=opset,
                dynamic_axes={
                    "image": {0: "batch", **spatial},
                    "enhanced": {0: "batch", **{axis: f"enhanced_{name}" for axis, name in spatial.items()}},
                },
                **_TRACING,
            )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"{type(network.enhancer).__name__} cannot be exported to ONNX: {reason}") from error


def _metadata(enhancer: Enhancer) -> dict[str, str]:
    capabilities = enhancer.capabilities
    return {
        "enhancer": type(enhancer).__name__,
        "scale": str(capabilities.scale),
        "size_divisor": str(capabilities.size_divisor),
        "min_size": str(capabilities.min_size),
        "channel_order": "rgb",
        "input_range": "[0, 1]",
        "output_range": "[0, 1]",
        "llie_preproc": __version__,
    }


def _check(path: Path, network: _Clamped, shapes: Sequence[tuple[int, int, int, int]]) -> None:
    """Raise unless ONNX Runtime computes the same as PyTorch for random images of ``shapes``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Only fatal messages are printed, because all others are raised as exceptions too.
    options.log_severity_level = 4
    with _as_export_error("load the graph"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        image = torch.rand(shape, generator=generator)
        with _as_export_error(f"run the graph at {shape}"):
            (result,) = session.run(["enhanced"], {"image": image.numpy()})
        with torch.no_grad():
            expected = network(image).numpy()
        difference = np.abs(result - expected).max() if result.shape == expected.shape else math.inf
        # With "difference > TOLERANCE", NaN would pass.
        if not difference <= TOLERANCE:
            raise ExportError(f"ONNX Runtime's result at {shape} differs from PyTorch's by {difference:.2g}")


@contextlib.contextmanager
def _as_export_error(task: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common class.
        raise ExportError(f"ONNX Runtime cannot {task}: {str(error).splitlines()[0]}") from error
