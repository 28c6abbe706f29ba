"""Names of one class: equal ones, other spellings of one name, and synonyms."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SYNONYMS = (
    ("person", "people", "pedestrian"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike", "motor"),
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("dining table", "table"),
    ("tv", "tv monitor", "television"),
    ("cell phone", "mobile phone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("face", "human face"),
)
"""Names of one class in COCO, PASCAL VOC, ExDark, VisDrone, BDD100K and Open Images, a class in each row."""


def letters(name: str) -> str:
    """A name in lower case, without spaces, hyphens and underscores; between two digits they become one space.

    Examples:
        >>> letters("Traffic_Light"), letters("class 1-1"), letters("class 11")
        ('trafficlight', 'class1 1', 'class11')
    """
    spaced = re.sub(r"[\s_-]+", " ", name).casefold()
    return re.sub(r"(?<!\d) | (?!\d)", "", spaced)


def alike(name: str, names: Sequence[str]) -> list[str]:
    """The names that one name may be: the equal one, or else all that differ in case and separators alone.

    Examples:
        >>> alike("car", ["Car", "CAR", "bus"]), alike("car", ["Car", "car"])
        (['Car', 'CAR'], ['car'])
    """
    return [name] if name in names else [each for each in names if letters(each) == letters(name)]


def match_by_name(detector: Sequence[str], annotated: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Match a detector's names to a set's: first equal names, then other spellings of the rest, then synonyms.

    Where one side has several names of one class and the other side has one, all of them match. Where both sides have
    several, none does.

    Returns:
        The set's names by the detector's, without names that match nothing.

    Examples:
        >>> match_by_name(["person", "tv"], ["Person", "pedestrian", "television"])
        {'person': ('Person',), 'tv': ('television',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for key in (str, letters, _meaning):
        known = {name for names in found.values() for name in names}
        free, left = [n for n in detector if n not in found], [n for n in annotated if n not in known]
        found |= _of_one_key(key, free, left)
    return found


def _of_one_key(
    key: Callable[[str], str], detector: Sequence[str], annotated: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    found = {}
    for name in detector:
        own = [each for each in detector if key(each) == key(name)]
        there = [each for each in annotated if key(each) == key(name)]
        if there and 1 in (len(own), len(there)):
            found[name] = tuple(there)
    return found


_ROWS = {letters(name): row[0] for row in SYNONYMS for name in row}


def _meaning(name: str) -> str:
    return _ROWS.get(letters(name), letters(name))
