"""What the parsers of all formats give, and what they share: lines, files by name, and what was wrong with them."""

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
    """A box as an annotation has it, in pixels of the picture.

    Attributes:
        categories: Ids of its classes; more than one where a region counts for several.
        xywh: Left, top, width, height.
        line: Of the annotation file, counted from 1.
        crowd: Neither an object to find nor a false positive where it is found.
        attributes: What else the format says of it.
    """

    categories: tuple[int, ...]
    xywh: tuple[float, float, float, float]
    line: int
    crowd: bool = False
    attributes: Mapping[str, Any] = {}


class BoxList(NamedTuple):
    """The boxes of one picture, and what else its annotation says of it."""

    boxes: Sequence[Box] = ()
    attributes: Mapping[str, Any] = {}


class Place(NamedTuple):
    """Where an annotation is: a file of its own, or from a line on of one for all pictures."""

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


class Problems:
    """What is wrong with a set of annotations, and what is left out of it on purpose.

    Args:
        skip_bad: List bad lines and files in ``skipped`` where the default raises at the first.
    """

    def __init__(self, skip_bad: bool = False) -> None:
        self.skip_bad = skip_bad
        self.skipped: list[str] = []
        self.counts: Counter[str] = Counter()

    def bad(self, message: str) -> None:
        """A line or a file that cannot be used.

        Raises:
            ValueError: Such are not to be skipped.
        """
        if not self.skip_bad:
            raise ValueError(message)
        self.skipped.append(message)

    def all_bad(self, messages: Sequence[str]) -> None:
        """Several of one kind, of which the first are named where such are not to be skipped."""
        if messages and not self.skip_bad:
            raise ValueError(_first(messages))
        self.skipped += messages

    def in_short(self) -> str:
        """How many were skipped and the first of them, to end a message with; empty where none was."""
        return f"; {len(self.skipped)} bad lines or files skipped: {_first(self.skipped)}" if self.skipped else ""

    def count(self, what: str, number: int = 1) -> None:
        """So many more of what is left out, or changed, by the rules of the conversion."""
        if number:
            self.counts[what] += number


@dataclass(frozen=True)
class LabelSet:
    """Pictures and their annotations, not read yet.

    Attributes:
        format: Name of the format.
        root: Folder that the pictures' names are relative to.
        categories: Names of the classes by id.
        pictures: Picture files by key: what ties a picture to its annotation.
        labelled: Where the annotation of each key is.
        read: Reads the annotation of a key of ``labelled``, given the picture's size (width, height); what it raises
            makes the whole annotation bad.
        unlabelled_is_empty: A picture without annotation is one without objects.
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
        """The same with these keys alone."""
        wanted = set(keys)
        pictures = {key: path for key, path in self.pictures.items() if key in wanted}
        return replace(self, pictures=pictures, labelled={k: v for k, v in self.labelled.items() if k in wanted})

    def complete(self, problems: Problems) -> LabelSet:
        """The same without pictures that have no annotation and annotations that have no picture, which are bad."""
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
    """A key: the path below ``root`` without its suffix, with slashes."""
    return path.relative_to(root).with_suffix("").as_posix()


def plain_stem(name: str) -> str:
    """A key: the file's name without folders, and without a picture's suffix if it has one."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def pictures_by(root: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """The pictures below ``root`` by their keys.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
        ValueError: Two have one key; the message names both.
    """
    return by_key(picture_files(root), key)


def texts_by(root: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """The ``.txt`` files below ``root`` by their keys.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Two have one key; the message names both.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}, where the annotation files should be")
    texts = (path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".txt" and path.is_file())
    return by_key((path for path in texts if not path.name.startswith(".")), key)


def by_key(files: Iterable[Path], key: Callable[[Path], str]) -> dict[str, Path]:
    """Files by their keys.

    Raises:
        ValueError: Two have one key; the message names both.
    """
    found: dict[str, Path] = {}
    for path in files:
        other = found.setdefault(key(path), path)
        if other is not path:
            raise ValueError(f"{other} and {path} have one name, {key(path)!r}: which is meant cannot be told")
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without the white space around them.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no UTF-8 text; the message names the file and the line.
    """
    return [line.strip() for line in read_text(path).splitlines()]


def parse_rows(
    lines: Iterable[tuple[int, str]], source: Path, parse: Callable[[str], T], problems: Problems
) -> list[tuple[int, T]]:
    """Parse numbered lines; blank ones are passed over, and those that ``parse`` refuses are bad.

    Returns:
        The number of each line, and what it says.
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
    """One whole number for each name.

    Raises:
        ValueError: Another number of fields, or one that is no whole number, or none of 64 bits.
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
    """One finite number for each name.

    Raises:
        ValueError: Another number of fields, or one that is no number.
    """
    _require_count(fields, names)
    _require_kind(_finite, fields, names, "a number")
    return [float(value) for value in fields]


def require_size(width: float, height: float) -> None:
    """Raise ValueError where a width or height is negative; zero is another matter."""
    if width < 0 or height < 0:
        raise ValueError(f"width and height must not be negative, got {width} and {height}")


def _require_count(fields: Sequence[str], names: Sequence[str]) -> None:
    if len(fields) != len(names):
        raise ValueError(f"expected {len(names)} values ({' '.join(names)}), got {len(fields)}")


def _require_kind(kind: Callable[[str], object], fields: Sequence[str], names: Sequence[str], what: str) -> None:
    for name, value in zip(names, fields, strict=True):
        try:
            kind(value)
            # Python reads 1_000 as a number.
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
