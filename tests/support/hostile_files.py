"""Files as an attacker, a damaged disk or a killed program leaves them, for the tests of everything that opens a path.

Each function of :data:`HOSTILE` writes one file (or a folder, a FIFO or a link) at a path of any suffix. If anything
runs the command in such a file, the file of :func:`marker` appears.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.support.png_files import png_of


def marker(path: Path) -> Path:
    """File that appears beside ``path`` if a command in ``path`` is run."""
    return path.with_name("a_command_was_run")


class _Command:
    """An object that is pickled as a call of ``os.system``."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch '{marker(path)}'"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def _zip_of_pickle(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def checkpoint_of_a_pickle(path: Path) -> None:
    """A file of ``torch.save`` with an object that runs a command."""
    _zip_of_pickle(path, pickle.dumps({"state_dict": {}, "meta": _Command(path)}, protocol=2))


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Command(path)))


def checkpoint_that_fetches_attributes(path: Path) -> None:
    """A checkpoint that uses only allowed names, and reaches ``os`` through ``getattr`` and a function's globals.

    It changes the globals of ``torch._utils._rebuild_tensor_v2``, which then calls another ``_rebuild_tensor``.
    """
    text = lambda value: b"X" + struct.pack("<I", len(value.encode())) + value.encode()  # noqa: E731
    name = lambda module, attribute: f"c{module}\n{attribute}\n".encode()  # noqa: E731
    fetch = lambda owner, attribute: name("builtins", "getattr") + owner + text(attribute) + b"\x86R"  # noqa: E731
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    builtin_module = fetch(name("builtins", "getattr"), "__self__")
    data = b"\x80\x02}q\x09" + text("state_dict") + b"}s"
    data += text("junk") + fetch(rebuild, "__globals__") + b"q\x01"
    data += text("_rebuild_tensor") + fetch(builtin_module, "__import__") + b"ss"
    data += text("os") + rebuild + b"(" + text("os") + b"NN)\x89NtRq\x03s"
    data += text("a") + b"h\x01" + text("_rebuild_tensor") + fetch(b"h\x03", "spawnlp") + b"ss"
    data += text("b") + rebuild + b"(K\x00" + text("touch") + text("touch") + text(str(marker(path))) + b"\x89NtRs."
    _zip_of_pickle(path, data)


def yaml_that_runs_code(path: Path) -> None:
    path.write_text(f"model: !!python/object/apply:os.system [\"touch '{marker(path)}'\"]\n", encoding="utf-8")


def array_of_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([_Command(path)], dtype=object), allow_pickle=True)


def archive_of_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, mu_prisparam=np.array([_Command(path)], dtype=object))


def array_of_terabytes(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})


def tensors_of_a_huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def tensors_of_a_huge_shape(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def deep_json(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)


def json_of_other_things(path: Path) -> None:
    path.write_text('{"images": 1, "annotations": NaN, "categories": null, "image_id": 1e999}', encoding="utf-8")


def json_of_a_long_number(path: Path) -> None:
    path.write_text(f'[{{"image_id": {"9" * 5000}}}]', encoding="utf-8")


def picture_of_terapixels(path: Path) -> None:
    """A PNG that declares 2^20 by 2^20 pixels and has 64 bytes of them."""
    path.write_bytes(png_of(1 << 20, 1 << 20, 8, 2, bytes(64)))


def playlist(path: Path) -> None:
    """A text that FFmpeg reads as a list of other files to open."""
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile:{path.with_name('secret.txt')}\n#EXT-X-ENDLIST\n", encoding="utf-8")


def names_outside(path: Path) -> None:
    path.write_text("../../../etc/passwd\n/etc/passwd\n..\\..\\x\n", encoding="utf-8")


def no_text(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def truncated_archive(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    path.write_bytes(buffer.getvalue()[:-30])


HOSTILE: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        checkpoint_of_a_pickle,
        checkpoint_that_fetches_attributes,
        plain_pickle,
        yaml_that_runs_code,
        array_of_objects,
        archive_of_objects,
        array_of_terabytes,
        tensors_of_a_huge_header,
        tensors_of_a_huge_shape,
        deep_json,
        json_of_other_things,
        json_of_a_long_number,
        picture_of_terapixels,
        playlist,
        names_outside,
        no_text,
        empty,
        fifo,
        folder,
        link_to_itself,
        truncated_archive,
    )
}


class Hung(Exception):
    """The block did not end in time."""


@contextlib.contextmanager
def comes_back(seconds: float) -> Iterator[None]:
    """Raise :class:`Hung` if the block takes longer than this: a program that opens a FIFO could wait forever."""

    def hung(*_: object) -> None:
        raise Hung(f"the block has not ended after {seconds} s")

    previous = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
