"""The gammas of a command that shifts pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from llie_preproc.gamma_shift import CONVENTIONS, GAMMAS, exponent


def add_gammas(parser: argparse.ArgumentParser) -> None:
    """Add ``--gammas`` and ``--convention``."""
    parser.add_argument(
        "--gammas",
        nargs="+",
        type=float,
        default=list(GAMMAS),
        metavar="G",
        help=f"gammas that darken or brighten the pictures (default: {' '.join(f'{gamma:g}' for gamma in GAMMAS)})",
    )
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        default="power",
        help="meaning of G; power: I^g, above 1 darkens (default); inverse: I^(1/g), above 1 brightens",
    )


def check_gammas(gammas: Sequence[float], convention: str) -> list[float]:
    """The values, rising.

    Raises:
        ValueError: One is not positive and finite, or two are called alike.
    """
    for gamma in gammas:
        try:
            exponent(gamma, convention)
        except ValueError as error:
            raise ValueError(f"--gammas: {error}") from None
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise ValueError(f"--gammas names one twice: {' '.join(f'{gamma:g}' for gamma in gammas)}")
    return sorted(gammas)
