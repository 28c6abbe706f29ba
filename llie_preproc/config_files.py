"""Reading MMEngine's config files.

A config is a program, whatever its format: MMEngine runs a ``.py`` file, imports what ``custom_imports`` names, and
calls what a ``type`` names. So read configs only from people whom you trust. Tags in a YAML file are refused
nevertheless, because with them MMEngine's reader would call any function while it reads. What a config prints goes to
standard error, because standard output is for results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.fileio.handlers import JsonHandler, YamlHandler, file_handlers
from mmengine.logging import MMLogger

from .checks import printable
from .coco_json import kind_of
from .config_nodes import walk
from .errors import one_line
from .files import real_path, require_regular

_CONFIGS = "mm_configs"
_YAML = ("yaml", "yml")
_SUFFIXES = (".py", ".json", *(f".{kind}" for kind in _YAML))
# A variable with its default, as MMEngine's configs write them.
_VARIABLE = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['\"]?\}\}")
_NO_VALUE = re.compile(r"`(\w+)` cannot be found in `os\.environ`")
# These functions of MMEngine read a file, and call themselves to read its bases.
_READING = ("_file2dict", "_parse_lazy_import")
# MMEngine has a single table of readers for the whole process.
_READERS = threading.RLock()


def read_config_file(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or the config of a package (``mmdet::...``).

    Args:
        name: Path of the file, or name of a package's config.
        options: Keys and values that replace those of the config; dots separate the keys of nested dicts.

    Raises:
        FileNotFoundError: There is no such file.
        NotRegularError: The path does not lead to a regular file.
        ValueError: The file cannot be read, a YAML file (this one or a base of it) names Python objects, or a variable
            of the environment that the config reads has no value; the message names the file.
        ImportError: The config imports a package that is not installed.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "plain.py"
        >>> _ = path.write_text("model = dict(type='RetinaNet', depth=18)")
        >>> read_config_file(str(path), {"model.depth": 50}).model.depth
        50
    """
    packaged = "::" in name
    if not packaged:
        if not Path(name).exists():
            raise FileNotFoundError(f"no config file {name}{_installed(name)}")
        require_regular(name)
    try:
        # A package's config is read as a base, because MMEngine's own function for it would install missing packages.
        with _plain_values(), _untold_substitutions(), contextlib.redirect_stdout(sys.stderr):
            cfg = Config.fromstring(f"_base_ = {name!r}", ".py") if packaged else Config.fromfile(name)
        cfg.merge_from_dict(dict(options or {}))
    except ImportError:
        raise
    except RecursionError as error:
        raise ValueError(f"{name}: {_circle(error) or _reason(name, error)}") from None
    except (Exception, SystemExit) as error:  # a config is a program, and formats have their own exceptions
        raise ValueError(f"{name}: {_reason(name, error)}") from error
    return cfg


def _installed(name: str) -> str:
    """Say where a config of this project is installed, if its path in a clone was given; empty for other names."""
    spec = find_spec(_CONFIGS) if Path(name).parts[:1] == (_CONFIGS,) else None
    paths = [Path(folder).parent / name for folder in (spec.submodule_search_locations or () if spec else ())]
    return "".join(f"; there is {path}" for path in paths if path.is_file())


@contextlib.contextmanager
def naming_missing_files(cfg: Config) -> Iterator[None]:
    """Within the block, add to an error about a missing file or folder the key of the config that leads to it.

    The variable that the path depends on is named too (``{{$NAME:default}}`` in the file of the config).

    Args:
        cfg: Config that the block uses.

    Examples:
        >>> with naming_missing_files(Config(dict(test_dataloader=dict(dataset=dict(data_root="data/a"))))):
        ...     raise FileNotFoundError("no folder data/a")
        Traceback (most recent call last):
        FileNotFoundError: no folder data/a (test_dataloader.dataset.data_root of the config)
    """
    try:
        yield
    except FileNotFoundError as error:
        if not (origin := _origin(cfg, one_line(error))):
            raise
        raise FileNotFoundError(f"{one_line(error)} ({origin})") from error


def _origin(cfg: Config, told: str) -> str:
    keys = {value: ".".join(path) for path, value in walk(cfg) if isinstance(value, str) and _names(told, value)}
    variables = [name for name, default in _VARIABLE.findall(cfg.text) if _names(told, os.getenv(name, default))]
    key = [f"{keys[max(keys, key=len)]} of the config"] if keys else []
    return ", ".join([*key, *(f"set by the variable {name}" for name in variables[:1])])


def _names(told: str, path: str) -> bool:
    """Whether a message names a path, or something below it. A single word must begin or end the message."""
    path = path.rstrip("/")
    found = re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", told) if path else None
    return found is not None and ("/" in path or found.start() == 0 or found.end() == len(told))


def _reason(file: str, error: BaseException) -> str:
    if isinstance(error, _NoObjectError):
        return f"it, or a base of it, holds {error}, expected an object with the keys of a config"
    if isinstance(error, KeyError) and (found := _NO_VALUE.match(one_line(error))):
        return _without_value(found[1])
    if isinstance(error, NameError) and error.name:
        return _unimported(file, error.name)
    if isinstance(error, FileNotFoundError) and str(error.filename).endswith(_SUFFIXES):
        return _absent(Path(os.path.normpath(error.filename)))
    return f"{type(error).__name__}: {one_line(error)}"


def _without_value(variable: str) -> str:
    """Describe a variable of the environment from which MMEngine got no value; it takes an empty one for none."""
    if variable in os.environ:
        return f"the variable {variable} is set but empty: give it a value, or unset it to use a default of the config"
    return f"the variable {variable} is not set, and the config has no default for it"


def _circle(error: RecursionError) -> str:
    """Describe a circle of files that are each other's base; empty if the recursion has another cause."""
    # A function that raises an error again occurs twice in the trace, so frames are made unique.
    frames = dict.fromkeys(frame for frame, _ in traceback.walk_tb(error.__traceback__))
    read: list[Path] = []
    for path in (real_path(f.f_locals["filename"]) for f in frames if f.f_code.co_name in _READING):
        if path in read:
            others = [os.path.relpath(each, path.parent) for each in read[read.index(path) + 1 :]]
            way = f", by way of {', '.join(others)}" if others else ""
            return printable(f"{path} is its own base (_base_){way}")
        read.append(path)
    return ""


def _absent(base: Path) -> str:
    """Describe a missing base, and list the files beside it, because its name may come from an environment variable."""
    others = sorted(each.name for each in base.parent.glob(f"[!_.]*{base.suffix}"))
    return printable(f"there is no {base}" + (f"; its folder has {', '.join(others)}" if others else ""))


def _unimported(file: str, unknown: str) -> str:
    """Describe the use of an unknown name; dumped configs write a class as ``package.Class`` but do not import it."""
    source = "" if "::" in file else Path(file).read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"\b{re.escape(unknown)}(\.\w+)*", source)
    name = found.group() if found else unknown
    return (
        f"there is no import of {name}: write the name of a registered class as a text, "
        f"'{name.rpartition('.')[2]}', or import what the file names"
    )


class _NoObjectError(ValueError):
    """A JSON or YAML file of a config holds something else than keys and values."""


def _object(content: Any) -> Any:
    if not isinstance(content, Mapping):
        raise _NoObjectError(kind_of(content))
    return content


class _PlainYamlHandler(YamlHandler):
    """MMEngine's reader of YAML, restricted to plain values. MMEngine uses it for every base too."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return _object(yaml.safe_load(file))


class _PlainJsonHandler(JsonHandler):
    """MMEngine's reader of JSON, restricted to objects."""

    def load_from_fileobj(self, file: Any) -> Any:
        return _object(super().load_from_fileobj(file))


@contextlib.contextmanager
def _plain_values() -> Iterator[None]:
    with _READERS:
        before = {kind: file_handlers[kind] for kind in ("json", *_YAML)}
        file_handlers.update(dict.fromkeys(_YAML, _PlainYamlHandler()), json=_PlainJsonHandler())
        try:
            yield
        finally:
            file_handlers.update(before)


@contextlib.contextmanager
def _untold_substitutions() -> Iterator[None]:
    """Silence MMEngine's message about each environment variable, because standard output is for results."""
    logger = MMLogger.get_current_instance()
    logger.addFilter(_tells_more)
    try:
        yield
    finally:
        logger.removeFilter(_tells_more)


def _tells_more(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Using env variable")
