"""List the enhancers and their weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..checkpoints import shipped_weights
from ..complexity import complexity
from ..enhancers import Enhancer
from ..enhancers.build import build_enhancer
from ..enhancers.names import enhancer_classes
from ..errors import MissingExtraError
from ..ops import scan_backends

_LISTED_SIZE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--backends", action="store_true", help="list what can compute the selective scan instead")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    _print_table(_backends() if args.backends else _enhancers())
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _enhancers() -> list[tuple[str, ...]]:
    size = f"{_LISTED_SIZE}x{_LISTED_SIZE}"
    rows: list[tuple[str, ...]] = [("ENHANCER", "PARAMETERS", f"MACS@{size}", "SCALE", "WEIGHTS", "LICENCE OF WEIGHTS")]
    for name in sorted(enhancer_classes()):
        rows += _rows(name)
    return rows


def _rows(name: str) -> list[tuple[str, ...]]:
    """A line for each set of weights, or one for an enhancer that has or needs none."""
    try:
        enhancer = build_enhancer(name, checkpoint=None)
    except MissingExtraError as error:
        return [(name, "?", "?", "?", str(error), "-")]
    size = complexity(enhancer, _LISTED_SIZE, _LISTED_SIZE)
    described = (name, f"{size.parameters:,}", _abbreviated(size.macs), str(enhancer.scale))
    shipped = [
        (f"{w.name} (default)" if w.default else w.name, w.licence) for w in shipped_weights() if w.enhancer == name
    ]
    return [(*described, *weights) for weights in shipped or [(_without_own_weights(enhancer), "-")]]


def _without_own_weights(enhancer: Enhancer) -> str:
    if enhancer.members:
        return "its members'"
    return "none shipped" if any(True for _ in enhancer.parameters()) else "not needed"


def _abbreviated(count: int | None) -> str:
    """With the letter of a power of ten: 1770595434 is ``1.77 G``. None is ``-``."""
    if count is None:
        return "-"
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {letter}"
    return str(count)


def _backends() -> list[tuple[str, ...]]:
    rows = [(b.name, "yes" if b.available else "no", b.reason) for b in scan_backends()]
    return [("BACKEND", "AVAILABLE", "ABOUT"), *rows]
