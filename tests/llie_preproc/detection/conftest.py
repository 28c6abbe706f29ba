"""Fixtures that several files of these tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mmengine.config import Config


@pytest.fixture(scope="module")
def plain_config() -> Config:
    """The config of a narrow RetinaNet, without an enhancer; tests change a copy."""
    from tests.support.mmdet_models import mmdet_config

    return mmdet_config("retinanet")
