"""Letting ``import mmcv._ext`` find :mod:`llie_preproc.mm.operators` if mmcv's own operators are not compiled.

The operators are imported together with the stand-in and not before, because they import torchvision, which
``import llie_preproc`` does not need.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

_NAME = "mmcv._ext"
# This text is in the placeholders that MMDetection defines for operators that it could not import.
_PLACEHOLDER = "requires mmcv to be compiled with ops"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == _NAME else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        from .operators import StandIn

        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        from .operators import OPERATORS

        for operator in OPERATORS:
            setattr(module, operator.__name__, operator)


def install() -> None:
    """Let ``import mmcv._ext`` find the stand-in if it finds nothing else; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def is_stand_in() -> bool:
    """Whether mmcv's operators come from this package; False if mmcv has compiled ones or is not installed.

    Examples:
        >>> isinstance(is_stand_in(), bool)
        True
    """
    try:
        return isinstance(import_module(_NAME).__loader__, _Finder)
    except ModuleNotFoundError:
        return False


def repair_mmdet() -> None:
    """Replace the placeholders in modules of MMDetection that were imported before the stand-in was installed."""
    loaded = [m for name, m in sys.modules.items() if name.startswith("mmdet.")]
    broken = [(m, k, v) for m in loaded for k, v in vars(m).items() if _is_placeholder(v, m.__name__)]
    if not broken or not is_stand_in():
        return
    operators = import_module("mmcv.ops")
    for module, name, _ in broken:
        if (operator := getattr(operators, name.lstrip("_"), None)) is not None:
            setattr(module, name, operator)


def _is_placeholder(value: Any, module: str) -> bool:
    function = value.__dict__.get("__init__") if isinstance(value, type) else value
    if not isinstance(function, FunctionType) or value.__module__ != module:
        return False
    return any(_PLACEHOLDER in c for c in function.__code__.co_consts if isinstance(c, str))
