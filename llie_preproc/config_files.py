"""Reading MMEngine's config files.

A ``.py`` config is a program, and whoever reads it runs it. A YAML or JSON config is data: MMEngine's own reading would
run Python that a YAML names by its tags, so such a file is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from .files import read_text


def read_config_file(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or a package's own (``mmdet::...``), with keys and values over it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, is no regular file, or is a YAML that names Python objects; the message
            names it.
        ImportError: The config imports what is not installed.
    """
    packaged = "::" in name
    if not packaged:
        _check_file(Path(name))
    try:
        # MMEngine's own reader of packages' configs would install what is missing.
        cfg = Config.fromstring(f"_base_ = {name!r}", ".py") if packaged else Config.fromfile(name)
        cfg.merge_from_dict(dict(options or {}))
    except ImportError:
        raise
    except Exception as error:  # a config is a program, or of a format with errors of its own
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error
    return cfg


def _check_file(path: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Raise for what cannot be read as a config without a wait for a writer, or without running a YAML's tags."""
    if not path.is_file():
        problem = "is no regular file" if path.exists() or path.is_symlink() else "is not there"
        raise FileNotFoundError(f"no config file {path}: it {problem}")
    if path.suffix not in (".yaml", ".yml") or path in seen:
        return
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: {type(error).__name__}: no YAML of plain values: {reason}") from error
    bases = content.get("_base_", []) if isinstance(content, Mapping) else []
    for base in [bases] if isinstance(bases, str) else bases or []:
        if "::" not in str(base):
            _check_file(path.parent / str(base), seen | {path})
