"""What other packages bring: tables that they name in an entry-point group of their distribution."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any


def entries(group: str) -> list[EntryPoint]:
    """The entry points of a group, sorted by name; nothing is imported."""
    return sorted(entry_points(group=group), key=lambda entry: entry.name)


def tables(group: str) -> Iterator[tuple[EntryPoint, Any]]:
    """Each entry point of a group with what it names, or with the ``ImportError`` that says why that does not import.

    A package that does not import must not take others with it: whoever looks for something of its raises the error.
    """
    for entry in entries(group):
        try:
            yield entry, load(entry)
        except ImportError as error:
            yield entry, error


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        ImportError: It does not import; the message says so where another package of its name hides it.
    """
    try:
        return entry.load()
    except (ModuleNotFoundError, AttributeError) as error:
        hiding = _hiding(entry.module, error)
        if hiding is None:
            raise
        raise ImportError(
            f"{entry.module} of {_distribution(entry)} is hidden by {hiding}, which stands earlier on Python's path: "
            "rename that folder, or start from another one without PYTHONPATH",
            name=entry.module,
        ) from error


def _hiding(module: str, error: Exception) -> str | None:
    """Where the package is that Python found in place of a module's; None: the error is another one."""
    top = module.split(".")[0]
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and (missing is None or missing.split(".")[0] != top or missing == top):
        return None
    spec = find_spec(top)
    if spec is None:
        return None
    return spec.origin or str(next(iter(spec.submodule_search_locations or [""])))


def _distribution(entry: EntryPoint) -> str:
    distribution = getattr(entry, "dist", None)
    return distribution.name if distribution is not None else "its distribution"
