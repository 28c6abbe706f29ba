"""Every reader of pictures refuses files without a picture, with several or with impossible values, and names them."""

from __future__ import annotations

import ast
import io
import os
import re
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detection_eval.datasets.night import measure
from detection_eval.demo.photographs import folder_photographs
from detection_eval.metrics.arrays import read_levels
from llie_preproc.detection import PackPairedDetInputs
from llie_preproc.errors import ImageError, ImageMemoryError, ImageSizeError
from llie_preproc.pictures import Picture, decode_picture, picture_size, read_picture, write_picture
from tests.support.command import Run
from tests.support.hostile_files import fifo
from tests.support.places import ROOT
from training.datasets.base import load_tensor

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
FLAT = np.full((12, 16, 3), 0.5, np.float32)


def saved(file_format: str, *frames: np.ndarray, **options: object) -> bytes:
    first, *others = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, file_format, save_all=bool(others), append_images=others, **options)
    return buffer.getvalue()


def float_tiff(value: float, at: tuple[int, int] = (3, 3)) -> bytes:
    pixels = FLAT.copy()
    pixels[at] = value
    return cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()


def deep_stack() -> bytes:
    frames = [RGB.astype(np.uint16) * 257] * 3
    return cv2.imencodemulti(".tiff", frames)[1].tobytes()


def tiff_pages(*kinds: int, tag: int = 254, byte_order: str = "<", first: dict[int, int] | None = None) -> bytes:
    """A grey 8-bit TIFF with a page of 4x2 pixels for each of ``kinds``, its NewSubfileType."""
    pixels_at = 8
    data = bytearray((b"II" if byte_order == "<" else b"MM") + struct.pack(byte_order + "HI", 42, 0) + bytes(range(8)))
    link = 4
    for number, kind in enumerate(kinds):
        struct.pack_into(byte_order + "I", data, link, len(data))
        tags = {tag: kind, 256: 4, 257: 2, 258: 8, 259: 1, 262: 1, 273: pixels_at, 277: 1, 278: 2, 279: 8}
        tags |= (first or {}) if not number else {}
        data += struct.pack(byte_order + "H", len(tags))
        for key in sorted(tags):
            data += struct.pack(byte_order + "HHII", key, 4, 1, tags[key])
        link = len(data)
        data += bytes(4)
    return bytes(data)


SEVERAL = {
    "GIF": (saved("GIF", RGB, 255 - RGB, RGB // 2), 3),
    "APNG": (saved("PNG", RGB, 255 - RGB), 2),
    "WebP": (saved("WEBP", RGB, 255 - RGB, RGB // 2), 3),
    "TIFF": (saved("TIFF", RGB, 255 - RGB), 2),
    "16-bit TIFF": (deep_stack(), 3),
    "TIFF, big endian": (tiff_pages(2, 2, 2, 2, byte_order=">"), 4),
    "PGM": (2 * saved("PPM", RGB[..., 0]), 2),
    "PPM": (2 * saved("PPM", RGB), 2),
    "PBM": (2 * b"P4\n9 3\n\1\2\3\4\5\6", 2),
    "16-bit PGM": (2 * (b"P5 3 2 65535\n" + bytes(12)), 2),
}
FLOATS = {"NaN": np.nan, "infinity": np.inf, "1e30": 1e30, "-1": -1.0, "levels": 255.0}
BAD = {
    **{f"several: {name}": (data, f"holds {count} frames") for name, (data, count) in SEVERAL.items()},
    **{f"float: {name}": (float_tiff(value), r"not finite|must be in \[0, 1\]") for name, value in FLOATS.items()},
    "empty": (b"", "empty"),
    "preview first": (tiff_pages(1, 0), "preview"),
    "preview of sub-pages": (tiff_pages(1, first={330: 8}), "preview"),
}
GOOD = {
    "GIF": saved("GIF", RGB),
    "WebP": saved("WEBP", RGB, lossless=True),
    "phone's MPO": saved("MPO", RGB, RGB[::2, ::2]),
    "TIFF with a preview": tiff_pages(0, 1),
    "TIFF with an old preview": tiff_pages(1, 2, tag=255),
    "TIFF with a mask and its preview": tiff_pages(0, 4, 5),
    "TIFF of one preview": tiff_pages(1),
    "TIFF with nonsense behind": tiff_pages(0)[:-4] + b"\xff\xff\xff\x7f",
    "TIFF in a circle": tiff_pages(0)[:-4] + struct.pack("<I", 16),
    "PPM with a comment behind": saved("PPM", RGB) + b"# end\n",
    "float": float_tiff(1.0005),
}


def photograph(path: Path) -> object:
    return folder_photographs(path.parent)


def pair(path: Path) -> object:
    size = dict(img_shape=(12, 16), ori_shape=(12, 16), scale_factor=(1, 1), flip=False, flip_direction=None)
    return PackPairedDetInputs(path.parent)(dict(img=RGB, img_path=f"dark/{path.stem}.png", img_id=1, **size))


READERS: list[Callable[[Path], object]] = [read_picture, load_tensor, read_levels, measure, photograph, pair]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_every_reader_refuses_a_bad_picture_by_name(tmp_path: Path, reader: Callable, kind: str) -> None:
    data, reason = BAD[kind]
    (tmp_path / "bad.tif").write_bytes(data)
    with pytest.raises(ImageError, match=rf"bad\.tif: .*({reason})"):
        reader(tmp_path / "bad.tif")


@pytest.mark.parametrize("kind", GOOD)
def test_one_picture_with_previews_or_masks_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "good.png"
    path.write_bytes(GOOD[kind])
    height, width = read_picture(path).pixels.shape[:2]
    assert picture_size(path) == (width, height) == ((4, 2) if kind.startswith("TIFF") else (16, 12))
    assert np.array_equal(read_picture(path).pixels, decode_picture(GOOD[kind]).pixels)


def test_the_first_picture_of_an_mpo_is_read() -> None:
    with Image.open(io.BytesIO(GOOD["phone's MPO"])) as image:
        assert image.n_frames == 2
        assert np.array_equal(decode_picture(GOOD["phone's MPO"]).pixels, np.asarray(image))


@pytest.mark.parametrize("kind", ["NaN", "infinity", "1e30"])
def test_pictures_that_would_be_refused_are_not_written(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match=r"a\.tif"):
        write_picture(tmp_path / "a.tif", Picture(np.full((2, 2, 3), FLOATS[kind], np.float32)))
    assert not list(tmp_path.iterdir())


def test_an_alpha_channel_is_checked_too() -> None:
    stored = np.dstack([FLAT, FLAT[..., :1]])
    stored[2, 2, 3] = np.nan
    data = cv2.imencode(".tif", stored, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()
    with pytest.raises(ImageError, match="not finite"):
        decode_picture(data)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        # The path of a socket must not be longer than about a hundred characters.
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(before)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "fifo.jpg": (fifo, "FIFO"),
    "socket.png": (make_socket, "a socket"),
    "endless.tif": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "folder.webp": (lambda path: path.mkdir(), "a folder"),
    "link.bmp": (lambda path: path.symlink_to("nowhere"), "[Nn]o such file"),
    "loop.ppm": (lambda path: path.symlink_to(path.name), "symbolic links"),
}


@contextmanager
def fifos_released(folder: Path) -> Iterator[None]:
    """Open and close the FIFOs every three seconds, so that a test that waits for one fails instead of hanging."""
    done = threading.Event()

    def release() -> None:
        while not done.wait(3):
            for path in folder.rglob("fifo*"):
                os.close(os.open(path, os.O_RDWR))

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("reader", [*READERS, picture_size], ids=lambda reader: reader.__name__)
def test_only_regular_files_are_read(tmp_path: Path, reader: Callable, name: str) -> None:
    make, reason = KINDS[name]
    make(tmp_path / name)
    with fifos_released(tmp_path), pytest.raises((ImageError, OSError), match=rf"({name}.*{reason}|{reason}.*{name})"):
        reader(tmp_path / name)


def test_the_command_lists_bad_files_and_enhances_the_others(llie: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_picture(source / "good.png", Picture(RGB))
    for name, (make, _) in KINDS.items():
        make(source / name)
    for number, (data, _) in enumerate(BAD.values()):
        (source / f"bad{number}.tif").write_bytes(data)
    with fifos_released(source):
        result = llie("enhance", source, "--out", tmp_path / "out", "--enhancer", "Identity")
    assert result.code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    listed = dict(re.findall(r"^  \S*/(\S+): (.*)$", result.err, re.M))
    expected = {name: reason for name, (_, reason) in KINDS.items()}
    expected |= {f"bad{number}.tif": reason for number, (_, reason) in enumerate(BAD.values())}
    assert listed.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.search(reason, listed[name])


def test_no_other_code_decodes_pictures() -> None:
    """Another reader would lack the checks of ``llie_preproc.pictures``."""
    decoders = {"imread", "imdecode", "imreadmulti", "imdecodemulti"}
    found = set()
    for package in ("llie_preproc", "training", "detection_eval"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if called.rpartition(".")[2] in decoders or called in {"Image.open", "PIL.Image.open"}:
                    found.add(path.relative_to(ROOT).as_posix())
    # night.py decodes JPEGs at an eighth of their size, from bytes that pictures.py has checked.
    assert found == {"llie_preproc/pictures.py", "detection_eval/datasets/night.py"}


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """Limit the memory of this process to ``more`` bytes above its present size."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of this process is not known here")
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_picture_too_large_for_memory_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    # The deep TIFF is decoded by OpenCV, the PNG by Pillow.
    dtype = np.uint16 if name == "a.tif" else np.uint8
    write_picture(path, Picture(np.zeros((5000, 5000, 3), dtype)))
    with little_memory(30 << 20), pytest.raises(ImageMemoryError, match=f"{name}: memory does not suffice"):
        read_picture(path)
    assert picture_size(path) == (5000, 5000)


def test_a_file_with_far_more_bytes_than_pixels_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, Picture(RGB))
    os.truncate(path, 1 << 40)
    with pytest.raises(ImageSizeError, match=r"a\.png: the file holds 1099511627776 bytes"):
        read_picture(path)
    os.truncate(path, 1 << 29)
    with pytest.raises(ImageSizeError, match="more than 192 pixels need"):
        read_picture(path)
