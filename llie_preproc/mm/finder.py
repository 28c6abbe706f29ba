"""Where ``import mmcv._ext`` finds :mod:`llie_preproc.mm.operators` when mmcv's own operators are not compiled.

Apart from the operators, so that ``import llie_preproc`` need not import PyTorch.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

NAME = "mmcv._ext"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == NAME else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        from .operators import StandIn

        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        from .operators import OPERATORS

        for operator in OPERATORS:
            setattr(module, operator.__name__, operator)


def install() -> None:
    """Let ``import mmcv._ext`` find the stand-in where it finds nothing else; once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
