"""Arrays on disk, read without trusting the file: it may be damaged, of something else, or made to do harm."""

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
# What NumPy writes of a plain dtype. Its own reader evaluates the text, and raises whatever comes.
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=][biufcU]\d{1,9})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,18}, ?)*(\d{1,18})?)\), \} *\n"
)
# What zipfile and zlib raise, beside ValueError, of files that are damaged or made to be.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ArithmeticError, MemoryError, KeyError, OSError)


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write the one ``.npy`` that :func:`read_array` takes: in version 1.0 of the format and in C order.

    Args:
        file: File open for writing.
        array: Array of a plain dtype.

    Raises:
        ValueError: The dtype holds objects.
    """
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds objects, which are not written to files")
    file.write(_header(array.shape, array.dtype))
    file.write(np.ascontiguousarray(array).data)


def read_array(path: str | os.PathLike[str], shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
    """Read a ``.npy`` of :func:`write_array` whose shape and dtype are known beforehand.

    Nothing in the file is parsed: it must begin with the header of such an array, byte by byte, and be as long as the
    array asks for. Nothing is allocated for a file that does not.

    Args:
        path: Path of the file.
        shape: Shape that the array must have.
        dtype: Plain dtype that the array must have.

    Returns:
        The array, or None where there is no file, or something else: a folder, a symbolic link, a pipe, another file.
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

    Args:
        path: Path of the file.
        fields: Kind of the dtype (``'f'``, ``'i'``, ``'U'``; several letters: any of them) and number of dimensions,
            by the name of each array that is needed. Others in the file are not looked at.
        follow: Whether a symbolic link to the file will do.

    Raises:
        OSError: The file cannot be opened, or is no regular file.
        ValueError: The file is no archive of such arrays; the message says why, without the path. Of what a header
            declares nothing is allocated before the file has shown that it holds as much.
    """
    with open_regular(path, follow) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _member(archive, name, *kind) for name, kind in fields.items()}
        except (ValueError, *_DAMAGE) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"no archive of the arrays {', '.join(fields)}: {reason}") from error


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
            raise ValueError(f"{name} is no array")
        # Two bytes: at most 64 KiB.
        rest = file.read(int.from_bytes(start[8:], "little"))
        found = _HEADER.fullmatch(rest)
        if found is None:
            raise ValueError(f"{name} is not of numbers or text")
        dtype, fortran = np.dtype(found["dtype"].decode()), found["fortran"] == b"True"
        shape = tuple(int(length) for length in found["shape"].split(b",") if length.strip())
        if dtype.kind not in kinds or len(shape) != dimensions:
            raise ValueError(f"{name} is of {dtype} and shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if _START + len(rest) + size != entry.file_size:
            raise ValueError(f"{name} has {entry.file_size} bytes, its header declares {_START + len(rest) + size}")
        values = file.read(size)
    if len(values) != size:
        raise ValueError(f"{name} ends after {len(values)} of {size} bytes")
    # Of a bytearray, because an array of bytes cannot be written to.
    return np.frombuffer(bytearray(values), dtype).reshape(shape, order="F" if fortran else "C")
