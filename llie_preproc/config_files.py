"""Reading MMEngine's config files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

# What Python files and options over lists raise, and MMEngine for files of other kinds and for its packages.
_UNREADABLE = (
    SyntaxError, NameError, TypeError, ValueError, AttributeError, AssertionError, OSError, ConfigParsingError,
)  # fmt: skip


def read_config_file(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or a package's own (``mmdet::...``), with keys and values over it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It does not read; the message names it.
    """
    if "::" not in name and not Path(name).is_file():
        raise FileNotFoundError(f"no config file {name}")
    try:
        # MMEngine's own reader of packages' configs would install what is missing.
        cfg = Config.fromstring(f"_base_ = {name!r}", ".py") if "::" in name else Config.fromfile(name)
        cfg.merge_from_dict(dict(options or {}))
    except _UNREADABLE as error:
        raise ValueError(f"{name}: {error}") from error
    return cfg
