"""Checks that the files of modules have not been edited since their import, so that they are the code that runs."""

from __future__ import annotations

import ast
import functools
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

# For each module that was seen: an object that stays the same until the module is imported again, and the content of
# its file, or None if the module belongs to an installed package or has no source.
_seen: dict[str, tuple[object, bytes | None]] = {}


def is_installed(path: str | Path) -> bool:
    """Whether a file belongs to an installed package or to Python.

    Examples:
        >>> is_installed(ast.__file__)
        True
    """
    # Comparing texts is fast, which matters for the more than a thousand modules of a process.
    return _lies_installed(str(path)) or _lies_installed(os.path.realpath(path))


@functools.cache
def distributions_by_package() -> dict[str, list[str]]:
    """The installed distributions of each top-level package, read only once because that takes half a second.

    Examples:
        >>> distributions_by_package()["numpy"]
        ['numpy']
    """
    return dict(packages_distributions())


def remember_sources() -> None:
    """Keep the source of every module that has been imported since the last call, except installed packages.

    It must be called soon after an import, before a file may have been edited. The class statement of every network
    calls it.
    """
    for name, module in list(sys.modules.items()):
        identity = _identity(module)
        if name not in _seen or _seen[name][0] is not identity:
            _seen[name] = identity, _text(module)


def require_unedited(name: str, path: Path) -> None:
    """Raise ``ValueError`` if a module has been imported and its file has been edited since.

    Changes of comments and of the layout do not count. If :func:`remember_sources` has not seen the module, the code of
    its functions is compared.

    Args:
        name: Full name of the module, which need not have been imported.
        path: Source file of the module.

    Examples:
        >>> require_unedited("ast", Path(ast.__file__))
    """
    module = sys.modules.get(name)
    if module is None or not _is_of(module, path):
        return
    identity, then = _seen.get(name, (None, None))
    if identity is _identity(module):
        same = then is None or _same_program(then, path.read_bytes())
    else:
        same = _holds_functions(path, module)
        _seen.update({name: (_identity(module), path.read_bytes())} if same else {})
    if not same:
        raise ValueError(
            f"{path} was edited after its import: the code that runs is not that of the file, so its results would be "
            f"confused with those of the edited file; restart the process, or reload {name}"
        )


def _lies_installed(file: str) -> bool:
    return file.startswith(_library() + os.sep) or any(part in file for part in _INSTALLED)


@functools.cache
def _library() -> str:
    return os.path.realpath(sysconfig.get_path("stdlib"))


def _identity(module: Any) -> object:
    # A reload keeps the module but creates another spec. A script has no spec.
    return getattr(module, "__spec__", None) or module


def _text(module: Any) -> bytes | None:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or is_installed(file):
        return None
    try:
        return Path(file).read_bytes()
    except OSError:
        return None


def _is_of(module: Any, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.realpath(file) == os.path.realpath(path)


def _same_program(then: bytes, now: bytes) -> bool:
    if then == now:
        return True
    try:
        return ast.dump(ast.parse(then)) == ast.dump(ast.parse(now))
    except (SyntaxError, ValueError):
        return False


def _holds_functions(path: Path, module: types.ModuleType) -> bool:
    """Whether a file holds the code of all functions of the module that was imported from it."""
    loader = getattr(module, "__loader__", None)
    # Other loaders may change the code, as a test runner's does with assertions, so it cannot be compared.
    if type(loader) is not SourceFileLoader:
        return True
    try:
        written = loader.source_to_code(path.read_bytes(), str(module.__file__))  # type: ignore[call-arg]
    except (SyntaxError, ValueError):
        return False
    known = {_signature(code) for code in _codes(written)}
    running = (function.__code__ for function in _functions(module))
    return all(_signature(code) in known for code in running if code.co_filename == module.__file__)


def _functions(module: types.ModuleType) -> Iterator[types.FunctionType]:
    """Yield the functions of a module and of its classes, with those of properties, static and class methods."""
    values = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    for value in values:
        for each in (value, *(vars(value).values() if isinstance(value, type) else ())):
            function = getattr(each, "__func__", None) or getattr(each, "fget", None) or each
            if isinstance(function, types.FunctionType):
                yield function


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)


def _signature(code: types.CodeType) -> tuple[Any, ...]:
    """The parts of a code object that do not depend on its place in the file."""
    constants = (_signature(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts)
    return code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, tuple(constants)
