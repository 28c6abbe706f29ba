"""Where the project's files are."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The top level, with the packages, the configs and the docs."""
PACKAGES = ("llie_preproc", "training", "detection_eval")
"""Names of the packages."""


def copy_packages(folder: Path) -> None:
    """Copy the packages into ``folder``, for a test that changes them."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
