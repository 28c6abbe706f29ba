"""What the tests of several methods are given."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def tiny_sam_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the weights of ``tiny_sam``."""
    from llie_preproc.checkpoints import save_state_dict
    from tests.support.sam_models import tiny_sam

    path = tmp_path_factory.mktemp("sam") / "tiny.safetensors"
    save_state_dict(tiny_sam().state_dict(), path)
    return str(path)


@pytest.fixture
def after_the_ramp() -> None:
    """The last epoch of the mean teacher's training, whose ramp depends on what a Runner last told."""
    from tests.support.mean_teachers import at

    at(200)
