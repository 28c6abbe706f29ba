"""Checks of arguments, each in one place: a wrong one is refused where it is given, never read as a default."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import TypeGuard


def one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``.

    Args:
        name: Name of the argument, for the message.
        value: Value given.
        choices: Values allowed.

    >>> one_of("channel_order", "bgr", ("rgb", "bgr"))
    >>> one_of("channel_order", "BGR", ("rgb", "bgr"))
    Traceback (most recent call last):
    ValueError: channel_order must be one of 'rgb', 'bgr', got 'BGR'
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def at_least(name: str, value: float, least: float) -> None:
    """Raise ``ValueError`` unless ``value`` is a number of at least ``least``; a whole one where ``least`` is.

    Args:
        name: Name of the argument, for the message.
        value: Value given.
        least: Smallest value allowed; an ``int`` allows whole numbers alone.

    >>> at_least("batch_size", 1, 1)
    >>> at_least("batch_size", 0, 1)
    Traceback (most recent call last):
    ValueError: batch_size must be a whole number of at least 1, got 0
    """
    whole = isinstance(least, int)
    # NumPy's numbers are of these kinds too.
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be a {'whole ' if whole else ''}number of at least {least}, got {value!r}")


def same_value(given: object, expected: object) -> bool:
    """Whether two arguments mean the same: numbers by their value, lists and tuples alike, whatever they hold.

    >>> same_value(16, 16.0), same_value([1, "a"], (1.0, "a")), same_value(True, 1)
    (True, True, False)
    """
    if isinstance(given, bool) or isinstance(expected, bool):
        return given is expected
    if isinstance(given, Mapping) and isinstance(expected, Mapping):
        return given.keys() == expected.keys() and all(same_value(given[key], expected[key]) for key in given)
    if _is_list(given) and _is_list(expected):
        return len(given) == len(expected) and all(map(same_value, given, expected))
    return bool(given == expected)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
