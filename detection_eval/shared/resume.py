"""What is made of pictures once and kept on disk: whether it is still what is asked for, and what could not be made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from llie_preproc.checkpoints import DAMAGE
from llie_preproc.errors import one_line, why_failed
from llie_preproc.files import file_sha256

Content = TypeVar("Content")


def digests_of(files: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 of files by name, and the reasons of those that cannot be read."""
    found, failed = {}, {}
    for name, path in tqdm(files.items(), desc="pictures", unit="file", delay=2):
        try:
            found[name] = file_sha256(path)
        except OSError as error:
            failed[name] = reason(path, error)
    return found, failed


def require_resume(out: Path, earlier: bool, resume: bool) -> None:
    """Refuse to write beside what an earlier run has left, unless this run goes on with it.

    Args:
        out: Folder that ``--out`` names.
        earlier: Whether an earlier run has left something there.
        resume: Whether to go on.

    Raises:
        ValueError: There is something, and this run does not go on.
    """
    if earlier and not resume:
        raise ValueError(f"{out} holds results of an earlier run: --resume goes on with it; or choose another --out")


def holds_files(folder: Path) -> bool:
    """Whether something other than folders lies in a folder or below; there may be no such folder."""
    return any(not path.is_dir() for path in folder.rglob("*"))


def read_kept(path: Path, read: Callable[[Path], Content]) -> Content | None:
    """What an earlier run has kept in a file; None where there is no file.

    Args:
        path: The file.
        read: Function that reads it.

    Raises:
        ValueError: The file is damaged, or is no file that can be read.
    """
    # A link that leads nowhere is something, which would be written over.
    if not os.path.lexists(path):
        return None
    try:
        return read(path)
    except (OSError, *DAMAGE) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{path} is damaged ({why}): remove it, and it is made anew") from error


def require_same(path: Path, old: Any, new: Mapping[str, Any]) -> None:
    """Refuse a file that was made with something else.

    Args:
        path: The file.
        old: What it was made with, read from it.
        new: What is wanted, plain values.

    Raises:
        ValueError: They differ; the message says in what.
    """
    if old != as_read(new):
        what = ", ".join(differing(old, new)) if isinstance(old, Mapping) else "program"
        raise ValueError(f"{path} was made with another {what}: choose another --out, or remove it")


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what two sets of plain values differ, in words.

    >>> differing({"tile": None, "amp": False}, {"tile": 64, "amp": False})
    ['tile (None, now 64)']

    Args:
        old: Values as JSON has them.
        new: Values that are wanted.
    """
    return list(_differing(old, as_read(new)))


def as_read(value: Any) -> Any:
    """Plain values as they come back from JSON: tuples are lists, classes their names."""
    return json.loads(json.dumps(value, default=lambda each: getattr(each, "__name__", str(each))))


def require_some(names: Collection[str], total: int, failed: Mapping[str, str]) -> None:
    """Refuse to measure where no picture is left.

    Args:
        names: Names of the pictures that all rows got through.
        total: Number of pictures that there were.
        failed: Why each of the others failed, by name.

    Raises:
        ValueError: There are no names; the message has the first reason.
    """
    if not names:
        first = next(iter(failed.values()), "there is none")
        raise ValueError(f"not one of {total} pictures could be worked through: {first}")


def reason(path: Path, error: Exception) -> str:
    """A line that says why a picture failed."""
    return f"{path}: {why_failed(path, error)}"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _differing(was, now, f"{within}{key} ")
        elif was != now:
            yield f"{within}{key} ({was!r}, now {now!r})"
