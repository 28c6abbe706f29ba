"""A stand-in for mmcv's compiled operators, on torchvision's.

``pip install`` of mmcv often brings no ``mmcv._ext`` (there is no wheel for the torch that is installed), and then
``mmcv.ops`` does not import. :func:`install` appends a finder to ``sys.meta_path`` that answers for ``mmcv._ext`` when
nobody else does: a compiled extension always wins. It carries NMS and RoIAlign (forward and backward), which Faster
R-CNN and most of MMDetection's zoo take; any other operator raises and says how to get the compiled ones.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor

_NAME = "mmcv._ext"
_BUILD = "'make mmcv-ops' in the source tree of llie_preproc, or 'Compiled operators' in its docs/mmdetection.md"
# What MMDetection defines in place of an operator that it could not import says this.
_PLACEHOLDER = "requires mmcv to be compiled with ops"


class StandIn(ModuleType):
    """The module that ``import mmcv._ext`` gives where the compiled one is missing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(
                f"mmcv's operator {name!r} is not compiled here; llie_preproc's stand-in has only nms and roi_align. "
                f"Compile mmcv's own: {_BUILD}"
            )

        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """``mmcv._ext.nms``: indices kept, by falling score. With ``offset`` 1 boxes include their last pixel."""
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_forward``: fills ``output``. Average pooling (``pool_mode`` 1) only."""
    if pool_mode != 1:
        raise RuntimeError(f"the stand-in for mmcv's roi_align averages only, not 'max'; compile mmcv's own: {_BUILD}")
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """``mmcv._ext.roi_align_backward``: fills ``grad_input``."""
    backward = torch.ops.torchvision._roi_align_backward
    sizes = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(backward(grad_output, rois, spatial_scale, *sizes, sampling_ratio, aligned))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == _NAME else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        for operator in (nms, roi_align_forward, roi_align_backward):
            setattr(module, operator.__name__, operator)


def install() -> None:
    """Let ``import mmcv._ext`` find the stand-in where it finds nothing else; once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def is_stand_in() -> bool:
    """Whether mmcv's operators come from here. False where mmcv is compiled, or not installed."""
    try:
        return isinstance(importlib.import_module(_NAME), StandIn)
    except ModuleNotFoundError:
        return False


def repair_mmdet() -> None:
    """Put working operators where MMDetection, imported before the stand-in was there, put placeholders."""
    loaded = [m for name, m in sys.modules.items() if name.startswith("mmdet.")]
    broken = [(m, k, v) for m in loaded for k, v in vars(m).items() if _is_placeholder(v, m.__name__)]
    if not broken or not is_stand_in():
        return
    operators = importlib.import_module("mmcv.ops")
    for module, name, _ in broken:
        if (operator := getattr(operators, name.lstrip("_"), None)) is not None:
            setattr(module, name, operator)


def _is_placeholder(value: Any, module: str) -> bool:
    function = value.__dict__.get("__init__") if isinstance(value, type) else value
    if not isinstance(function, FunctionType) or value.__module__ != module:
        return False
    return any(_PLACEHOLDER in c for c in function.__code__.co_consts if isinstance(c, str))
