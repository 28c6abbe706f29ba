"""Checks of arguments, which refuse a wrong value where it is given instead of replacing it by a default."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import TypeGuard

# Unicode's categories of control characters (which can rewrite a terminal), lone surrogates, and line and paragraph
# separators.
_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``.

    Args:
        name: Name of the argument, for the message.
        value: Given value.
        choices: Allowed values.

    Examples:
        >>> one_of("channel_order", "bgr", ("rgb", "bgr"))
        >>> one_of("channel_order", "BGR", ("rgb", "bgr"))
        Traceback (most recent call last):
        ValueError: channel_order must be one of 'rgb', 'bgr', got 'BGR'
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def at_least(name: str, value: float, least: float) -> None:
    """Raise ``ValueError`` unless ``value`` is a number of at least ``least``.

    Args:
        name: Name of the argument, for the message.
        value: Given value.
        least: Smallest allowed value; if it is an ``int``, only whole numbers are allowed.

    Examples:
        >>> at_least("batch_size", 1, 1)
        >>> at_least("batch_size", 0, 1)
        Traceback (most recent call last):
        ValueError: batch_size must be a whole number of at least 1, got 0
    """
    whole = isinstance(least, int)
    # These classes include NumPy's numbers.
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be a {'whole ' if whole else ''}number of at least {least}, got {value!r}")


def within(
    name: str,
    value: float,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number within the given bounds.

    Args:
        name: Name of the argument, for the message.
        value: Given value.
        least: Smallest allowed value.
        most: Largest allowed value.
        above: Number that the value must be above.
        below: Number that the value must be below.

    Examples:
        >>> within("momentum", 0.9, 0, below=1)
        >>> within("momentum", float("nan"), 0, below=1)
        Traceback (most recent call last):
        ValueError: momentum must be a number of at least 0 and below 1, got nan
    """
    bounds = {"of at least": least, "above": above, "of at most": most, "below": below}
    given = [f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None]
    if not _is_within(value, least, most, above, below):
        raise ValueError(f"{name} must be a {' '.join(['number', ' and '.join(given)]).strip()}, got {value!r}")


def rising(
    name: str,
    value: object,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
) -> None:
    """Raise ``ValueError`` unless ``value`` is a range: two finite numbers, the second not below the first.

    Args:
        name: Name of the argument, for the message.
        value: Given value.
        least: Smallest number allowed in the range; give this or ``above``, not both.
        most: Largest number allowed in the range.
        above: Number that both must be above.

    Examples:
        >>> rising("exposure", (0.01, 0.2), above=0)
        >>> rising("exposure", (0.2, 0.01), above=0)
        Traceback (most recent call last):
        ValueError: exposure must be a range (low, high), 0 < low <= high, got (0.2, 0.01)
    """
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    good = len(pair) == 2 and all(_is_within(each, least, most, above, None) for each in pair)
    if not good or pair[0] > pair[1]:
        lower = f"{least:g} <= " if least is not None else f"{above:g} < " if above is not None else ""
        upper = f" <= {most:g}" if most is not None else ""
        raise ValueError(f"{name} must be a range (low, high), {lower}low <= high{upper}, got {value!r}")


def each(name: str, values: object, check: Callable[..., None], *bounds: float) -> None:
    """Raise ``ValueError`` unless ``values`` is a sequence whose items pass a check.

    Args:
        name: Name of the argument, for the message.
        values: Given values.
        check: Check of one value, such as :func:`at_least`.
        *bounds: Further arguments of the check, after name and value.

    Examples:
        >>> each("depths", (2, 2), at_least, 1)
        >>> each("depths", (2, 0), at_least, 1)
        Traceback (most recent call last):
        ValueError: each of depths must be a whole number of at least 1, got 0
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name} must be a sequence of numbers, got {values!r}")
    for value in values:
        check(f"each of {name}", value, *bounds)


def odd(name: str, value: int) -> None:
    """Raise ``ValueError`` unless ``value`` is an odd whole number of at least 1.

    Args:
        name: Name of the argument, for the message.
        value: Given value.

    Examples:
        >>> odd("patch", 25)
        >>> odd("patch", 24)
        Traceback (most recent call last):
        ValueError: patch must be an odd whole number of at least 1, got 24
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be an odd whole number of at least 1, got {value!r}")


def _is_within(
    value: object, least: float | None, most: float | None, above: float | None, below: float | None
) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    number = float(value)
    return (
        math.isfinite(number)
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    )


def same_value(given: object, expected: object) -> bool:
    """Whether two arguments mean the same; numbers are compared by value, and lists and tuples item by item.

    Examples:
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


def printable(text: str, kept: str = "") -> str:
    """Escape the characters that are not safe to print: control characters, and bytes that are not UTF-8.

    Args:
        text: Text, such as a message with the name of a file.
        kept: Characters that are not replaced.

    Examples:
        >>> printable("caf\\u00e9\\n.png")
        'café\\\\n.png'
        >>> printable(b"caf\\xe9.png".decode(errors="surrogateescape"))
        'caf\\\\xe9.png'
    """
    return "".join(char if char in kept else _shown(char) for char in text)


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _NOT_SHOWN and char not in _DIRECTIONS:
        return char
    if 0xDC80 <= ord(char) <= 0xDCFF:
        # Python decodes a byte of a file's name that is not UTF-8 to such a character.
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
