"""Chooses the cases of each test that the fast suite runs, and the order of the test files."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def leave_examples(items: Iterable[pytest.Item]) -> None:
    """Mark the cases of each test with the mark ``examples(number)`` as ``further``, except for ``number`` of them.

    The kept cases are drawn at random, seeded by the test's name: every k-th case could share a parameter's value.
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
    """Refuse a test's name that holds an object's address: processes that share the suite need the same names.

    Raises:
        ValueError: There is such a name.
    """
    if passing := [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid, re.IGNORECASE)]:
        raise ValueError(f"the test's name changes with each start, so its cases need ids: {passing[0]}")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the files by their duration: a long file that begins last would make all other processes wait.

    A test with the mark ``slow(seconds)`` counts as these seconds, or as ten if the mark gives none; any other test
    counts as a tenth of a second.
    """
    weights: dict[Any, float] = defaultdict(float)
    for item in items:
        slow = item.get_closest_marker("slow")
        weights[item.path] += (slow.args[0] if slow.args else 10.0) if slow else 0.1
    items.sort(key=lambda item: (-weights[item.path], str(item.path)))


def slow_where(slow: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values for ``parametrize``; those in ``slow`` are marked as slow, since all together take over ten seconds."""
    return [pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values]
