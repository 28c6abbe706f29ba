"""What the checkpoint of an MMEngine run holds beside tensors: logs, NumPy's numbers and arrays, plain containers.

A run pickles its message hub, whose ``HistoryBuffer`` brings the four methods of its statistics along through
``builtins.getattr``, and its numbers through NumPy's own constructors. On the unpickler's allow-list each of these
would be a tool for whoever wrote the file: ``getattr`` reaches the globals of any function, NumPy's ``dtype`` and
``_reconstruct`` make object arrays and arrays of any size, and ``HistoryBuffer`` takes methods from the file for all
buffers of the process. So nothing of MMEngine's or NumPy's is on the list: each name is answered by a stand-in of this
module that makes one kind of plain value, and :func:`plain` refuses whatever else is in the result.
"""

from __future__ import annotations

import functools
import math
import re
import reprlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoints import tensor_fault
from .errors import CheckpointError, needs

with needs("llie_preproc.message_hub"):
    from mmengine.logging import HistoryBuffer


_STATISTICS = ("min", "max", "current", "mean")
_KEPT = {"max_length", "_log_history", "_count_history"}
# Added by HistoryBuffer when it is pickled: the methods, which are not read.
_METHODS = "statistics_methods"
# Booleans, numbers and text of fixed size: no objects, no records, no dates.
_KIND = re.compile(r"b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,5}")
_ORDERS = ("<", ">", "|", "=")
# The module depends on the NumPy that wrote the file.
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PLAIN = (str, bytes, bytearray, bool, int, float, complex, type(None), torch.Size, torch.dtype, torch.device)
_MAX_DIMENSIONS, _MAX_SIDE = 32, 1 << 31


class _Brief(reprlib.Repr):
    """Short texts of what a file holds, which may be endless: lists of one list, or millions of numbers."""

    maxlevel = 2

    def repr_instance(self, x: Any, level: int) -> str:
        """The kind alone: the text of a storage has all its numbers."""
        return f"a {type(x).__name__}"


_short = _Brief().repr


class PickledDType:
    """Stands for ``numpy.dtype``: of numbers, booleans or text."""

    def __init__(self, kind: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise CheckpointError(f"arrays of the dtype {_short(kind)} are not read")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        _, order, *of_records = state[:5]
        if order not in _ORDERS or any(each is not None for each in of_records):
            raise CheckpointError(f"the state {_short(state)} of a dtype is not one of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """Stands for ``numpy.ndarray``; ``value`` is the array once its state has been read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < _MAX_SIDE for n in shape):
            raise CheckpointError(f"no array has the shape {_short(shape)}")
        self.value = _numbers(kind, data, math.prod(shape)).reshape(shape, order="F" if fortran else "C")


class PickledBuffer(HistoryBuffer):
    """Stands for ``HistoryBuffer``, and becomes one when its state has been read: numbers alone, no methods."""

    def __init__(self, *args: Any) -> None:
        raise CheckpointError("a HistoryBuffer is made from its state alone")

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict) or state.keys() - {_METHODS} != _KEPT:
            raise CheckpointError(f"the state of a HistoryBuffer does not consist of {', '.join(sorted(_KEPT))}")
        histories = [_history(state[name]) for name in ("_log_history", "_count_history")]
        length = state["max_length"]
        if len(histories[0]) != len(histories[1]) or type(length) is not int or length < 1:
            raise CheckpointError(
                f"a HistoryBuffer's histories differ in length, or its max_length is {_short(length)}"
            )
        self.__class__ = HistoryBuffer  # type: ignore[assignment]
        HistoryBuffer.__init__(self, max_length=length)
        self._log_history, self._count_history = histories


def _history(value: Any) -> np.ndarray:
    array = value.value if isinstance(value, PickledArray) else None
    if array is None or array.ndim != 1 or array.dtype.kind not in "biuf":
        raise CheckpointError("the history of a HistoryBuffer is no row of numbers")
    return array


def answers() -> list[Any]:
    """Stand-ins for PyTorch's list of safe globals, each under the name that it answers."""
    functions: dict[str, Callable[..., Any]] = {"builtins.getattr": _statistics_method, "builtins.bytes": _no_bytes}
    # PyTorch's own list has it from 2.5 on.
    functions["_codecs.encode"] = _bytes_of
    for module in _MULTIARRAY:
        functions |= {f"{module}._reconstruct": _reconstruct, f"{module}.scalar": _scalar}
    classes = {
        "numpy.dtype": PickledDType,
        "numpy.ndarray": PickledArray,
        f"{HistoryBuffer.__module__}.HistoryBuffer": PickledBuffer,
    }
    # New ones, since the name is an attribute of what answers.
    stand_ins: dict[str, Any] = {name: functools.partial(function) for name, function in functions.items()}
    stand_ins |= {name: type(kind.__name__, (kind,), {}) for name, kind in classes.items()}
    return [_named(stand_in, name) for name, stand_in in stand_ins.items()]


def plain(value: Any, place: str = "the file") -> Any:
    """A read pickle's content with arrays for their stand-ins; containers are changed where they are.

    Args:
        value: What the unpickler returned.
        place: Where it stands in the file, for the message.

    Raises:
        CheckpointError: Something in it is neither a tensor nor plain data: a function, a class, an object, a container
            or tensor with attributes of its own.
    """
    return _Walk().visit(value, place)


class _Walk:
    """Visits each container once, so that one that holds itself ends."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}

    def visit(self, value: Any, place: str) -> Any:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, np.generic) or id(value) in self._seen:
            return value
        if isinstance(value, PickledArray) and value.value is not None:
            return value.value
        self._seen[id(value)] = value
        if kind in (dict, OrderedDict, Counter):
            return self._mapping(value, place)
        if kind in (list, tuple, set):
            return self._items(value, place)
        _check_leaf(value, place)
        return value

    def _mapping(self, value: dict, place: str) -> dict:
        attributes = getattr(value, "__dict__", {})
        # What nn.Module.state_dict() sets.
        if attributes.keys() - {"_metadata"}:
            raise CheckpointError(f"{place} has attributes: {', '.join(map(str, attributes))}")
        self.visit(attributes.get("_metadata"), f"{place}._metadata")
        for key, each in value.items():
            if self.visit(key, f"a key of {place}") is not key:
                raise CheckpointError(f"{place} has an array as a key")
            value[key] = self.visit(each, f"{place}.{key}" if isinstance(key, str) else f"{place}[{_short(key)}]")
        return value

    def _items(self, value: Any, place: str) -> Any:
        items = [self.visit(each, f"{place}[{i}]") for i, each in enumerate(value)]
        if isinstance(value, list):
            value[:] = items
            return value
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)


def _check_leaf(value: Any, place: str) -> None:
    if type(value) in (Tensor, nn.Parameter):
        if fault := tensor_fault(value):
            raise CheckpointError(f"{place} {fault}")
    elif type(value) is not HistoryBuffer or vars(value).keys() != _KEPT:
        raise CheckpointError(f"{place} is {_short(value)}, which is neither a tensor nor plain data")


def _numbers(kind: Any, data: Any, count: int) -> np.ndarray:
    """``count`` numbers in an array that owns its memory."""
    if not isinstance(kind, PickledDType) or not isinstance(data, bytes) or len(data) != count * kind.dtype.itemsize:
        raise CheckpointError(f"an array of {count} numbers has no dtype, or too few or too many bytes")
    return np.frombuffer(data, kind.dtype).copy()


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> PickledArray:
    """An array without its state yet, as NumPy pickles one; its shape and dtype come with the state."""
    if not (isinstance(kind, type) and issubclass(kind, PickledArray)):
        raise CheckpointError(f"arrays of the class {_short(kind)} are not read")
    return kind()


def _scalar(kind: Any, data: Any) -> np.generic:
    return _numbers(kind, data, 1)[0]


def _bytes_of(text: Any, encoding: Any) -> bytes:
    """What bytes are pickled with."""
    if not isinstance(text, str) or encoding != "latin1":
        raise CheckpointError(f"bytes in the encoding {_short(encoding)} are not read")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What the data of an array without numbers is pickled with."""
    return b""


def _statistics_method(owner: Any, name: Any) -> str:
    """``getattr(HistoryBuffer, name)`` for its own four methods: their names, since every buffer has them anyway."""
    if not (isinstance(owner, type) and issubclass(owner, PickledBuffer)) or name not in _STATISTICS:
        raise UnpicklingError(f"the file asks for the attribute {_short(name)} of {_short(owner)}")
    return name


def _named(stand_in: Any, name: str) -> Any:
    """Under ``name``, where PyTorch's unpickler looks for it."""
    stand_in.__module__, _, stand_in.__name__ = name.rpartition(".")
    stand_in.__qualname__ = stand_in.__name__
    return stand_in
