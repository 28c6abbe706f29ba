"""What the commands that choose and split pictures have in common."""

from __future__ import annotations

import argparse
import sys

from .labels import Problems
from .night import DARK, NightRule
from .splits import Split


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the thresholds of :class:`NightRule`."""
    rule = NightRule()
    parser.add_argument(
        "--max-luma",
        type=float,
        default=rule.max_luma,
        metavar="L",
        help="night: mean luma, 0 to 255, that a night picture stays below (default: %(default)s)",
    )
    parser.add_argument(
        "--min-dark",
        type=float,
        default=rule.min_dark,
        metavar="S",
        help=f"night: share of its 8x8 blocks that must be darker than {DARK} in a night picture, at least (default: "
        "%(default)s)",
    )


def rule_of(args: argparse.Namespace) -> NightRule:
    """The rule that was asked for."""
    return NightRule(args.max_luma, args.min_dark)


def add_split(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--split`` and ``--seed``; ``what``: words for the parts."""
    parser.add_argument(
        "--split",
        nargs="+",
        metavar="SIZE",
        help=f"sizes of {what}, which are written too: the share of the first, such as 0.8, or two numbers such as "
        "526 131; the draw depends on the names and --seed alone",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw of --split (default: %(default)s)"
    )


def split_of(args: argparse.Namespace) -> Split | None:
    """The split that was asked for, if any.

    Raises:
        ValueError: Its sizes do not read.
    """
    return None if args.split is None else Split.parse(args.split, args.seed)


def add_skip_bad(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--skip-bad``; ``what`` it leaves out."""
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"leave bad {what} out and list them in the end (default: they end the command)",
    )


def print_problems(problems: Problems) -> None:
    """Print what was left out or changed, and what was bad: its number with the summary, each on stderr."""
    for what, number in sorted(problems.counts.items()):
        print(f"{number} {what}")
    if problems.skipped:
        print(f"{len(problems.skipped)} bad lines or files skipped")
        print(f"{len(problems.skipped)} skipped:", *problems.skipped, sep="\n  ", file=sys.stderr)
