"""Fixtures of the tests of finetuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.finetune_runs import Tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny detector with its checkpoint and its sets."""
    from tests.support.finetune_runs import make

    return make(tmp_path_factory.mktemp("tiny"))
