"""Files that appear whole or not at all, what killed processes left of them, their digests, and files of others."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which refuses to remove a file that is open.
    fcntl = None  # type: ignore[assignment]

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Error numbers that every further write to the same disk would meet: it is full, over its quota, or read-only."""

_WRITE_FAILED = DISK_IS_FULL | {errno.EFBIG, errno.EIO}
# A dot, the first characters of the target's name, a digest of the whole name, and a number of its own.
_TEMPORARY = re.compile(r"\..*\.(?P<target>[0-9a-f]{16})\.[0-9a-f]{32}\.[^/]+", re.DOTALL)
# Of at most four bytes each: with what follows them the name stays within the 255 bytes of most file systems.
_SHOWN = 40
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """What stands at a path is a folder, a pipe, a socket or a device, and no file to read."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path`` whole, when the block ends without an exception, or not at all.

    Raises:
        OSError: The file cannot be written; the error names ``path``, also where the disk is full.
    """
    with _temporary(Path(path), ".tmp") as temporary, temporary.open("r+b") as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], suffix: str = ".tmp") -> Iterator[Path]:
    """:func:`atomic_write` for writers that open their file by name.

    Yields:
        The path to write to, which ends in ``suffix``. An empty file is there already.

    Raises:
        OSError: As for :func:`atomic_write`; or nothing was written.
    """
    with _temporary(Path(path), suffix) as temporary:
        yield temporary
        if not temporary.stat().st_size:
            raise OSError(f"{path}: nothing was written")


def remove_leftovers(targets: Iterable[str | os.PathLike[str]]) -> int:
    """Remove the temporary files that killed processes left of these targets.

    A living process holds a lock on its temporary file, on this machine or on another that shares the disk and its
    locks: such files stay, and those of other targets do.

    Args:
        targets: Paths that :func:`atomic_write` or :func:`atomic_path` wrote, or was about to write.

    Returns:
        Number of files removed.
    """
    digests: dict[Path, set[str]] = {}
    for target in map(Path, targets):
        digests.setdefault(target.parent, set()).add(_digest(target))
    return sum(_remove_unlocked(path) for folder, names in digests.items() for path in _temporaries(folder, names))


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str], follow: bool = True) -> Iterator[BufferedReader]:
    """Open a regular file for reading, and nothing else: a pipe of that name does not hold anything up.

    Args:
        path: Path of the file.
        follow: Whether a symbolic link to a regular file is opened.

    Raises:
        NotRegularError: A folder, a pipe, a socket, a device, or with ``follow=False`` a symbolic link stands there.
        OSError: There is no such file, or it cannot be read.
    """
    if not follow and Path(path).is_symlink():
        raise NotRegularError(f"{os.fspath(path)}: a symbolic link, and no regular file")
    # Opening a device may do something already, so its kind is asked before, and again of what was opened.
    _require_regular(os.stat(path), path)  # noqa: PTH116  a descriptor's status is asked in the same way
    # Systems that lack a flag also lack what it is against.
    flags = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow else ("O_NOFOLLOW",)))
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    with open(descriptor, "rb") as file:  # noqa: PTH123
        _require_regular(os.fstat(descriptor), path)
        yield file


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file; raises as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise as :func:`open_regular` where a library that opens files by their names would find no file to read."""
    with open_regular(path):
        pass


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a regular file of UTF-8 text, with or without a byte order mark.

    Raises:
        ValueError: The file is no UTF-8 text; the message names the file and the line.
        OSError: As :func:`open_regular`.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{os.fspath(path)}:{line}: no UTF-8 text ({error})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, which may be larger than memory, as 64 hex digits.

    Raises:
        FileNotFoundError: There is no such file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write text files, none of which appears before all are on disk.

    Raises:
        OSError: One cannot be written, and none has changed; the message names it.
    """
    with ExitStack() as stack:
        for path, text in texts.items():
            file = stack.enter_context(atomic_write(path))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _temporary(target: Path, suffix: str) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:_SHOWN]}.{_digest(target)}.{uuid.uuid4().hex}{suffix}")
    descriptor = None
    try:
        descriptor = _create(temporary)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if (named := _about(error, target, temporary)) is not None:
            raise named from error
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _digest(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]


def _create(path: Path) -> int | None:
    """Make an empty file; returns the descriptor whose lock says that its writer lives, None on Windows."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(descriptor)
            return None
        # Not every network disk has locks; where there are none, nobody's leftovers are removed.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        # Taken for a leftover between its creation and its lock.
        os.close(descriptor)


def _remove_unlocked(path: Path) -> bool:
    try:
        # For writing: some network disks lock no other way. A link or a FIFO by this name is not ours.
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another may have removed this file, and its writer made a new one of the same name, before the lock.
            if _is_at(descriptor, path):
                path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    if fcntl is None:
        with contextlib.suppress(OSError):
            path.unlink()
    return not path.exists()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that stands at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _temporaries(folder: Path, digests: set[str]) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    matches = ((path, _TEMPORARY.fullmatch(path.name)) for path in entries)
    return [path for path, match in matches if match is not None and match["target"] in digests]


def _about(error: BaseException, target: Path, temporary: Path) -> OSError | None:
    """The same error with the target's name, where it is about writing the temporary file; else None."""
    if isinstance(error, OSError) and error.errno is not None:
        nameless = error.filename is None and error.errno in _WRITE_FAILED
        if nameless or (error.filename is not None and Path(os.fsdecode(error.filename)) == temporary):
            return OSError(error.errno, os.strerror(error.errno), str(target))
        return None
    return OSError(f"{target}: not written whole: is there space on the disk? ({error})") if _is_short(error) else None


def _is_short(error: BaseException) -> bool:
    """Whether NumPy or PyTorch says that less was written than it gave, without the system's reason."""
    if type(error) is OSError:
        return re.search(r"requested and \d+ written", str(error)) is not None
    return isinstance(error, RuntimeError) and re.search("PytorchStreamWriter|inline_container", str(error)) is not None


def real_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links; one of links that lead in a circle stays as it is, and fails when opened."""
    return Path(os.path.realpath(path))


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegularError(f"{os.fspath(path)}: {kind}, and no regular file")
