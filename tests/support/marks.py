"""Marks of single parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_where(slow: Collection[str], names: Iterable[str]) -> list[Any]:
    """Names for ``parametrize``; the tests of those in ``slow`` take over ten seconds."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]
