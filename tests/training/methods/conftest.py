"""Fixtures of the tests of training methods."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def tiny_sam_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the weights of ``tests.support.sam_models.tiny_sam``."""
    from llie_preproc.checkpoints import save_state_dict
    from tests.support.sam_models import tiny_sam

    path = tmp_path_factory.mktemp("sam") / "tiny.safetensors"
    save_state_dict(tiny_sam().state_dict(), path)
    return str(path)


@pytest.fixture
def after_the_ramp() -> None:
    """Set the epoch to 200, at which the mean teacher's ramp ends; else the epoch of the last Runner would count."""
    from tests.support.mean_teachers import at

    at(200)
