"""Writing files so that they appear whole or not at all, and careful reading of files that others wrote."""

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
"""Error numbers of a disk that is full, over its quota or read-only, so that every further write would fail too."""

_WRITE_FAILED = DISK_IS_FULL | {errno.EFBIG, errno.EIO}
# The name has a dot, the first characters of the target's name, a digest of that name, and a unique number.
_TEMPORARY = re.compile(r"\..*\.(?P<target>[0-9a-f]{16})\.[0-9a-f]{32}\.[^/]+", re.DOTALL)
# Each character has at most four bytes, so that the whole name stays within the 255 bytes of most file systems.
_SHOWN = 40
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """Raised if a path leads to a folder, a pipe, a socket or a device instead of a regular file."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` whole when the block ends without an exception, or not at all.

    Raises:
        OSError: The file cannot be written; the error names ``path``, also if the disk is full.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "result.bin"
        >>> with atomic_write(path) as file:
        ...     _ = file.write(b"whole")
        ...     path.exists()
        False
        >>> path.read_bytes()
        b'whole'
    """
    with _temporary(Path(path), ".tmp") as temporary, temporary.open("r+b") as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], suffix: str = ".tmp") -> Iterator[Path]:
    """Do what :func:`atomic_write` does, for writers that open their file by name.

    Yields:
        Path to write to, which ends in ``suffix``. An empty file exists there already.

    Raises:
        OSError: The file cannot be written, or nothing was written.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "result.txt"
        >>> with atomic_path(path, ".txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    with _temporary(Path(path), suffix) as temporary:
        yield temporary
        if not temporary.stat().st_size:
            raise OSError(f"{path}: nothing was written")


def remove_leftovers(targets: Iterable[str | os.PathLike[str]]) -> int:
    """Remove the temporary files of these targets that killed processes left behind.

    A process that still runs, on this machine or on another that shares the disk and its locks, holds a lock on its
    temporary file. Locked files and temporary files of other targets are kept.

    Args:
        targets: Paths that :func:`atomic_write` or :func:`atomic_path` wrote, or was about to write.

    Returns:
        Number of files that were removed.

    Examples:
        >>> import tempfile
        >>> remove_leftovers([Path(tempfile.mkdtemp()) / "result.bin"])
        0
    """
    digests: dict[Path, set[str]] = {}
    for target in map(Path, targets):
        digests.setdefault(target.parent, set()).add(_digest(target))
    return sum(_remove_unlocked(path) for folder, names in digests.items() for path in _temporaries(folder, names))


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str], follow: bool = True) -> Iterator[BufferedReader]:
    """Open a regular file for reading, and refuse anything else, such as a pipe, which could block for ever.

    Args:
        path: Path of the file.
        follow: Whether a symbolic link to a regular file is opened.

    Raises:
        NotRegularError: The path leads to a folder, a pipe, a socket, a device or, with ``follow=False``, a symbolic
            link.
        OSError: There is no such file, or it cannot be read.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with open_regular(folder) as file:
        ...     file.read()
        Traceback (most recent call last):
        llie_preproc.files.NotRegularError: ...: a folder, and not a regular file
    """
    if not follow and Path(path).is_symlink():
        raise NotRegularError(f"{os.fspath(path)}: a symbolic link, and not a regular file")
    # Even opening a device may have an effect, so the kind is checked before opening, and again on the open file.
    _require_regular(os.stat(path), path)  # noqa: PTH116  a descriptor's status is asked in the same way
    # A system that lacks one of these flags also lacks the danger that the flag prevents.
    flags = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow else ("O_NOFOLLOW",)))
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    with open(descriptor, "rb") as file:  # noqa: PTH123
        _require_regular(os.fstat(descriptor), path)
        yield file


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file; the exceptions are those of :func:`open_regular`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.bin"
        >>> _ = path.write_bytes(b"abc")
        >>> read_bytes(path)
        b'abc'
    """
    with open_regular(path) as file:
        return file.read()


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise the errors of :func:`open_regular`, for libraries that open files by their names."""
    with open_regular(path):
        pass


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a regular file of UTF-8 text, with or without a byte order mark; line ends become ``\\n``.

    Raises:
        ValueError: The file is not UTF-8 text; the message names the file and the line.
        OSError: The file is not a regular one, or cannot be read.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> _ = path.write_bytes(b"one\\r\\ntwo")
        >>> read_text(path)
        'one\\ntwo'
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{os.fspath(path)}:{line}: not UTF-8 text ({error})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file as 64 hex digits; the file may be larger than the memory.

    Raises:
        FileNotFoundError: There is no such file.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.bin"
        >>> _ = path.write_bytes(b"abc")
        >>> file_sha256(path)[:16]
        'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that appears whole or not at all.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> write_json(path, {"epoch": 3})
        >>> read_text(path)
        '{\\n "epoch": 3\\n}\\n'
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write text files, none of which appears before all are on disk.

    Raises:
        OSError: A file cannot be written; the message names it, and no file has changed.
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
    """Make an empty file, and return the descriptor whose lock shows that its writer is alive, or None on Windows."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(descriptor)
            return None
        # Not every network disk has locks; on one without locks, no leftovers are removed.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        # Another process removed the file as a leftover before it was locked.
        os.close(descriptor)


def _remove_unlocked(path: Path) -> bool:
    try:
        # The file is opened for writing, because some network disks need that for a lock. A link or a FIFO is not ours.
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Before the lock, another process may have removed this file, and its writer may have created a new one.
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
    """Whether the open file is the one at ``path``."""
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
    """The error with the target's name, if writing the temporary file failed; else None."""
    if isinstance(error, OSError) and error.errno is not None:
        nameless = error.filename is None and error.errno in _WRITE_FAILED
        if nameless or (error.filename is not None and Path(os.fsdecode(error.filename)) == temporary):
            return OSError(error.errno, os.strerror(error.errno), str(target))
        return None
    return OSError(f"{target}: not written whole: is there space on the disk? ({error})") if _is_short(error) else None


def _is_short(error: BaseException) -> bool:
    """Whether NumPy or PyTorch says, without the system's reason, that less was written than asked for."""
    if type(error) is OSError:
        return re.search(r"requested and \d+ written", str(error)) is not None
    return isinstance(error, RuntimeError) and re.search("PytorchStreamWriter|inline_container", str(error)) is not None


def real_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links; a circle of links stays as it is, and fails when it is opened."""
    return Path(os.path.realpath(path))


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegularError(f"{os.fspath(path)}: {kind}, and not a regular file")
