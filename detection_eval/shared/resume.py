"""Checks for commands that keep intermediate results on disk and go on with them in a later run."""

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
    """Compute the SHA-256 of files.

    Args:
        files: Paths by name.

    Returns:
        Digests by name, and the reasons by name for the files that cannot be read.
    """
    found, failed = {}, {}
    for name, path in tqdm(files.items(), desc="pictures", unit="file", delay=2):
        try:
            found[name] = file_sha256(path)
        except OSError as error:
            failed[name] = reason(path, error)
    return found, failed


def require_resume(out: Path, earlier: bool, resume: bool) -> None:
    """Refuse to write into a folder with results of an earlier run, unless this run continues that one.

    Args:
        out: Folder that ``--out`` names.
        earlier: Whether the folder has results of an earlier run.
        resume: Whether this run continues the earlier one.

    Raises:
        ValueError: There are earlier results, and this run does not continue them.
    """
    if earlier and not resume:
        raise ValueError(f"{out} holds results of an earlier run: use --resume to continue it, or choose another --out")


def holds_files(folder: Path) -> bool:
    """Say whether a folder or one of its subfolders holds anything but folders. The folder may be missing."""
    return any(not path.is_dir() for path in folder.rglob("*"))


def read_kept(path: Path, read: Callable[[Path], Content]) -> Content | None:
    """Read a file that an earlier run has kept; None if there is no file.

    Args:
        path: File to read.
        read: Function that reads it.

    Raises:
        ValueError: The file is damaged or cannot be read.
    """
    # A link that leads nowhere counts as a file, because it must not be overwritten silently.
    if not os.path.lexists(path):
        return None
    try:
        return read(path)
    except (OSError, *DAMAGE) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{path} is damaged ({why}): remove it, and it is made again") from error


def require_same(path: Path, old: Any, new: Mapping[str, Any]) -> None:
    """Refuse a file that was made with other settings.

    Args:
        path: File, for the message.
        old: Settings that the file was made with, as read from it.
        new: Settings of this run, plain values.

    Raises:
        ValueError: The settings differ; the message says in what.
    """
    if old != as_read(new):
        what = ", ".join(differing(old, new)) if isinstance(old, Mapping) else "program"
        raise ValueError(f"{path} was made with another {what}: choose another --out, or remove it")


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say in which plain values two mappings differ.

    Args:
        old: Earlier values, as read from JSON.
        new: Values of this run.

    Examples:
        >>> differing({"tile": None, "amp": False}, {"tile": 64, "amp": False})
        ['tile (None, now 64)']
    """
    return list(_differing(old, as_read(new)))


def as_read(value: Any) -> Any:
    """Convert plain values to what JSON gives back: tuples become lists, and classes their names.

    Examples:
        >>> as_read({"size": (2, 3), "kind": int})
        {'size': [2, 3], 'kind': 'int'}
    """
    return json.loads(json.dumps(value, default=lambda each: getattr(each, "__name__", str(each))))


def require_some(names: Collection[str], total: int, failed: Mapping[str, str]) -> None:
    """Refuse to measure if no picture is left.

    Args:
        names: Names of the pictures that are processed for all rows.
        total: Number of pictures at the start.
        failed: Reason why each other picture failed, by name.

    Raises:
        ValueError: There are no names; the message has the first reason.
    """
    if not names:
        first = next(iter(failed.values()), "there is none")
        raise ValueError(f"none of {total} pictures could be processed: {first}")


def reason(path: Path, error: Exception) -> str:
    """Say in one line why a picture failed."""
    return f"{path}: {why_failed(path, error)}"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _differing(was, now, f"{within}{key} ")
        elif was != now:
            yield f"{within}{key} ({was!r}, now {now!r})"
