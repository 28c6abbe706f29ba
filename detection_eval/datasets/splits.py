"""Parts of a set of pictures: lists of names in files, and random splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llie_preproc.files import atomic_write

from .labels import Problems, plain_stem, read_lines

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Split:
    """The sizes of the two parts of a set, and the seed of the draw.

    >>> train, test = Split((0.75,), seed=1).draw(["a.png", "b.png", "c.png", "d.png"])
    >>> len(train), len(test)
    (3, 1)

    Attributes:
        sizes: Share of the first part, between 0 and 1, or the numbers of pictures of both parts.
        seed: Seed of the draw.
    """

    sizes: tuple[float] | tuple[int, int]
    seed: int = 0

    @staticmethod
    def parse(values: Sequence[str], seed: int = 0) -> Split:
        """Read a split from words: a share, ``['0.8']``, or two numbers of pictures, ``['526', '131']``.

        Raises:
            ValueError: The words are neither.
        """
        if len(values) == 2 and all(value.isdecimal() and int(value) > 0 for value in values):
            return Split((int(values[0]), int(values[1])), seed)
        try:
            (share,) = (float(value) for value in values)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise ValueError(
                f"a split must be a share between 0 and 1, or two numbers of pictures, got {' '.join(values)}"
            )
        return Split((share,), seed)

    def draw(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Draw two sorted parts of ``names``. If the parts are smaller than all names, the rest is in neither.

        Names are ranked by the SHA-256 digest of seed and name, so the order of the names, the machine and the version
        of Python make no difference.

        Raises:
            ValueError: There are too few names, or a part would be empty.
        """
        ranked = sorted(names, key=self._rank)
        first, second = self._counts(len(ranked))
        return sorted(ranked[:first]), sorted(ranked[first : first + second])

    def _rank(self, name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{self.seed}\n{name}".encode()).digest(), name

    def _counts(self, total: int) -> tuple[int, int]:
        if len(self.sizes) == 2:
            first, second = self.sizes
            if first + second > total:
                raise ValueError(f"a split of {first} and {second} needs {first + second} pictures, got {total}")
            return first, second
        first = int(self.sizes[0] * total + 0.5)
        if not 0 < first < total:
            raise ValueError(f"a share of {self.sizes[0]:g} of {total} pictures leaves one part empty")
        return first, total - first


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """The names in a text file, one in each line, and the file and line of each name, for messages.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file holds a name twice, or no name.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(Path(path).expanduser()), start=1):
        if line in found:
            raise ValueError(f"{path}:{number}: {line} is listed a second time, after {found[line]}")
        if line:
            found[line] = f"{path}:{number}"
    if not found:
        raise ValueError(f"{path} holds no name")
    return found


def write_names(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Write one name in each line, as :func:`read_names` and the ``names`` of the training sets read them."""
    with atomic_write(path) as file:
        file.write("".join(f"{name}\n" for name in names).encode())


def part_path(path: Path, part: str) -> Path:
    """The path of a part of the file ``path``.

    >>> part_path(Path("night.json"), TRAIN).name
    'night_train.json'
    """
    return path.with_name(f"{path.stem}_{part}{path.suffix}")


def select(path: str | os.PathLike[str], pictures: Mapping[str, str], problems: Problems) -> list[str]:
    """The pictures that a list names by path or by file name, with or without suffix.

    Args:
        path: Path of the list.
        pictures: Relative names of the pictures to choose from, with slashes, by key.
        problems: Collector of errors: names of no picture, of several, or of one that was named before.

    Returns:
        The keys of the named pictures, in the order of the list.

    Raises:
        FileNotFoundError: The list is missing.
        ValueError: A name is bad; the message names the file and the line.
    """
    index: dict[str, set[str]] = {}
    for key, name in pictures.items():
        for alias in (name, _without_suffix(name), PurePosixPath(name).name, plain_stem(name)):
            index.setdefault(alias, set()).add(key)
    chosen: dict[str, str] = {}
    wrong = []
    for name, where in read_names(path).items():
        keys = index.get(name) or index.get(_without_suffix(name)) or set()
        if len(keys) != 1:
            wrong.append(f"{where}: {name} names {'several' if keys else 'none'} of the {len(pictures)} pictures")
        elif (other := chosen.setdefault(next(iter(keys)), where)) != where:
            wrong.append(f"{where}: {name} names the same picture as {other}")
    problems.all_bad(wrong)
    return list(chosen)


def _without_suffix(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + plain_stem(file)
