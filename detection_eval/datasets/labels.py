"""What the readers of all annotation formats share: the types that they return, the reading of lines, and errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from llie_preproc.files import read_text
from llie_preproc.pictures import SUFFIXES, picture_files

_SHOWN, _LONGEST = 5, 40
_LARGEST = 1 << 63
T = TypeVar("T")
Size = tuple[int, int]


class Box(NamedTuple):
    """A box as the annotation has it, in pixels of the picture.

    Attributes:
        categories: Ids of its classes; a region that counts for several classes has more than one.
        xywh: Left, top, width and height.
        line: Number of its line in the annotation file, counted from 1.
        crowd: Whether it is a crowd: a region where detections are neither required nor false.
        attributes: Other values that the format has for it.
    """

    categories: tuple[int, ...]
    xywh: tuple[float, float, float, float]
    line: int
    crowd: bool = False
    attributes: Mapping[str, Any] = {}


class BoxList(NamedTuple):
    """The boxes of one picture, and the other values that its annotation has."""

    boxes: Sequence[Box] = ()
    attributes: Mapping[str, Any] = {}


class Place(NamedTuple):
    """The place of an annotation: its own file, or its first line in a file for all pictures."""

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


class Problems:
    """A collector of errors in a set of annotations, and of counts of what is left out on purpose.

    >>> problems = Problems(skip_bad=True)
    >>> problems.bad("1.txt:3: a line that cannot be used")
    >>> problems.skipped
    ['1.txt:3: a line that cannot be used']

    Args:
        skip_bad: Whether bad lines and files are collected in ``skipped``. By default the first one raises an error.
    """

    def __init__(self, skip_bad: bool = False) -> None:
        self.skip_bad = skip_bad
        self.skipped: list[str] = []
        self.counts: Counter[str] = Counter()

    def bad(self, message: str) -> None:
        """Report a line or a file that cannot be used.

        Raises:
            ValueError: ``skip_bad`` is off.
        """
        if not self.skip_bad:
            raise ValueError(message)
        self.skipped.append(message)

    def all_bad(self, messages: Sequence[str]) -> None:
        """Report several lines or files that cannot be used.

        Raises:
            ValueError: ``skip_bad`` is off; the message holds the first few.
        """
        if messages and not self.skip_bad:
            raise ValueError(_first(messages))
        self.skipped += messages

    def in_short(self) -> str:
        """The end of a message: the number of skipped lines and files, and the first few; empty if there are none."""
        return f"; {len(self.skipped)} bad lines or files skipped: {_first(self.skipped)}" if self.skipped else ""

    def count(self, what: str, number: int = 1) -> None:
        """Add to the count of something that the rules of the conversion leave out or change."""
        if number:
            self.counts[what] += number


@dataclass(frozen=True)
class LabelSet:
    """Pictures and their annotations, which are not read yet.

    Attributes:
        format: Name of the format.
        root: Folder to which the names of the pictures are relative.
        categories: Names of the classes by id.
        pictures: Picture files by key; the key ties a picture to its annotation.
        labelled: Places of the annotations by key.
        read: Function that reads the annotation of a key of ``labelled``, given the picture's size (width, height). An
            error that it raises makes the whole annotation bad.
        unlabelled_is_empty: Whether a picture without annotation has no objects. Otherwise it is reported as bad.
    """

    format: str
    root: Path
    categories: Mapping[int, str]
    pictures: Mapping[str, Path]
    labelled: Mapping[str, Place]
    read: Callable[[str, Size, Problems], BoxList] = field(repr=False)
    unlabelled_is_empty: bool = False

    def name(self, key: str) -> str:
        """The picture's path relative to ``root``, with slashes."""
        return self.pictures[key].relative_to(self.root).as_posix()

    def only(self, keys: Collection[str]) -> LabelSet:
        """The part of the set with these keys."""
        wanted = set(keys)
        pictures = {key: path for key, path in self.pictures.items() if key in wanted}
        return replace(self, pictures=pictures, labelled={k: v for k, v in self.labelled.items() if k in wanted})

    def complete(self, problems: Problems) -> LabelSet:
        """The pictures that have annotations. A picture or annotation that lacks the other is reported as bad."""
        orphans = [
            f"{where}: there is no picture {key!r} below {self.root}"
            for key, where in self.labelled.items()
            if key not in self.pictures
        ]
        needing = {} if self.unlabelled_is_empty else self.pictures
        orphans += [
            f"{path}: the picture has no annotation" for key, path in needing.items() if key not in self.labelled
        ]
        problems.all_bad(orphans)
        return self.only([key for key in self.pictures if self.unlabelled_is_empty or key in self.labelled])


def _first(messages: Sequence[str]) -> str:
    more = f"; and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
    return "; ".join(messages[:_SHOWN]) + more


def relative_stem(path: Path, root: Path) -> str:
    """The path below ``root`` without its suffix, with slashes, to serve as a key."""
    return path.relative_to(root).with_suffix("").as_posix()


def plain_stem(name: str) -> str:
    """The name of a file without folders and without the suffix of a picture, to serve as a key.

    >>> plain_stem("night/2015_00001.png"), plain_stem("2015_00001.v2")
    ('2015_00001', '2015_00001.v2')
    """
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def pictures_by(root: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """The pictures below ``root`` by their keys.

    Raises:
        FileNotFoundError: The folder is missing or holds no picture.
        ValueError: Two pictures have the same key; the message names both.
    """
    return by_key(picture_files(root), key)


def texts_by(root: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """The ``.txt`` files below ``root`` by their keys.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: Two files have the same key; the message names both.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}, which should hold the annotation files")
    texts = (path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".txt" and path.is_file())
    return by_key((path for path in texts if not path.name.startswith(".")), key)


def by_key(files: Iterable[Path], key: Callable[[Path], str]) -> dict[str, Path]:
    """The files by their keys.

    Raises:
        ValueError: Two files have the same key; the message names both.
    """
    found: dict[str, Path] = {}
    for path in files:
        other = found.setdefault(key(path), path)
        if other is not path:
            raise ValueError(f"{other} and {path} have the same name, {key(path)!r}: rename or remove one of them")
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without the white space around them.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is not UTF-8 text; the message names the file and the line.
    """
    return [line.strip() for line in read_text(path).splitlines()]


def parse_rows(
    lines: Iterable[tuple[int, str]], source: Path, parse: Callable[[str], T], problems: Problems
) -> list[tuple[int, T]]:
    """Parse numbered lines. Blank lines are left out, and lines that ``parse`` refuses are reported as bad.

    Returns:
        The number of each line, and what ``parse`` made of it.
    """
    parsed = []
    for number, line in lines:
        if not line:
            continue
        try:
            parsed.append((number, parse(line)))
        except ValueError as error:
            problems.bad(f"{source}:{number}: {error}")
    return parsed


def integers(fields: Sequence[str], names: Sequence[str]) -> list[int]:
    """The fields as whole numbers, one for each name.

    >>> integers(["3", "-4"], ["left", "top"])
    [3, -4]

    Raises:
        ValueError: There are not as many fields as names, or a field is not a whole number of 64 bits.
    """
    _require_count(fields, names)
    try:
        values = [int(value) for value in fields]
    except ValueError:
        values = []
    if not values or "_" in "".join(fields) or max(map(abs, values)) >= _LARGEST:
        _require_kind(_whole, fields, names, "a whole number")
    return values


def reals(fields: Sequence[str], names: Sequence[str]) -> list[float]:
    """The fields as finite numbers, one for each name.

    Raises:
        ValueError: There are not as many fields as names, or a field is not a finite number.
    """
    _require_count(fields, names)
    _require_kind(_finite, fields, names, "a number")
    return [float(value) for value in fields]


def require_size(width: float, height: float) -> None:
    """Raise ``ValueError`` if a width or height is negative; zero is allowed here."""
    if width < 0 or height < 0:
        raise ValueError(f"width and height must not be negative, got {width} and {height}")


def _require_count(fields: Sequence[str], names: Sequence[str]) -> None:
    if len(fields) != len(names):
        raise ValueError(f"expected {len(names)} values ({' '.join(names)}), got {len(fields)}")


def _require_kind(kind: Callable[[str], object], fields: Sequence[str], names: Sequence[str], what: str) -> None:
    for name, value in zip(names, fields, strict=True):
        try:
            kind(value)
            # Python reads 1_000 as a number, annotation formats do not.
            sound = "_" not in value
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"{name} must be {what}, got {value[:_LONGEST]!r}")


def _whole(value: str) -> None:
    if abs(int(value)) >= _LARGEST:
        raise ValueError(value)


def _finite(value: str) -> None:
    if not math.isfinite(float(value)):
        raise ValueError(value)
