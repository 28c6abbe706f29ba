"""The ``llie`` program as it is installed."""

from __future__ import annotations

from typing import NoReturn

from .program import launch


def main() -> NoReturn:
    """Run ``llie``, and end the process with its status."""
    launch("llie_preproc.cli", "llie")
