"""Which cases of a test are in the fast suite, and which files begin."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def leave_examples(items: Iterable[pytest.Item]) -> None:
    """Mark as ``further`` all cases of a test but for the number that ``examples`` of it gives.

    They are drawn by the name of the test: every k-th case of a product could have one value of a parameter in common.
    """
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("examples") and not item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for name, each in cases.items():
        number = min(each[0].get_closest_marker("examples").args[0], len(each))
        kept = random.Random(name).sample(each, number)
        for item in each:
            if item not in kept:
                item.add_marker("further")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the files by what they take: a long one that begins as the last would keep one process busy alone.

    A test that is marked as ``slow(seconds)`` takes so many, any other slow one ten, and the rest a tenth of a second.
    """
    weights: dict[Any, float] = defaultdict(float)
    for item in items:
        slow = item.get_closest_marker("slow")
        weights[item.path] += (slow.args[0] if slow.args else 10.0) if slow else 0.1
    items.sort(key=lambda item: (-weights[item.path], str(item.path)))


def slow_where(slow: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values for ``parametrize``, those in ``slow`` left out of the fast suite: all together take over ten seconds."""
    return [pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values]
