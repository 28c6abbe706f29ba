"""Loading the objects that other packages name by their entry points."""

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
# Links are resolved for the folder and not for the file, because an installer may link single files into a folder.
_ROOT = real_path(Path(__file__).parent).parent


def entries(group: str) -> list[EntryPoint]:
    """List the entry points of a group, this project's own first, then sorted by name; nothing is imported.

    Examples:
        >>> entries("a group that no package has")
        []
    """
    return list(_entries(group, tuple(sys.path)))


def tables(group: str) -> Iterator[tuple[EntryPoint, Any]]:
    """Yield each entry point of a group with the object that it names, or with the ``ImportError`` of its import.

    The error is yielded and not raised, so that a package that cannot be imported does not affect others. A caller that
    needs something of that package raises it.
    """
    for entry in entries(group):
        try:
            yield entry, load(entry)
        except ImportError as error:
            yield entry, error


@functools.cache
def _entries(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points for one value of ``sys.path``, cached because reading them takes as long as a short command."""
    return tuple(sorted(entry_points(group=group), key=lambda entry: (_distribution(entry) != _OWN, entry.name)))


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        ImportError: The import fails; the message says if another package with the same name hides the module.

    Examples:
        >>> load(EntryPoint("dumps", "json:dumps", "examples"))([1])
        '[1]'
    """
    top, *inner = entry.module.split(".")
    try:
        spec = find_spec(top)
    except ValueError as error:
        raise _hidden(entry, f"a module of that name without a file ({error})") from error
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    # This check comes first, so that another package with the same name is not run.
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
    """Whether a package has the name of one of this project's packages, but is not in the folder that holds these."""
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
