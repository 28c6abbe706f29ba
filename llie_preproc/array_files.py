"""Arrays on disk. Files are not trusted: a file may be damaged, hold something else, or be made to do harm."""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from .files import open_regular

# Magic number, version and length of the header, in version 1.0 of the format.
_START = 10
# This is the header that NumPy writes for a plain dtype. NumPy's own reader evaluates the text as Python.
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=][biufcU]\d{1,9})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,18}, ?)*(\d{1,18})?)\), \} *\n"
)
# zipfile and zlib raise these, beside ValueError, for files that are damaged or made to do harm.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ArithmeticError, MemoryError, KeyError, OSError)


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write a ``.npy`` in the one form that :func:`read_array` accepts: version 1.0 of the format, in C order.

    Args:
        file: File that is open for writing.
        array: Array of a plain dtype.

    Raises:
        ValueError: The dtype holds objects.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.npy"
        >>> with path.open("wb") as file:
        ...     write_array(file, np.arange(3))
        >>> read_array(path, (3,), np.dtype(int)).tolist()
        [0, 1, 2]
        >>> read_array(path, (2,), np.dtype(int)) is None
        True
    """
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds objects, which are not written to files")
    file.write(_header(array.shape, array.dtype))
    file.write(np.ascontiguousarray(array).data)


def read_array(path: str | os.PathLike[str], shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
    """Read a ``.npy`` of :func:`write_array` whose shape and dtype are known beforehand.

    Nothing in the file is parsed: it must begin with the header of such an array, byte for byte, and have its exact
    length. No memory is allocated for any other file.

    Args:
        path: Path of the file.
        shape: Shape that the array must have.
        dtype: Plain dtype that the array must have.

    Returns:
        The array; None if there is no file, or if the path leads to a folder, a symbolic link, a pipe, or a file with
        other content.
    """
    header, values = _header(tuple(shape), np.dtype(dtype)), math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with open_regular(path, follow=False) as file:
            if os.fstat(file.fileno()).st_size != len(header) + values or file.read(len(header)) != header:
                return None
            array = np.empty(tuple(shape), dtype)
            return array if file.readinto(array.reshape(-1).view(np.uint8).data) == values else None
    except OSError:
        return None


def read_archive(
    path: str | os.PathLike[str], fields: Mapping[str, tuple[str, int]], follow: bool = True
) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz``.

    Memory for an array is allocated only if the file holds as many bytes as the array's header declares.

    Args:
        path: Path of the file.
        fields: Needed arrays by name, each with the letters of the dtype kinds that are allowed (``'f'``, ``'iu'``),
            and the number of dimensions. Other arrays in the file are not read.
        follow: Whether a symbolic link to the file is accepted.

    Raises:
        OSError: The file cannot be opened, or is not a regular file.
        ValueError: The file is not an archive of such arrays; the message says why, without the path.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, scores=np.array([0.5, 0.25]))
        >>> read_archive(path, {"scores": ("f", 1)})["scores"].tolist()
        [0.5, 0.25]
    """
    with open_regular(path, follow) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _member(archive, name, *kind) for name, kind in fields.items()}
        except (ValueError, *_DAMAGE) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"not an archive of the arrays {', '.join(fields)}: {reason}") from error


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _member(archive: zipfile.ZipFile, name: str, kinds: str, dimensions: int) -> np.ndarray:
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        start = file.read(_START)
        if len(start) < _START or start[:8] != npy.magic(1, 0):
            raise ValueError(f"{name} is not an array")
        # The length has two bytes, so the header has at most 64 KiB.
        rest = file.read(int.from_bytes(start[8:], "little"))
        found = _HEADER.fullmatch(rest)
        if found is None:
            raise ValueError(f"{name} does not hold plain numbers or text")
        dtype, fortran = np.dtype(found["dtype"].decode()), found["fortran"] == b"True"
        shape = tuple(int(length) for length in found["shape"].split(b",") if length.strip())
        if dtype.kind not in kinds or len(shape) != dimensions:
            raise ValueError(f"{name} has dtype {dtype} and shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if _START + len(rest) + size != entry.file_size:
            raise ValueError(f"{name} has {entry.file_size} bytes, its header declares {_START + len(rest) + size}")
        values = file.read(size)
    if len(values) != size:
        raise ValueError(f"{name} ends after {len(values)} of {size} bytes")
    # An array over bytes would be read-only; an array over a bytearray is writable.
    return np.frombuffer(bytearray(values), dtype).reshape(shape, order="F" if fortran else "C")
