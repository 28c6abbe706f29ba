"""Flags that the commands of this package share."""

from __future__ import annotations

from typing import Any

from mmengine.config import DictAction

from llie_preproc.ranks import LAUNCHERS


def add_training_options(parser: Any) -> None:
    """Add ``--amp``, ``--cfg-options`` and ``--launcher``.

    Args:
        parser: Parser, or group of one.
    """
    parser.add_argument("--amp", action="store_true", help="train in mixed precision: autocast to bfloat16")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="keys and values over the config",
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="program that started the processes, if several"
    )
