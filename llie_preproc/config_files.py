"""Reading MMEngine's config files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config


def read_config_file(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or a package's own (``mmdet::...``), with keys and values over it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It does not read; the message names it.
        ImportError: It imports what is not installed.
    """
    if "::" not in name and not Path(name).is_file():
        raise FileNotFoundError(f"no config file {name}")
    try:
        # MMEngine's own reader of packages' configs would install what is missing.
        cfg = Config.fromstring(f"_base_ = {name!r}", ".py") if "::" in name else Config.fromfile(name)
        cfg.merge_from_dict(dict(options or {}))
    except ImportError:
        raise
    except Exception as error:  # a config is a program, or of a format with errors of its own
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error
    return cfg
