"""What the tests of several trainings are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.finetune_runs import Tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A detector with sets and weights, for finetuning."""
    from tests.support.finetune_runs import make

    return make(tmp_path_factory.mktemp("tiny"))
