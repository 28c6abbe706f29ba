"""The check of the path to which a command writes its result."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..enhance_files import Job, check_targets
from ..files import remove_leftovers


def free_target(args: argparse.Namespace, source: str, suffix: str) -> Path:
    """Return ``args.out`` after a check that it may be written, and remove unfinished files of killed processes.

    Args:
        args: Arguments with ``out`` and ``overwrite``.
        source: Name of the input, which must not be overwritten.
        suffix: Suffix that the file must have.

    Raises:
        ValueError: The file exists and may not be replaced, is the input, or has another suffix.
    """
    target: Path = args.out
    check_targets([Job(Path(source), target)], [suffix])
    if os.path.lexists(target) and not args.overwrite:
        raise ValueError(f"{target} exists already; --overwrite replaces it")
    remove_leftovers([target])
    return target
