"""Reading MMEngine's config files.

A config is a program, in whatever format: MMEngine runs a ``.py``, imports what ``custom_imports`` names, and calls
what a ``type`` names. Configs are for people whom one trusts. The tags of a YAML, by which MMEngine's reader would call
any function while it reads, are refused all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.fileio.handlers import YamlHandler, file_handlers
from mmengine.logging import MMLogger

from .checks import printable
from .errors import one_line
from .files import real_path, require_regular

_YAML = ("yaml", "yml")
_SUFFIXES = (".py", ".json", *(f".{kind}" for kind in _YAML))
# MMEngine's functions that read a file, and by themselves its bases.
_READING = ("_file2dict", "_parse_lazy_import")
# MMEngine has one table of readers for the process.
_READERS = threading.RLock()


def read_config_file(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or a package's own (``mmdet::...``), with keys and values over it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, is no regular file, or a YAML in it or below it names Python objects; the
            message names the file.
        ImportError: The config imports what is not installed.
    """
    packaged = "::" in name
    if not packaged:
        if not Path(name).exists():
            raise FileNotFoundError(f"no config file {name}")
        require_regular(name)
    try:
        # MMEngine's own reader of packages' configs would install what is missing.
        with _plain_yaml(), _untold_substitutions():
            cfg = Config.fromstring(f"_base_ = {name!r}", ".py") if packaged else Config.fromfile(name)
        cfg.merge_from_dict(dict(options or {}))
    except ImportError:
        raise
    except RecursionError as error:
        raise ValueError(f"{name}: {_circle(error) or _reason(name, error)}") from None
    except Exception as error:  # a config is a program, or of a format with errors of its own
        raise ValueError(f"{name}: {_reason(name, error)}") from error
    return cfg


def _reason(file: str, error: Exception) -> str:
    if isinstance(error, NameError) and error.name:
        return _unimported(file, error.name)
    if isinstance(error, FileNotFoundError) and str(error.filename).endswith(_SUFFIXES):
        return _absent(Path(os.path.normpath(error.filename)))
    return f"{type(error).__name__}: {one_line(error)}"


def _circle(error: RecursionError) -> str:
    """Which files are each other's base, where that made the recursion; else empty."""
    # A function that raises an error again has two places in its trace.
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
    """Which base is not there, and which are: its name may come from an environment variable, such as an enhancer's."""
    others = sorted(each.name for each in base.parent.glob(f"[!_.]*{base.suffix}"))
    return printable(f"there is no {base}" + (f"; its folder has {', '.join(others)}" if others else ""))


def _unimported(file: str, unknown: str) -> str:
    """What the use of an unknown name lacks; a dump writes a class as ``package.Class``, and no import beside it."""
    source = "" if "::" in file else Path(file).read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"\b{re.escape(unknown)}(\.\w+)*", source)
    name = found.group() if found else unknown
    return (
        f"there is no import of {name}: name a registered class by a text, '{name.rpartition('.')[2]}', or import what "
        "the file names"
    )


class _PlainYamlHandler(YamlHandler):
    """MMEngine's reader of YAML, of plain values alone: after its substitutions, and in every base."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.safe_load(file)


@contextlib.contextmanager
def _plain_yaml() -> Iterator[None]:
    with _READERS:
        before = {kind: file_handlers[kind] for kind in _YAML}
        file_handlers.update(dict.fromkeys(_YAML, _PlainYamlHandler()))
        try:
            yield
        finally:
            file_handlers.update(before)


@contextlib.contextmanager
def _untold_substitutions() -> Iterator[None]:
    """MMEngine tells of each variable in each file, on standard output, which is for results."""
    logger = MMLogger.get_current_instance()
    logger.addFilter(_tells_more)
    try:
        yield
    finally:
        logger.removeFilter(_tells_more)


def _tells_more(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Using env variable")
