"""Config files, read once, and the weights that they name."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import save_state_dict


def read_config(path: str | PathLike[str], **variables: str) -> Config:
    """Read a config file as ``Config.fromfile`` does; later calls for the same file take a tenth of the time.

    The file must not change during the tests.

    Args:
        path: Config file.
        **variables: Environment variables to set in addition while the file is read.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        # Configs depend on environment variables, except on this one, which pytest changes with each test.
        environment = frozenset(item for item in os.environ.items() if item[0] != "PYTEST_CURRENT_TEST")
        return copy.deepcopy(_read(str(path), environment))


@functools.cache
def _read(path: str, environment: frozenset[tuple[str, str]]) -> Config:
    return Config.fromfile(path)


def write_named_weights(enhancer: Mapping[str, Any]) -> None:
    """Write random weights into the file that an enhancer's config names, if it names one."""
    if "checkpoint" not in enhancer:
        return
    torch.manual_seed(0)
    weights = build_enhancer({**enhancer, "checkpoint": None}).state_dict()
    Path(enhancer["checkpoint"]).parent.mkdir(exist_ok=True)
    save_state_dict(weights, enhancer["checkpoint"])
