"""What other packages bring: tables that they name in an entry-point group of their distribution."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from .errors import one_line
from .files import real_path

_OWN = "llie-preproc"
# Not of the file: an installer may have linked files into a folder.
_ROOT = real_path(Path(__file__).parent).parent


def entries(group: str) -> list[EntryPoint]:
    """The entry points of a group, this project's own first, then sorted by name; nothing is imported."""
    return list(_entries(group, tuple(sys.path)))


def tables(group: str) -> Iterator[tuple[EntryPoint, Any]]:
    """Each entry point of a group with what it names, or with the ``ImportError`` that says why that does not import.

    A package that does not import must not take others with it: whoever looks for something of its raises the error.
    """
    for entry in entries(group):
        try:
            yield entry, load(entry)
        except ImportError as error:
            yield entry, error


@functools.cache
def _entries(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Those on Python's path as it is now: their files are read once, which takes as long as a whole short command."""
    return tuple(sorted(entry_points(group=group), key=lambda entry: (_distribution(entry) != _OWN, entry.name)))


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        ImportError: It does not import; the message says so where another package of its name hides it.
    """
    top, *inner = entry.module.split(".")
    try:
        spec = find_spec(top)
    except ValueError as error:
        raise _hidden(entry, f"a module of that name without a file ({error})") from error
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    # Before anything of a package runs that only has the name.
    if spec is not None and (_elsewhere(entry, folders) or not _has(folders, inner)):
        raise _hidden(entry, folders[0] if folders else spec.origin)
    try:
        return entry.load()
    except ImportError:
        raise
    except AttributeError as error:
        raise _hidden(entry, folders[0] if folders else entry.module) from error
    except (Exception, SystemExit) as error:
        raise ImportError(f"{entry.module} does not import: {type(error).__name__}: {one_line(error)}") from error


def _elsewhere(entry: EntryPoint, folders: list[str]) -> bool:
    """Whether a package is none of this project's, all of which lie side by side, though it has the name of one."""
    return _distribution(entry) == _OWN and _ROOT not in (real_path(each).parent for each in folders)


def _has(folders: list[str], inner: list[str]) -> bool:
    return not inner or inner[0] in (each.name for each in iter_modules(folders))


def _hidden(entry: EntryPoint, by: str | None) -> ImportError:
    return ImportError(
        f"{entry.module} of {_distribution(entry)} is hidden by {by}, which stands earlier on Python's path: "
        "rename that folder, or start from another one without PYTHONPATH",
        name=entry.module,
    )


def _distribution(entry: EntryPoint) -> str:
    distribution = getattr(entry, "dist", None)
    return distribution.name if distribution is not None else "its distribution"
