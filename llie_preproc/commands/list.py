"""List the enhancers and their weights.

With --macs, the multiply-adds for one picture are counted, as docs/enhancers.md describes; that takes some seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..checkpoints import shipped_weights
from ..enhancers import Enhancer
from ..enhancers.build import build_enhancer
from ..enhancers.names import enhancer_classes
from ..errors import one_line
from ..ops import scan_backends

_LISTED_SIZE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--macs", action="store_true", help="count the multiply-adds of each enhancer too")
    parser.add_argument(
        "--backends",
        action="store_true",
        help="list the implementations of the selective scan (the core of SemiLLIE) instead",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    _print_table(_backends() if args.backends else _enhancers(args.macs))
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _enhancers(macs: bool) -> list[tuple[str, ...]]:
    counted = [f"MACS@{_LISTED_SIZE}x{_LISTED_SIZE}"] if macs else []
    rows: list[tuple[str, ...]] = [("ENHANCER", "PARAMETERS", *counted, "SCALE", "WEIGHTS", "LICENCE OF WEIGHTS")]
    for name in sorted(enhancer_classes()):
        rows += _rows(name, macs)
    return rows


def _rows(name: str, macs: bool) -> list[tuple[str, ...]]:
    """Rows of an enhancer: one for each set of its weights, or a single one if it has or needs no weights."""
    shipped = [weights for weights in shipped_weights() if weights.enhancer == name]
    try:
        # The meta device would take longer, because PyTorch imports many modules for it.
        if not shipped:
            enhancer = build_enhancer(name, None)
            return [(*_described(name, enhancer, macs), _without_own_weights(enhancer), "-")]
        return [
            (
                *_described(name, build_enhancer(name, w.name), macs),
                f"{w.name} (default)" if w.default else w.name,
                w.licence,
            )
            for w in shipped
        ]
    except Exception as error:  # A network of another package may raise anything.
        return [(name, *["?"] * (3 if macs else 2), one_line(error), "-")]


def _described(name: str, enhancer: Enhancer, macs: bool) -> tuple[str, ...]:
    parameters = sum(parameter.numel() for parameter in enhancer.parameters())
    return (name, f"{parameters:,}", *([_macs(enhancer)] if macs else []), str(enhancer.scale))


def _without_own_weights(enhancer: Enhancer) -> str:
    if enhancer.members:
        return "its members'"
    return "none shipped" if any(True for _ in enhancer.parameters()) else "not needed"


def _macs(enhancer: Enhancer) -> str:
    # This module imports many parts of PyTorch, which the other listings do not need.
    from ..complexity import complexity

    return _abbreviated(complexity(enhancer, _LISTED_SIZE, _LISTED_SIZE).macs)


def _abbreviated(count: int | None) -> str:
    """Abbreviate a count by the letter of a power of ten (1770595434 is ``1.77 G``); None becomes ``-``."""
    if count is None:
        return "-"
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {letter}"
    return str(count)


def _backends() -> list[tuple[str, ...]]:
    rows = [(b.name, "yes" if b.available else "no", b.reason) for b in scan_backends()]
    return [("BACKEND", "AVAILABLE", "ABOUT"), *rows]
