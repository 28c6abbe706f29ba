"""Flags about scores, which several commands have."""

from __future__ import annotations

from typing import Any

from llie_preproc.commands.arguments import OnceEach

from ..metrics.detection_table import DETECTION_METRICS


def add_metrics(parser: Any) -> None:
    """Add ``--metrics``, the metrics of detections in a table.

    Args:
        parser: Parser, or a group of its arguments.
    """
    parser.add_argument(
        "--metrics",
        nargs="+",
        action=OnceEach,
        choices=list(DETECTION_METRICS),
        default=["coco"],
        help="metrics of the table (default: coco)",
    )


def add_bootstrap(parser: Any, without: str = "") -> None:
    """Add ``--resamples`` and ``--bootstrap-seed``.

    Args:
        parser: Parser, or a group of its arguments.
        without: Words in the help for what the command does without resamples.
    """
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help=f"number of resamples of the bootstrap over images{without} (default: %(default)s)",
    )
    parser.add_argument(
        "--bootstrap-seed", type=int, default=0, metavar="N", help="seed of the bootstrap (default: %(default)s)"
    )
