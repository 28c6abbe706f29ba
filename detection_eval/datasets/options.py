"""The options that are the same in all commands that choose and split pictures."""

from __future__ import annotations

import argparse
import sys

from .labels import Problems
from .night import DARK, NightRule
from .splits import Split


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the options of :class:`NightRule`."""
    rule = NightRule()
    parser.add_argument(
        "--max-luma",
        type=float,
        default=rule.max_luma,
        metavar="L",
        help="mean luma, 0 to 255, that a night picture must be below (default: %(default)s)",
    )
    parser.add_argument(
        "--min-dark",
        type=float,
        default=rule.min_dark,
        metavar="S",
        help=f"least share of the 8x8 blocks of a night picture that are darker than {DARK} (default: %(default)s)",
    )


def rule_of(args: argparse.Namespace) -> NightRule:
    """The rule that the options ask for."""
    return NightRule(args.max_luma, args.min_dark)


def add_split(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--split`` and ``--seed``; ``what`` names the two parts in the help."""
    parser.add_argument(
        "--split",
        nargs="+",
        metavar="SIZE",
        help=f"also write {what}: give the share of the first part, such as 0.8, or the numbers of pictures of both, "
        "such as 526 131; the draw depends only on the names and --seed",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw of --split (default: %(default)s)"
    )


def split_of(args: argparse.Namespace) -> Split | None:
    """The split that the options ask for, or None.

    Raises:
        ValueError: The sizes are neither a share nor two numbers.
    """
    return None if args.split is None else Split.parse(args.split, args.seed)


def add_skip_bad(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--skip-bad``. The help names ``what`` the option leaves out."""
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"leave bad {what} out and list them at the end (by default the first one ends the command)",
    )


def print_problems(problems: Problems) -> None:
    """Print how much was left out, changed or skipped, and list the skipped lines and files on stderr."""
    for what, number in sorted(problems.counts.items()):
        print(f"{number} {what}")
    if problems.skipped:
        print(f"{len(problems.skipped)} bad lines or files skipped")
        print(f"{len(problems.skipped)} skipped:", *problems.skipped, sep="\n  ", file=sys.stderr)
