"""The one file that a command writes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..enhance_files import Job, check_targets
from ..files import remove_leftovers


def free_target(args: argparse.Namespace, source: str, suffix: str) -> Path:
    """``args.out``, where it may be written."""
    target: Path = args.out
    check_targets([Job(Path(source), target)], [suffix])
    if os.path.lexists(target) and not args.overwrite:
        raise ValueError(f"{target} exists already: --overwrite replaces it")
    remove_leftovers([target])
    return target
