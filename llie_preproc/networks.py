"""Enhancers as the commands name them: by a registered name, or in a config file; with weights or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .config_files import read_config_file
from .registry import enhancer_classes


def enhancer_config(name: str) -> dict[str, Any]:
    """The config of an enhancer, for :func:`llie_preproc.build_enhancer`.

    Args:
        name: A registered network, case, ``_`` and ``-`` apart (``psenet``, ``semi_llie``), or a config file with
            ``enhancer`` or ``model.enhancer``.

    Raises:
        KeyError: No such network; the message lists those there are.
        FileNotFoundError: No such config file.
        ValueError: It has no enhancer.
    """
    by_plain = {_plain(each): each for each in enhancer_classes()}
    if network := by_plain.get(_plain(name)):
        return {"type": network}
    if not Path(name).is_file() and "." not in name and "::" not in name:
        raise KeyError(f"no enhancer {name!r}; there are: {', '.join(by_plain.values())}, or a config file")
    config = read_config_file(name)
    given = config.get("enhancer") or config.get("model", {}).get("enhancer")
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} has neither 'enhancer' nor 'model.enhancer', a dict with 'type'")
    return Config(dict(enhancer=given)).to_dict()["enhancer"]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
