"""Fixtures of the commands' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llie_preproc.enhancers import PSENet


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a PSENet with seeded weights."""
    torch.manual_seed(0)
    save_file(PSENet().state_dict(), tmp_path / "psenet.safetensors")
    return tmp_path / "psenet.safetensors"
