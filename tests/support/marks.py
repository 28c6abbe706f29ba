"""Selection of a test's cases for the fast suite, and the order of the files."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def leave_examples(items: Iterable[pytest.Item]) -> None:
    """Mark all cases of a test as ``further``, except for as many as its mark ``examples(number)`` says.

    The test's name seeds the draw. Every k-th case of a product could have one value of a parameter in common.
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


def require_lasting_names(items: Iterable[pytest.Item]) -> None:
    """Refuse a name of a test that holds an object's address: processes that share the suite need the same names.

    Raises:
        ValueError: There is such a name.
    """
    if passing := [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid, re.IGNORECASE)]:
        raise ValueError(f"the name changes with each start, so its cases need ids: {passing[0]}")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the files by their duration: a long file that begins last would keep one process busy alone.

    A test counts as the seconds of its mark ``slow(seconds)``, as ten if the mark has none, else as a tenth of a
    second.
    """
    weights: dict[Any, float] = defaultdict(float)
    for item in items:
        slow = item.get_closest_marker("slow")
        weights[item.path] += (slow.args[0] if slow.args else 10.0) if slow else 0.1
    items.sort(key=lambda item: (-weights[item.path], str(item.path)))


def slow_where(slow: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values for ``parametrize``; those in ``slow`` are marked as slow, since all together take over ten seconds."""
    return [pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values]
