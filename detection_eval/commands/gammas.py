"""The flags and the check of gammas, for the commands that darken or brighten pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from llie_preproc.commands.arguments import number
from llie_preproc.gamma_shift import CONVENTIONS, GAMMAS, exponent


def add_gammas(parser: argparse.ArgumentParser) -> None:
    """Add ``--gammas`` and ``--convention``."""
    parser.add_argument(
        "--gammas",
        nargs="+",
        type=number,
        default=list(GAMMAS),
        metavar="G",
        help=f"gammas that darken or brighten the pictures (default: {' '.join(f'{gamma:g}' for gamma in GAMMAS)})",
    )
    add_convention(parser)


def add_convention(parser: argparse.ArgumentParser, default: str | None = "power") -> None:
    """Add ``--convention``.

    Args:
        parser: Parser to extend.
        default: Convention if the command line names none; None lets the caller see that.
    """
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        default=default,
        help="meaning of G: power is I^g, which darkens above 1 (default); inverse is I^(1/g), which brightens above 1",
    )


def check_gammas(gammas: Sequence[float], convention: str) -> list[float]:
    """Check gammas, and sort them in rising order.

    Raises:
        ValueError: A gamma is not positive and finite, or two are the same in six digits.

    Examples:
        >>> check_gammas([2.5, 0.4], "power")
        [0.4, 2.5]
    """
    for gamma in gammas:
        try:
            exponent(gamma, convention)
        except ValueError as error:
            raise ValueError(f"--gammas: {error}") from None
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise ValueError(f"--gammas names one twice: {' '.join(f'{gamma:g}' for gamma in gammas)}")
    return sorted(gammas)
