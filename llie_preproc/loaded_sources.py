"""Whether the files of modules are still those that were imported: what runs is what stood there then."""

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

# Of each module that was seen: what stays the same until it is imported anew, and its file's content; None where the
# module belongs to an installed package or has no source.
_seen: dict[str, tuple[object, bytes | None]] = {}


def is_installed(path: str | Path) -> bool:
    """Whether a file belongs to an installed package or to Python."""
    # By texts: a process has more than a thousand modules, which an import should not wait for.
    return _lies_installed(str(path)) or _lies_installed(os.path.realpath(path))


@functools.cache
def distributions_by_package() -> dict[str, list[str]]:
    """The installed distributions that bring each top-level package; read once, since that takes half a second."""
    return dict(packages_distributions())


def remember_sources() -> None:
    """Keep the text of every module that has been imported since the last call, installed packages left out.

    For a moment at which modules have only just been imported, so that their files are still what was imported: the
    class statement of a network.
    """
    for name, module in list(sys.modules.items()):
        identity = _identity(module)
        if name not in _seen or _seen[name][0] is not identity:
            _seen[name] = identity, _text(module)


def require_unedited(name: str, path: Path) -> None:
    """Raise ``ValueError`` where a module has been imported and its file is another one now.

    Other comments and another layout are no edit. A module that :func:`remember_sources` has not met is compared by
    the code of its functions.

    Args:
        name: Full name of the module, which need not have been imported.
        path: Source file of the module.
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
            f"{path} was edited after its import: what runs is not what the file says, so the results cannot be told "
            f"from those of the edited file; restart the process, or reload {name}"
        )


def _lies_installed(file: str) -> bool:
    return file.startswith(_library() + os.sep) or any(part in file for part in _INSTALLED)


@functools.cache
def _library() -> str:
    return os.path.realpath(sysconfig.get_path("stdlib"))


def _identity(module: Any) -> object:
    # A reload keeps the module and makes another spec; a script has none.
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
    """Whether a file holds the code of the functions that a module has from it."""
    loader = getattr(module, "__loader__", None)
    # Other loaders change the code, as that of a test runner does with assertions.
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
    """Functions of a module and of its classes, also behind properties, static methods and class methods."""
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
    """What a code object does, wherever it stands."""
    constants = (_signature(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts)
    return code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, tuple(constants)
