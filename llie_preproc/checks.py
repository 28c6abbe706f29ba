"""Checks of arguments, each in one place: a wrong one is refused where it is given, never read as a default."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection

# Controls (an escape sequence can rewrite a terminal), halves of characters, and breaks of lines and paragraphs.
_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be a {'whole ' if whole else ''}number of at least {least}, got {value!r}")


def printable(text: str, kept: str = "") -> str:
    """Text with what cannot be printed safely written as escapes: controls, and bytes of names that are not UTF-8.

    Args:
        text: Text, such as a message with the name of a file.
        kept: Characters to leave as they are.

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
        # As Python decodes a byte of a file's name that is not UTF-8.
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
