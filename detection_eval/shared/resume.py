"""What is made of pictures once and kept on disk: whether it is still what is asked for, and what could not be made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llie_preproc.errors import why_failed
from llie_preproc.files import file_sha256


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
        raise ValueError(f"{path} was made with another {_difference(old, new)}: choose another --out, or remove it")


def as_read(value: Any) -> Any:
    """Plain values as they come back from JSON."""
    return json.loads(json.dumps(value))


def reason(path: Path, error: Exception) -> str:
    """A line that says why a picture failed."""
    return f"{path}: {why_failed(path, error)}"


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    if not isinstance(old, Mapping):
        return "program"
    return ", ".join(_differing(old, as_read(new)))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _differing(was, now, f"{within}{key} ")
        elif was != now:
            yield f"{within}{key} ({was!r}, now {now!r})"
