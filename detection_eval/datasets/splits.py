"""Parts of a set by name: lists, and seeded splits."""

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
    """How many pictures go to each part.

    Attributes:
        sizes: The share of the first part, between 0 and 1; or the numbers of both.
        seed: Another one gives another draw.
    """

    sizes: tuple[float] | tuple[int, int]
    seed: int = 0

    @staticmethod
    def parse(values: Sequence[str], seed: int = 0) -> Split:
        """``['0.8']`` or ``['526', '131']``.

        Raises:
            ValueError: Something else.
        """
        if len(values) == 2 and all(value.isdecimal() and int(value) > 0 for value in values):
            return Split((int(values[0]), int(values[1])), seed)
        try:
            (share,) = (float(value) for value in values)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise ValueError(f"a split is a share between 0 and 1, or two numbers of pictures; got {' '.join(values)}")
        return Split((share,), seed)

    def draw(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Two parts of ``names``, each sorted; with numbers that are less than all, the rest is in neither.

        Names are ranked by the SHA-256 digest of seed and name: their order, the machine and Python's version make no
        difference.

        Raises:
            ValueError: Too few names, or a part would be empty.
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
                raise ValueError(f"a split of {first} and {second} takes {first + second} pictures, there are {total}")
            return first, second
        first = int(self.sizes[0] * total + 0.5)
        if not 0 < first < total:
            raise ValueError(f"a share of {self.sizes[0]:g} of {total} pictures leaves one part empty")
        return first, total - first


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """The names of a text file, one a line, with the place of each for messages.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A name is there twice, or none is.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(Path(path).expanduser()), start=1):
        if line in found:
            raise ValueError(f"{path}:{number}: {line} is there a second time, after {found[line]}")
        if line:
            found[line] = f"{path}:{number}"
    if not found:
        raise ValueError(f"{path}: there is no name in it")
    return found


def write_names(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Write names, one a line, as :func:`read_names` and the ``names`` of the training sets take them."""
    with atomic_write(path) as file:
        file.write("".join(f"{name}\n" for name in names).encode())


def part_path(path: Path, part: str) -> Path:
    """``night.json`` to ``night_train.json``."""
    return path.with_name(f"{path.stem}_{part}{path.suffix}")


def select(path: str | os.PathLike[str], pictures: Mapping[str, str], problems: Problems) -> list[str]:
    """The pictures that a list names: by path or by file name alone, suffixes being of no account.

    Args:
        path: The list.
        pictures: What to choose from: relative names, with slashes, by key.
        problems: Takes names that stand for no picture, for several, or for one that was named before.

    Returns:
        Keys, in the order of the list.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A name is bad; the message names file and line.
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
            wrong.append(f"{where}: {name} is {'several' if keys else 'none'} of the {len(pictures)} pictures")
        elif (other := chosen.setdefault(next(iter(keys)), where)) != where:
            wrong.append(f"{where}: {name} is the picture of {other}")
    problems.all_bad(wrong)
    return list(chosen)


def _without_suffix(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + plain_stem(file)
