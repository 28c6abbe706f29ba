"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton decides when it is imported whether its interpreter runs the kernels.
    os.environ.setdefault("TRITON_INTERPRET", "1")
from command import llie as llie


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of other people's images, weights and reference values, which is no part of a user's clone."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the reference data is not at {folder}")
    return folder
