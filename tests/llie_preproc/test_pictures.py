"""``read_picture`` and ``write_picture`` keep every mode, depth and orientation, or refuse a file by name."""

from __future__ import annotations

import io
import os
import struct
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from llie_preproc.errors import ImageError
from llie_preproc.pictures import (
    Picture,
    convert_depth,
    decode_picture,
    full_scale,
    picture_files,
    read_picture,
    read_rgb8,
    write_picture,
)
from tests.support.png_files import png_of

# Pillow warns of files that it finds damaged.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (5, 7, 3), np.uint16)


def png16(pixels: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG written by the specification, independent of the libraries under test."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png_of(width, height, 16, colour_type, rows)


def tiff(pixels: np.ndarray, orientation: int = 1, photometric: int = 2, planar: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one strip, written by the specification."""
    height, width, samples = pixels.shape
    bits, sample_format = 8 * pixels.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    body = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: samples, 278: height}
    tags |= {279: len(body), 284: planar}
    extra = b"".join(struct.pack("<H", value) for value in [bits] * samples + [sample_format] * samples)
    extra_at = 8 + len(body)
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    for tag, value, at in ((258, bits, extra_at), (339, sample_format, extra_at + 2 * samples)):
        # Up to two 16-bit numbers fit into the entry itself.
        where = struct.pack("<HH", value, value if samples > 1 else 0) if samples < 3 else struct.pack("<I", at)
        entries[tag] = struct.pack("<HHI", tag, 3, samples) + where
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + b"\0" * 4
    return b"II*\0" + struct.pack("<I", extra_at + len(extra)) + body + extra + directory


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_files_that_begin_with_a_dot_are_not_listed(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.tif", "._b.PNG", "sub/._c.tif", ".png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"any")
    assert [path.relative_to(tmp_path).as_posix() for path in picture_files(tmp_path)] == [
        "a.jpg",
        "b.PNG",
        "sub/c.tif",
    ]
    (tmp_path / "sub" / "c.tif").unlink()
    with pytest.raises(FileNotFoundError, match="no pictures below"):
        picture_files(tmp_path / "sub")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_pillow_does_it(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(RGB), file_format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode_picture(data).pixels, upright)
    assert decode_picture(data, ignore_orientation=True).pixels.shape == RGB.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encode", ["png", "tiff8", "tiff16"])
def test_ignored_orientation_returns_the_stored_frame(orientation: int, encode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, stored = {
        "png": lambda: (saved(Image.fromarray(RGB), "PNG", exif=exif), RGB),
        "tiff8": lambda: (tiff(RGB, orientation), RGB),
        "tiff16": lambda: (tiff(RGB16, orientation), RGB16),
    }[encode]()
    assert np.array_equal(decode_picture(data, ignore_orientation=True).pixels, stored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_16_bit_tiff_is_turned_like_an_8_bit_one(orientation: int) -> None:
    shallow = decode_picture(tiff(RGB, orientation)).pixels
    assert np.array_equal(
        decode_picture(tiff(RGB.astype(np.uint16) * 257, orientation)).pixels, shallow * np.uint16(257)
    )


def test_orientation_is_not_applied_twice(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    picture = decode_picture(saved(Image.fromarray(RGB), "PNG", exif=exif))
    write_picture(tmp_path / "a.png", picture)
    again = read_picture(tmp_path / "a.png")
    assert np.array_equal(again.pixels, picture.pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert dict(image.getexif()) == {0x0112: 1, 0x010F: "Maker"}


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_its_values(colour_type: int, channels: int) -> None:
    stored = RNG.integers(0, 65536, (5, 7, channels), np.uint16)
    picture = decode_picture(png16(stored, colour_type))
    colours = 3 if channels > 2 else 1
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, np.broadcast_to(stored[..., :colours], (5, 7, 3)))
    assert picture.grey == (channels < 3)
    assert (picture.alpha is None) if channels in (1, 3) else np.array_equal(picture.alpha, stored[..., -1])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_and_float_tiffs_keep_their_values(dtype: type, channels: int) -> None:
    stored = convert_depth(RGB16[..., :channels], dtype)
    picture = decode_picture(tiff(stored, photometric=2 if channels == 3 else 1))
    assert picture.pixels.dtype == dtype
    assert np.array_equal(picture.pixels, np.broadcast_to(stored, (5, 7, 3)))


@pytest.mark.parametrize(
    ("pixels", "photometric", "planar"),
    [
        (RGB16.astype(np.int16), 2, 1),
        (RGB16.astype(np.float16), 2, 1),
        (RGB16[..., :1], 0, 1),
        (RGB16, 2, 2),
        (np.dstack([RGB16, RGB16[..., :1]]), 5, 1),
    ],
    ids=["signed", "float16", "white is zero", "planar", "CMYK"],
)
def test_unsupported_16_bit_and_float_tiffs_are_refused(pixels: np.ndarray, photometric: int, planar: int) -> None:
    with pytest.raises(ImageError, match=r"night\.tif: .*not supported"):
        decode_picture(tiff(pixels, photometric=photometric, planar=planar), "night.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes_are_read_as_pillow_converts_them(mode: str) -> None:
    image = Image.fromarray(RGB16[..., 0]) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    data = saved(image, file_format)
    picture = decode_picture(data)
    with Image.open(io.BytesIO(data)) as stored:
        if mode == "I;16":
            expected = np.repeat(np.asarray(stored)[..., None], 3, axis=2)
        else:
            expected = np.asarray(stored.convert("RGB"))
        assert np.array_equal(picture.pixels, expected)
        assert (picture.alpha is not None) == ("A" in stored.getbands())
    assert picture.grey == (mode in ("1", "L", "LA", "I;16"))
    assert picture.pixels.flags.writeable


def test_transparent_palette_colour_becomes_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    picture = decode_picture(saved(image, "PNG", transparency=1))
    assert picture.pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0]]


LOSSLESS = st.one_of(
    st.tuples(st.just(np.uint8), st.sampled_from([".png", ".tif", ".bmp", ".ppm"])),
    st.tuples(st.just(np.uint16), st.sampled_from([".png", ".tif"])),
    st.tuples(st.just(np.float32), st.just(".tif")),
)


@settings(max_examples=60, deadline=None)
@given(
    kind=LOSSLESS,
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grey=st.booleans(),
    alpha=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lossless_files_return_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    kind: tuple[type, str],
    size: tuple[int, int],
    grey: bool,
    alpha: bool,
    seed: int,
) -> None:
    dtype, suffix = kind
    levels = np.random.default_rng(seed).integers(0, 65536, (*size, 4), np.uint16)
    levels[..., 1:3] = levels[..., :1] if grey else levels[..., 1:3]
    stored = convert_depth(levels, dtype)
    picture = Picture(stored[..., :3].copy(), stored[..., 3].copy() if alpha else None, grey)
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    write_picture(path, picture)
    again = read_picture(path)
    assert again.pixels.dtype == dtype
    assert np.array_equal(again.pixels, picture.pixels)
    if alpha and suffix in (".png", ".tif"):
        assert np.array_equal(again.alpha, picture.alpha)
    else:
        assert again.alpha is None


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif"])
def test_exif_and_profile_of_a_tiff_survive_an_enlargement(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw", icc_profile=b"profile", exif=exif)
    picture = decode_picture(data)
    enlarged = replace(picture, pixels=picture.pixels.repeat(2, 0).repeat(2, 1))
    write_picture(tmp_path / f"a{suffix}", enlarged)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.size == (14, 10)
        assert image.getexif()[0x010F] == "Maker"
        assert image.info["icc_profile"] == b"profile"
        # If a size is recorded, it is that of the result.
        assert image.getexif().get(256, 14) == 14


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_depth_is_reduced_where_the_format_has_8_bits(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"a{suffix}", Picture(np.full((4, 4, 3), 0x8080, np.uint16)))
    assert np.abs(read_picture(tmp_path / f"a{suffix}").pixels.astype(int) - 0x80).max() <= 1


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, ".png"), (np.uint8, ".png"), (np.float32, ".tiff")])
@pytest.mark.parametrize("grey", [False, True])
def test_any_picture_is_read_as_8_bit_rgb(tmp_path: Path, dtype: type, suffix: str, grey: bool) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 4, 1 if grey else 3), dtype=np.uint8)
    levels = np.ascontiguousarray(np.broadcast_to(levels, (3, 4, 3)))
    stored = (levels / 255 * full_scale(np.dtype(dtype))).astype(dtype)
    write_picture(tmp_path / f"a{suffix}", Picture(stored, grey=grey, alpha=None if grey else stored[..., 0]))
    pixels = read_rgb8(tmp_path / f"a{suffix}")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, levels)


@given(hnp.arrays(np.uint8, (2, 3)), st.sampled_from([np.uint16, np.float32, np.float64]))
def test_convert_depth_is_reversible(levels: np.ndarray, dtype: type) -> None:
    converted = convert_depth(levels, dtype)
    assert np.allclose(converted / full_scale(converted.dtype), levels / 255, atol=1e-6)
    assert np.array_equal(convert_depth(converted, np.uint8), levels)


def test_full_scale_refuses_other_kinds() -> None:
    with pytest.raises(TypeError, match="int32"):
        full_scale(np.dtype(np.int32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just some text", "just som"),
        (saved(Image.fromarray(RGB).resize((64, 64)), "JPEG")[:500], "truncated"),
        (saved(Image.fromarray(RGB).resize((64, 64)), "PNG")[:100], "truncated|damaged"),
        (png16(RGB16, 2)[:80], "truncated|damaged"),
        (tiff(RGB16)[:-20], "truncated|damaged"),
    ],
    ids=["zero bytes", "text", "truncated JPEG", "truncated PNG", "truncated 16-bit PNG", "truncated TIFF"],
)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"bad\\.png: .*({message})"):
        read_picture(path)


@pytest.mark.parametrize("data", [png16(RGB16, 2), tiff(RGB16), saved(Image.fromarray(RGB), "JPEG")])
def test_a_declared_size_over_the_limit_is_refused_before_decoding(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr("llie_preproc.pictures.cv2.imdecode", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(ImageError, match="declares 7x5 pixels, over the limit of 34"):
        decode_picture(data, max_pixels=34)


def test_a_small_file_that_declares_a_huge_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="100000x100000"):
        decode_picture(png_of(100_000, 100_000, 8, 2, bytes(1000)))


def test_pillows_own_limit_survives_threads() -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = saved(Image.fromarray(RGB), "PNG")
    threads = [threading.Thread(target=lambda: [decode_picture(data) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before is not None
    assert before == Image.MAX_IMAGE_PIXELS


FUZZED = [saved(Image.fromarray(RGB), kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "GIF")]


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from([*FUZZED, tiff(RGB16), png16(RGB16, 2)]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_give_a_picture_or_an_image_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        picture = decode_picture(bytes(damaged), max_pixels=1 << 20)
    except ImageError:
        return
    assert picture.pixels.ndim == 3
    assert picture.pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("a.gif", RGB), ("a", RGB), ("a.png", RGB[..., :2]), ("a.webp", np.zeros((1, 20_000, 3), np.uint8))],
)
def test_pictures_that_cannot_be_written_are_refused(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match=name):
        write_picture(tmp_path / name, Picture(pixels))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exception", [OSError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def broken(_: int) -> None:
        raise exception

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(exception):
        write_picture(path, Picture(RGB))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == b"old"
