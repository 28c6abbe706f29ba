"""Digests of networks, by which results are kept on disk: networks with equal digests have equal results."""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import itertools
import logging
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .enhancers.base import Enhancer
from .loaded_sources import distributions_by_package, is_installed, require_unedited

# These attributes are not settings: parameters and buffers are compared by content, and the caller chooses the mode.
_OWN_STATE = {"training", *vars(nn.Module())}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis))
_TORCH_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format)
# The code of these packages does not count, because results of two versions differ only by rounding.
_TORCH = ("torch", "torchvision")
_GIVEN = {*_TORCH, "builtins", *sys.stdlib_module_names}
_UNTOLD = "so a change of it could not be noticed"


def fingerprint(network: nn.Module) -> str:
    """A digest of all that a network's results depend on: code, settings and weights.

    Code is the source of the files that define the classes of the network and of its parts, and of the files that these
    import (at their top or in a function), unless they belong to an installed package. Of an installed package, only
    the version and the files of the classes count. A file that was edited after its import is refused, because it is
    not the code that runs. Code and versions of torch, torchvision and Python do not count, because results of two
    versions differ only by rounding, as those of two devices do.

    Settings are the attributes of every part. They are compared by content, which includes arrays, tensors, containers,
    functions and objects. Weights are parameters, buffers and extra state.

    Args:
        network: Network whose results are kept.

    Returns:
        64 hex digits, which are equal for two networks if nothing of the above differs.

    Raises:
        ValueError: A class has no source file (it was made in an interactive session, in a notebook or by ``exec``), a
            file was edited after its import, or an attribute cannot be compared by content; the message names it.

    Examples:
        >>> from llie_preproc.enhancers import GammaCorrection
        >>> fingerprint(GammaCorrection(0.5)) == fingerprint(GammaCorrection(0.5))
        True
        >>> fingerprint(GammaCorrection(0.5)) == fingerprint(GammaCorrection(0.6))
        False
    """
    digest = Digest()
    digest.add(network, type(network).__name__)
    return digest.hexdigest()


class Digest:
    """SHA-256 of Python values by content.

    Examples:
        >>> def digest(value):
        ...     digest = Digest()
        ...     digest.add(value)
        ...     return digest.hexdigest()
        >>> digest({"a": np.arange(2000)}) == digest({"a": np.arange(2000)})
        True
        >>> digest(1) == digest(1.0)
        False
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # Objects that are being added are known by identity, because an object may contain itself.
        self._open: dict[int, int] = {}
        self._classes: set[type] = set()

    def hexdigest(self) -> str:
        """The digest of all that was added, as 64 hex digits."""
        return self._hash.hexdigest()

    def add(self, value: Any, where: str = "a value") -> None:
        """Add a value.

        Args:
            value: Plain value, array, tensor, container, class, function, or an object with attributes of such kinds.
            where: Description of the value, for messages.

        Raises:
            ValueError: The content of the value cannot be seen from Python, or its class has no source file.
        """
        if type(value) in _PLAIN:
            self._text("plain", type(value).__name__, repr(value))
        elif id(value) in self._open:
            self._text("itself", str(len(self._open) - self._open[id(value)]))
        else:
            self._open[id(value)] = len(self._open)
            try:
                self._add(value, where)
            finally:
                del self._open[id(value)]

    def add_class(self, kind: type) -> None:
        """Add a class with its source and the sources of its base classes.

        Raises:
            ValueError: One of them has no source file.
        """
        self._text("class", kind.__module__, kind.__qualname__)
        if kind not in self._classes:
            self._classes.add(kind)
            self._add_sources(*kind.__mro__)

    def _add_sources(self, *things: Any) -> None:
        for each in dict.fromkeys(source for thing in things for source in _sources(thing)):
            self._text("source", *each)

    def _text(self, *parts: str) -> None:
        # The lengths keep different lists of texts from giving the same bytes.
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            self._hash.update(len(data).to_bytes(8, "little") + data)

    def _add(self, value: Any, where: str) -> None:
        add = next((add for kinds, add in _BY_KIND if isinstance(value, kinds)), Digest._object)
        add(self, value, where)

    def _array(self, value: np.ndarray, where: str) -> None:
        self._text("array", str(value.dtype), str(value.shape))
        if value.dtype.hasobject:
            self.add(value.tolist(), where)
        else:
            self._hash.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _tensor(self, value: Tensor, where: str) -> None:
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ValueError(f"{where} is a tensor without plain values ({value.layout}, {value.device})")
        self._text("tensor", str(value.dtype), str(tuple(value.shape)))
        values = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        self._hash.update(values.flatten().view(torch.uint8).numpy().data)

    def _container(self, value: Any, where: str) -> None:
        # The class of a named tuple is made by a call and has no source.
        fields = getattr(value, "_fields", None)
        if fields is None:
            self.add_class(type(value))
        self._text("container", type(value).__qualname__, str(len(value)), str(fields))
        self.add(getattr(value, "__dict__", {}) or None, where)

    def _mapping(self, value: Mapping, where: str) -> None:
        self._container(value, where)
        for key, each in value.items():
            self.add(key, where)
            self.add(each, f"{where}[{key!r}]")

    def _sequence(self, value: Sequence, where: str) -> None:
        self._container(value, where)
        for number, each in enumerate(value):
            self.add(each, f"{where}[{number}]")

    def _set(self, value: Set, where: str) -> None:
        self._container(value, where)
        digests = []
        for each in value:
            alone = Digest()
            alone.add(each, where)
            digests.append(alone.hexdigest())
        self._text("set", *sorted(digests))

    def _class(self, value: type, where: str) -> None:
        self.add_class(value)

    def _network(self, value: nn.Module, where: str) -> None:
        for name, module in value.named_modules():
            self._text("module", name)
            self.add_class(type(module))
            # Scripted and traced modules have their code as a text.
            self.add(code if isinstance(code := getattr(module, "code", None), str) else None)
            settings = {key: each for key, each in vars(module).items() if key not in _OWN_STATE}
            if isinstance(module, Enhancer):
                # They only say how the network was asked for: an argument may be left out, or given as its default.
                settings.pop("arguments", None)
            hooks = {key: list(vars(module).get(key, {}).values()) for key in _HOOKS}
            for key, each in (*settings.items(), *hooks.items()):
                self._text("setting", key)
                self.add(each, f"{type(module).__name__}.{key}")
        weights = (*value.named_parameters(remove_duplicate=False), *value.named_buffers(remove_duplicate=False))
        extra = [(name, each) for name, each in value.state_dict().items() if not isinstance(each, Tensor)]
        for name, each in (*weights, *extra):
            self._text("weights", name)
            self.add(each, f"{where}.{name}")

    def _function(self, value: types.FunctionType, where: str) -> None:
        self._text("function", value.__module__ or "", value.__qualname__)
        self._add_sources(value)
        # Several functions of a file may have the same name, such as '<lambda>'.
        if (value.__module__ or "").partition(".")[0] not in _GIVEN:
            self._code(value.__code__)
        self.add(value.__defaults__, where)
        self.add(value.__kwdefaults__, where)
        names = value.__code__.co_freevars
        self.add({n: c.cell_contents for n, c in zip(names, value.__closure__ or (), strict=True)}, where)

    def _code(self, code: types.CodeType) -> None:
        self._text("code", code.co_code.hex(), " ".join(code.co_names))
        for each in code.co_consts:
            if isinstance(each, types.CodeType):
                self._code(each)
            else:
                self.add(each)

    def _method(self, value: types.MethodType, where: str) -> None:
        self._text("method")
        self.add(value.__func__, where)
        self.add(value.__self__, where)

    def _partial(self, value: functools.partial, where: str) -> None:
        self._text("partial")
        for part in (value.func, value.args, value.keywords):
            self.add(part, where)

    def _named(self, value: Any, where: str) -> None:
        # A C function of a module or class is known by its name; a bound one also by its object.
        owner = getattr(value, "__self__", None)
        self._text("built-in", str(getattr(value, "__module__", "")), value.__qualname__)
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            self.add(owner, where)

    def _module(self, value: types.ModuleType, where: str) -> None:
        self._text("import", value.__name__)
        file = getattr(value, "__file__", None)
        for source in _of_file(value.__name__, Path(file)) if file else ():
            self._text("source", *source)

    def _generator(self, value: torch.Generator, where: str) -> None:
        self.add(value.get_state(), where)

    def _scripted(self, value: torch.jit.ScriptFunction, where: str) -> None:
        self._text("scripted", str(value.code))

    def _logger(self, value: logging.Logger, where: str) -> None:
        self._text("logger", value.name)

    def _repr(self, value: Any, where: str) -> None:
        self._text("repr", type(value).__qualname__, repr(value))

    def _enum(self, value: enum.Enum, where: str) -> None:
        self.add_class(type(value))
        self._text("enum", value.name)

    def _pattern(self, value: re.Pattern, where: str) -> None:
        self._text("pattern", str(value.pattern), str(value.flags))

    def _object(self, value: Any, where: str) -> None:
        if _is_global(value):
            self._text("global", value.__module__, value.__qualname__)
            self._module(sys.modules[value.__module__], where)
            return
        names = _attributes(value)
        if names is None:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise ValueError(f"{where} is a {kind}, whose content cannot be seen, {_UNTOLD}")
        self.add_class(type(value))
        self._text("object", str(len(names)))
        for name in names:
            self.add(name)
            self.add(getattr(value, name), f"{where}.{name}")


# The imports of files are kept by the files' digests, because parsing takes longer than reading.
_IMPORTS: dict[str, tuple[str, ...]] = {}

_BY_KIND: list[tuple[Any, Callable[[Digest, Any, str], None]]] = [
    (np.ndarray, Digest._array),
    (np.generic, lambda digest, value, where: digest._array(np.asarray(value), where)),
    (nn.Module, Digest._network),
    (Tensor, Digest._tensor),
    (enum.Enum, Digest._enum),
    (_TORCH_PLAIN, Digest._repr),
    (np.dtype, Digest._repr),
    (PurePath, Digest._repr),
    (re.Pattern, Digest._pattern),
    (logging.Logger, Digest._logger),
    (types.ModuleType, Digest._module),
    (torch.Generator, Digest._generator),
    (torch.jit.ScriptFunction, Digest._scripted),
    (type, Digest._class),
    (types.FunctionType, Digest._function),
    (types.MethodType, Digest._method),
    (functools.partial, Digest._partial),
    ((types.BuiltinFunctionType, types.MethodDescriptorType, np.ufunc), Digest._named),
    (Mapping, Digest._mapping),
    ((list, tuple), Digest._sequence),
    (Set, Digest._set),
]


def _is_global(value: Any) -> bool:
    """Whether a module has the object under the object's own name, as is the case for C functions of all kinds."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    return callable(value) and getattr(sys.modules.get(module), name, None) is value


def _attributes(value: Any) -> list[str] | None:
    """Names of an object's attributes; None if the object keeps its content elsewhere, as objects made in C do."""
    names = set(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__[:-1]:
        if not _is_python(kind):
            return None
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            names.add(f"_{kind.__name__.lstrip('_')}{slot}" if private else slot)
    return sorted(name for name in names - {"__dict__", "__weakref__"} if hasattr(value, name))


@functools.lru_cache(maxsize=4096)
def _is_python(kind: type) -> bool:
    """Whether a class is written in Python, so that its objects consist only of their attributes."""
    try:
        return bool(inspect.getsourcelines(kind))
    except (OSError, TypeError):
        return False


def _sources(thing: Any) -> tuple[tuple[str, str], ...]:
    """Name and digest of each file, and name and version of each package, that a class or function consists of."""
    name = thing.__module__ or "builtins"
    package = name.partition(".")[0]
    # A class that was made by a call may have the name of its metaclass's module.
    if package in _GIVEN and (package in _TORCH or not isinstance(thing, type) or _is_found(thing)):
        return ()
    return _of_file(name, _source_file(thing, name))


_HEAP_TYPE = 1 << 9


def _is_found(kind: type) -> bool:
    """Whether a class is Python's own, because its module has it or it was not made at run time."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind or not kind.__flags__ & _HEAP_TYPE


def _of_file(module: str, path: Path) -> tuple[tuple[str, str], ...]:
    if is_installed(path):
        return *_versions(module.partition(".")[0]), (module, _read(path)[0])
    return tuple(_with_imports(module, path))


@functools.lru_cache(maxsize=4096)
def _source_file(thing: Any, module: str) -> Path:
    """The file in which a class or function is defined, after a check that the definition is there."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))
        inspect.getsourcelines(thing)
    except (OSError, TypeError, SyntaxError):
        file = getattr(sys.modules.get(module), "__file__", None)
        file = file if file and file.endswith((".so", ".pyd")) else None
    if file is None or not Path(file).is_file():
        raise ValueError(
            f"{thing.__module__}.{thing.__qualname__} has no source file (it was made in an interactive session, in a "
            f"notebook, or by a running program), {_UNTOLD}: define it in a module"
        )
    return Path(file)


@functools.cache
def _versions(package: str) -> tuple[tuple[str, str], ...]:
    found = distributions_by_package().get(package, ())
    return tuple((f"{name} version", importlib.metadata.version(name)) for name in sorted(set(found)))


def _with_imports(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and digest of a module's file and of all files that it imports, except those of installed packages."""
    waiting, seen = [(name, path)], {name}
    while waiting:
        module, file = waiting.pop()
        digest, imported = _read(file)
        require_unedited(module, file)
        yield module, digest
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for each in imported:
            target = _absolute(each, package)
            if target not in seen:
                seen.add(target)
                if (found := _local_file(target)) is not None:
                    waiting.append((target, found))


def _absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package or None)
    except ImportError:
        return name.lstrip(".")


def _local_file(module: str) -> Path | None:
    """Source of a module that belongs neither to an installed package nor to Python; None for any other name."""
    top = module.partition(".")[0]
    if not top or top in _GIVEN:
        return None
    try:
        spec = importlib.util.find_spec(top)
        # Nothing is imported here, because what a function imports may be slow or missing.
        for name in itertools.accumulate(module.split("."), "{}.{}".format):
            if name != top and spec is not None:
                spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations or [])
            origin = spec.origin if spec is not None else None
            if origin is None or not origin.endswith(".py") or is_installed(Path(origin)):
                return None
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(origin) if origin else None


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """SHA-256 of a file, and the names that it imports anywhere, as written there: ``'..ops'``, ``'..ops.tone'``."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest not in _IMPORTS:
        try:
            _IMPORTS[digest] = tuple(dict.fromkeys(_imports(ast.parse(data))))
        except (SyntaxError, ValueError):
            _IMPORTS[digest] = ()
    return digest, _IMPORTS[digest]


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}{'' if base.endswith('.') else '.'}{alias.name}" for alias in node.names)
