"""Marks of single parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_where(slow: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values for ``parametrize``, those in ``slow`` left out of the fast suite: all together take over ten seconds."""
    return [pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values]
