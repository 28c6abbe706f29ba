"""Safe reading of what the checkpoint of an MMEngine run holds beside tensors: logs, NumPy's values and containers.

A run pickles its message hub. Its ``HistoryBuffer`` refers to the four methods of its statistics through
``builtins.getattr``, and its numbers are made by NumPy's own constructors. On the unpickler's allow-list, each of these
would be a tool for the author of a hostile file: ``getattr`` reaches the globals of any function, NumPy's ``dtype`` and
``_reconstruct`` make object arrays and arrays of any size, and ``HistoryBuffer`` takes methods from the file for all
buffers of the process. Therefore nothing of MMEngine or NumPy is on the list. For each name there is a stand-in in this
module that makes one kind of plain value, and :func:`plain` refuses everything else in the result.
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
# HistoryBuffer adds its methods under this key when it is pickled; they are not read.
_METHODS = "statistics_methods"
# These are booleans, numbers and text of fixed size, but no objects, records or dates.
_KIND = re.compile(r"b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,5}")
_ORDERS = ("<", ">", "|", "=")
# The name of the module depends on the version of NumPy that wrote the file.
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PLAIN = (str, bytes, bytearray, bool, int, float, complex, type(None), torch.Size, torch.dtype, torch.device)
_MAX_DIMENSIONS, _MAX_SIDE = 32, 1 << 31


class _Brief(reprlib.Repr):
    """Short texts of values in a file, whose full texts could be endless."""

    maxlevel = 2

    def repr_instance(self, x: Any, level: int) -> str:
        """Only the type's name, because the text of a storage has all its numbers."""
        return f"a {type(x).__name__}"


_short = _Brief().repr


class PickledDType:
    """Stand-in for ``numpy.dtype``, which accepts numbers, booleans and text."""

    def __init__(self, kind: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise CheckpointError(f"arrays of the dtype {_short(kind)} are not allowed in a checkpoint")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        _, order, *of_records = state[:5]
        if order not in _ORDERS or any(each is not None for each in of_records):
            raise CheckpointError(f"the state {_short(state)} of a dtype is not one of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """Stand-in for ``numpy.ndarray``; ``value`` is the array as soon as its state has been read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < _MAX_SIDE for n in shape):
            raise CheckpointError(f"an array cannot have the shape {_short(shape)}")
        self.value = _numbers(kind, data, math.prod(shape)).reshape(shape, order="F" if fortran else "C")


class PickledBuffer(HistoryBuffer):
    """Stand-in for ``HistoryBuffer``. With its state, it becomes a real one that has numbers, but no methods."""

    def __init__(self, *args: Any) -> None:
        raise CheckpointError("a HistoryBuffer must be made from its state only")

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
        raise CheckpointError("the history of a HistoryBuffer is not a row of numbers")
    return array


def answers() -> list[Any]:
    """Stand-ins for PyTorch's list of safe globals, each under the name that it replaces.

    Examples:
        >>> "numpy.dtype" in [f"{each.__module__}.{each.__name__}" for each in answers()]
        True
    """
    functions: dict[str, Callable[..., Any]] = {"builtins.getattr": _statistics_method, "builtins.bytes": _no_bytes}
    # PyTorch's own list has this name from version 2.5 on.
    functions["_codecs.encode"] = _bytes_of
    for module in _MULTIARRAY:
        functions |= {f"{module}._reconstruct": _reconstruct, f"{module}.scalar": _scalar}
    classes = {
        "numpy.dtype": PickledDType,
        "numpy.ndarray": PickledArray,
        f"{HistoryBuffer.__module__}.HistoryBuffer": PickledBuffer,
    }
    # New objects are made, because the name is an attribute of the stand-in.
    stand_ins: dict[str, Any] = {name: functools.partial(function) for name, function in functions.items()}
    stand_ins |= {name: type(kind.__name__, (kind,), {}) for name, kind in classes.items()}
    return [_named(stand_in, name) for name, stand_in in stand_ins.items()]


def plain(value: Any, place: str = "the file") -> Any:
    """Replace the stand-ins in an unpickled value by their arrays; containers are changed in place.

    Args:
        value: Value that the unpickler returned.
        place: Place of the value in the file, for the message.

    Raises:
        CheckpointError: Something in the value is neither a tensor nor plain data: a function, a class, an object, or a
            container or tensor with attributes of its own.

    Examples:
        >>> plain({"epoch": 3, "name": "night"})
        {'epoch': 3, 'name': 'night'}
        >>> plain({"hook": print})
        Traceback (most recent call last):
        llie_preproc.errors.CheckpointError: the file.hook is a builtin_function_or_method, which is neither a ...
    """
    return _Walk().visit(value, place)


class _Walk:
    """Visitor of values that visits each container once, so that it ends even if a container holds itself."""

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
        # nn.Module.state_dict() sets this attribute.
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
    """Read ``count`` numbers into an array that owns its memory."""
    if not isinstance(kind, PickledDType) or not isinstance(data, bytes) or len(data) != count * kind.dtype.itemsize:
        raise CheckpointError(f"an array of {count} numbers has no dtype, or too few or too many bytes")
    return np.frombuffer(data, kind.dtype).copy()


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> PickledArray:
    """Make an array without its state, as NumPy pickles it; its shape and dtype come with the state."""
    if not (isinstance(kind, type) and issubclass(kind, PickledArray)):
        raise CheckpointError(f"arrays of the class {_short(kind)} are not allowed in a checkpoint")
    return kind()


def _scalar(kind: Any, data: Any) -> np.generic:
    return _numbers(kind, data, 1)[0]


def _bytes_of(text: Any, encoding: Any) -> bytes:
    """Stand-in for the function that bytes are pickled with."""
    if not isinstance(text, str) or encoding != "latin1":
        raise CheckpointError(f"bytes in the encoding {_short(encoding)} are not allowed in a checkpoint")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand-in for ``bytes``, by which the data of an empty array is pickled."""
    return b""


def _statistics_method(owner: Any, name: Any) -> str:
    """Stand-in for ``getattr``, which returns the names of ``HistoryBuffer``'s four methods and refuses all else."""
    if not (isinstance(owner, type) and issubclass(owner, PickledBuffer)) or name not in _STATISTICS:
        raise UnpicklingError(f"the file asks for the attribute {_short(name)} of {_short(owner)}")
    return name


def _named(stand_in: Any, name: str) -> Any:
    """Give a stand-in the name under which PyTorch's unpickler looks for it."""
    stand_in.__module__, _, stand_in.__name__ = name.rpartition(".")
    stand_in.__qualname__ = stand_in.__name__
    return stand_in
