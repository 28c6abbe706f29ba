"""EME, which measures enhancement by the contrast within blocks.

Source: Agaian, Panetta, Grigoryan: Transform-Based Image Enhancement Algorithms with Performance Measure, 2001.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from ..self_registration import Setting
from .arrays import to_grey
from .meters import Meter, meter_builder

_LOGS = {"ln": np.log, "log10": np.log10}


def eme(image: Tensor, block: int = 8, log: str = "ln") -> float:
    """Mean over blocks of ``20 log(max / min)`` of the grey levels.

    A block whose minimum is 0 has the value 0 and is counted. Rows and columns beyond the last whole block are left
    out.

    >>> import torch
    >>> image = torch.full((3, 8, 8), 50, dtype=torch.uint8)
    >>> image[:, 0, 0] = 100
    >>> round(eme(image, log="log10"), 2)
    6.02

    Args:
        image: Picture ``(3, H, W)`` RGB, uint8 or floating in [0, 1]. It is converted to 8-bit levels and to grey by
            MATLAB's weights, rounded.
        block: Side of a block; public programs use 5, 8 and 11.
        log: ``'ln'``, as in public programs, or ``'log10'``.

    Raises:
        ValueError: ``log`` is unknown, or the block is smaller than a pixel or larger than the picture.
    """
    grey = to_grey(image)
    check_eme(block, log)
    if block > min(grey.shape):
        raise ValueError(f"EME's block must fit into the picture of {grey.shape}, got {block}")
    rows, columns = (n // block for n in grey.shape)
    blocks = grey[: rows * block, : columns * block].reshape(rows, block, columns, block)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    ratio = np.divide(high, low, out=np.ones_like(high), where=low > 0)
    return float(20 * _LOGS[log](ratio).mean())


def check_eme(block: int, log: str) -> None:
    """Raise ``ValueError`` for arguments that :func:`eme` refuses for every picture."""
    if log not in _LOGS:
        raise ValueError(f"EME's log must be one of {sorted(_LOGS)}, got {log!r}")
    if block < 1:
        raise ValueError(f"EME's block must be at least 1, got {block}")


@meter_builder(
    "eme",
    Setting("eme_block", "side of a block in pixels", default=8, type=int, metavar="SIDE"),
    Setting("eme_log", "logarithm", default="ln", choices=tuple(_LOGS)),
)
def _meter(eme_block: int, eme_log: str) -> Meter:
    check_eme(eme_block, eme_log)
    blocks = f"blocks of {eme_block}x{eme_block}"
    return Meter(
        f"{blocks}, 20 {eme_log}(max / min) of 8-bit grey, blocks with a 0 add 0; no reference",
        "EME {:.3f}",
        partial(eme, block=eme_block, log=eme_log),
    )
