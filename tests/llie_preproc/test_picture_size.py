"""``picture_size`` reads the size of the decoded picture from a file's header."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from llie_preproc.errors import ImageError
from llie_preproc.pictures import picture_size, read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)


def decoded_size(path):
    height, width = read_picture(path).pixels.shape[:2]
    return width, height


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_size_is_that_of_the_decoded_picture(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    described = {} if suffix in {".bmp", ".ppm"} else {"exif": exif}
    Image.fromarray(PIXELS).save(path, **described)
    assert picture_size(path) == decoded_size(path)
    turned = described and orientation is not None and orientation > 4
    assert picture_size(path) == ((9, 16) if turned else (16, 9))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_exif_after_the_pixels_of_a_png_counts(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    exif = Image.Exif()
    exif[274] = 6
    end = chunk(b"IEND", b"")
    path.write_bytes(data.removesuffix(end) + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + end)
    assert picture_size(path) == decoded_size(path) == (9, 16)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiffs_of_16_bits_and_of_floats_have_a_size(tmp_path, dtype):
    path = tmp_path / "a.tiff"
    scale = 255 if dtype == np.float32 else 1
    assert cv2.imwrite(
        str(path), (PIXELS / scale).astype(dtype), [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]
    )
    assert picture_size(path) == decoded_size(path) == (16, 9)


def test_a_png_of_16_bits_has_a_size(tmp_path):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), PIXELS.astype(np.uint16) * 257)
    assert picture_size(path) == decoded_size(path) == (16, 9)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_pixels_are_not_decoded(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **({"compression": "tiff_lzw"} if suffix == ".tif" else {}))
    data = bytearray(path.read_bytes())
    # The tags of a TIFF follow its pixels, so its pixels are damaged instead of cut off.
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data if suffix == ".tif" else data[: len(data) // 2])
    assert picture_size(path) == (300, 200)
    if suffix != ".tif":
        with pytest.raises(ImageError):
            read_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\0\0", b"\xff\xd8\xff"])
def test_files_without_a_picture_are_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        picture_size(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        picture_size(tmp_path / "none.png")
