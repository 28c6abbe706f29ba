"""One reader and one writer of picture files, for every command and dataset."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from .checkpoints import atomic_write
from .errors import ImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 1 << 28
"""Default limit of a picture's declared width times height: 268 million pixels."""

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR = 256, 257, 258, 262, 274, 277, 284
_SAMPLE_FORMAT, _ICC_PROFILE = 339, 34675
# Description, make, model, orientation, resolution, software, date, artist, copyright, EXIF and GPS blocks.
_DESCRIPTIVE_TAGS = {270, 271, 272, _ORIENTATION, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}
# SampleFormat (1: unsigned, 3: float) and bits.
_DEEP_TIFF_DEPTHS = {(1, 16), (3, 32), (3, 64)}
# PhotometricInterpretation (1: black is zero, 2: RGB), samples of a pixel, PlanarConfiguration (1: interleaved).
_DEEP_TIFF_LAYOUTS = {(1, 1, 1), (2, 3, 1), (2, 4, 1)}
# Others of Pillow's decoders run programs (EPS) or are rarely tried on damaged files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What Pillow and OpenCV raise on damaged bytes, and on pixels that a format cannot hold.
_DAMAGE = (OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, cv2.error)
_PILLOW_LIMIT = threading.Lock()
_TIFF_SUFFIXES = {".tif", ".tiff"}
_DEEP_SUFFIXES = {"u2": {".png", *_TIFF_SUFFIXES}, "f4": _TIFF_SUFFIXES, "f8": _TIFF_SUFFIXES}
# OpenCV's default for float colour is LogLuv, which loses precision.
_DEEP_OPTIONS = [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]
# The signature of a PNG and its header chunk.
_PNG_START = 33
_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float64)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: ``(H, W, 3)`` RGB; uint8, uint16, or float32 nominally in [0, 1].
        alpha: ``(H, W)`` of the same dtype, or None.
        grey: The file had one channel; ``pixels`` repeats it three times.
        exif: EXIF block to write back, its orientation reset; empty where there was none.
        icc_profile: Colour profile to write back; empty where there was none.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    exif: bytes = field(default=b"", repr=False)
    icc_profile: bytes = field(default=b"", repr=False)


def read_picture(
    path: str | os.PathLike[str], ignore_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read a picture file.

    8-bit, 16-bit and float files keep their depth; palette and CMYK pictures are converted to RGB, one-channel
    pictures are repeated to three equal channels.

    Args:
        path: The file.
        ignore_orientation: Keep the stored frame (for labels made in it) where the default applies the EXIF
            orientation.
        max_pixels: A larger declared width times height is refused before decoding.

    Raises:
        FileNotFoundError: No such file.
        ImageError: Empty, no picture, truncated, of a kind that is not supported, or too large.
    """
    data = Path(path).read_bytes()
    return decode_picture(data, str(path), ignore_orientation, max_pixels)


def decode_picture(
    data: bytes, name: str = "picture", ignore_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> Picture:
    """:func:`read_picture` for bytes; ``name`` stands in messages."""
    if not data:
        raise ImageError(f"{name}: the file is empty")
    try:
        tags = _tiff_tags(data)
        if max(tags.get(_BITS, (8,))) > 8:
            return _from_deep_tiff(data, tags, name, ignore_orientation, max_pixels)
        with _open(data) as image:
            _check_size(image.width, image.height, name, max_pixels)
            return _from_pillow(image, data, name, ignore_orientation)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a format that is known (its first bytes: {data[:8]!r})") from error
    except _DAMAGE as error:
        raise ImageError(f"{name}: the picture is truncated or damaged ({error})") from error


def write_picture(path: str | os.PathLike[str], picture: Picture, quality: int = 95) -> None:
    """Write a picture file, atomically; the suffix of ``path`` chooses the format.

    The depth is kept where the format has it (16-bit: PNG, TIFF; float: TIFF) and reduced to 8 bits where not; JPEG
    drops the alpha channel. The orientation is never written: the pixels are upright already.

    Raises:
        ImageError: An unknown suffix, or pixels that are not ``(H, W, 3)``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}; one of {sorted(SUFFIXES)} can be")
    if picture.pixels.ndim != 3 or picture.pixels.shape[2] != 3:
        raise ImageError(f"{path}: pixels must be (H, W, 3), got {picture.pixels.shape}")
    pixels = _to_grey(picture.pixels)[..., None] if picture.grey else picture.pixels
    if picture.alpha is not None and suffix not in {".jpg", ".jpeg", ".ppm", ".pgm", ".bmp"}:
        pixels = np.dstack([pixels, picture.alpha])
    try:
        if suffix in _DEEP_SUFFIXES.get(pixels.dtype.kind + str(pixels.itemsize), ()):
            encoded = _encode_deep(pixels, suffix)
        else:
            encoded = _encode_8bit(convert_depth(pixels, np.uint8), suffix, picture, quality)
    except _DAMAGE as error:
        raise ImageError(f"{path}: cannot encode {pixels.dtype} pixels of shape {pixels.shape} ({error})") from error
    with atomic_write(path) as file:
        file.write(encoded)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """``(width, height)`` of what :func:`read_picture` would give, EXIF orientation applied, without decoding.

    Raises:
        FileNotFoundError: No such file.
        ImageError: Empty, no picture, or a damaged header.
    """
    with Path(path).open("rb") as file:
        try:
            (width, height), orientation = _declared(file)
        except UnidentifiedImageError as error:
            raise ImageError(f"{path}: not a picture in a format that is known, or empty") from error
        except _DAMAGE as error:
            raise ImageError(f"{path}: the picture's header is damaged ({error})") from error
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture: a known suffix, and no dot in front (macOS leaves ``._a.png``)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Picture files below ``folder``, sorted by path, by :func:`is_picture`.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
    """
    root = Path(folder).expanduser()
    files = sorted(p for p in root.rglob("*") if is_picture(p) and p.is_file())
    if not files:
        raise FileNotFoundError(f"no pictures below {root}" if root.is_dir() else f"no folder {root}")
    return files


def paired_files(low: str | os.PathLike[str], high: str | os.PathLike[str]) -> list[tuple[Path, Path]]:
    """Pairs of picture files that have the same path below ``low`` and ``high``, sorted.

    Raises:
        FileNotFoundError: No picture below ``low``, or one without its pair; the message names both files.
    """
    low_root, high_root = Path(low).expanduser(), Path(high).expanduser()
    pairs = [(path, high_root / path.relative_to(low_root)) for path in picture_files(low)]
    for path, target in pairs:
        if not target.is_file():
            raise FileNotFoundError(f"{path} has no pair: there is no {target}")
    return pairs


def convert_depth(pixels: np.ndarray, dtype: type | np.dtype) -> np.ndarray:
    """Convert between uint8, uint16 and float in [0, 1], clipping and rounding to the nearest level."""
    target = np.dtype(dtype)
    if pixels.dtype == target:
        return pixels
    unit = pixels.astype(np.float32) / full_scale(pixels.dtype)
    if target.kind == "f":
        return unit.astype(target)
    return (unit.clip(0, 1) * full_scale(target)).round().astype(target)


def full_scale(dtype: np.dtype) -> float:
    """The value that stands for 1.0: 255, 65535, or 1 for floats.

    Raises:
        TypeError: Another dtype.
    """
    scales = {"u1": 255.0, "u2": 65535.0}
    if dtype.kind == "f":
        return 1.0
    if dtype.str[1:] not in scales:
        raise TypeError(f"pixels must be uint8, uint16 or float, got {dtype}")
    return scales[dtype.str[1:]]


def _open(data: bytes | IO[bytes]) -> Image.Image:
    # Pillow's own limit is lower than ours and a global: it is lifted while the header is read, by one thread a time.
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _declared(file: IO[bytes]) -> tuple[tuple[int, int], int]:
    """The stored size ``(width, height)`` and the orientation by a picture's header."""
    tags = _tiff_tags_of(file)
    if max(tags.get(_BITS, (8,))) > 8:
        return (int(tags[_WIDTH]), int(tags[_HEIGHT])), tags.get(_ORIENTATION, 1)
    with _open(file) as image:
        # Pillow gives the size of TIFFs as it is after turning them.
        size = (int(tags[_WIDTH]), int(tags[_HEIGHT])) if tags else image.size
        if image.format != "PNG":
            return size, image.getexif().get(_ORIENTATION, 1)
        with _open(_description_of_png(file)) as description:
            return size, description.getexif().get(_ORIENTATION, 1)


def _description_of_png(file: IO[bytes]) -> io.BytesIO:
    """One pixel with the text and EXIF of a PNG: they may follow its pixels, which Pillow would decode to find them."""
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, format="PNG")
    start, rest = pixel.getvalue()[:_PNG_START], pixel.getvalue()[_PNG_START:]
    file.seek(_PNG_START)
    chunks = []
    while len(head := file.read(8)) == 8:
        length, described = int.from_bytes(head[:4], "big") + 4, head[4:] in {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
        if described:
            chunks.append(head + file.read(length))
        else:
            file.seek(length, os.SEEK_CUR)
    return io.BytesIO(start + b"".join(chunks) + rest)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{name}: declares {width}x{height} pixels, over the limit of {max_pixels} in all")


def _from_pillow(image: Image.Image, data: bytes, name: str, ignore_orientation: bool) -> Picture:
    exif = image.getexif()
    declared = exif.get(_ORIENTATION, 1)
    image.load()
    # Pillow turns TIFFs upright by itself, and takes the tag off.
    upright = exif.get(_ORIENTATION, 1) != declared
    channels = _deep_channels(image, data, name) if _is_deep(image, data) else _shallow_channels(image)
    channels = _orient(channels, _turn(declared, upright, ignore_orientation))
    if declared != 1:
        exif[_ORIENTATION] = declared if ignore_orientation else 1
    icc_profile = b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b""
    return _to_picture(channels, _exif_block(exif, image.format), icc_profile)


def _from_deep_tiff(
    data: bytes, tags: Mapping[int, Any], name: str, ignore_orientation: bool, max_pixels: int
) -> Picture:
    """More than 8 bits a channel: Pillow reduces or refuses such colour pictures, so OpenCV decodes them."""
    _check_size(int(tags[_WIDTH]), int(tags[_HEIGHT]), name, max_pixels)
    depth = (max(tags.get(_SAMPLE_FORMAT, (1,))), max(tags[_BITS]))
    layout = (tags.get(_PHOTOMETRIC), tags.get(_SAMPLES, 1), tags.get(_PLANAR, 1))
    if depth not in _DEEP_TIFF_DEPTHS or layout not in _DEEP_TIFF_LAYOUTS:
        raise ImageError(
            f"{name}: a TIFF of a kind that is not supported: SampleFormat and BitsPerSample {depth}, "
            f"PhotometricInterpretation, SamplesPerPixel and PlanarConfiguration {layout}; supported beyond 8 bits are "
            "16-bit unsigned and 32- or 64-bit float, grey, RGB or RGBA, interleaved"
        )
    # OpenCV turns TIFFs upright by itself.
    turn = _turn(tags.get(_ORIENTATION, 1), True, ignore_orientation)
    return _to_picture(_orient(_opencv_channels(data, name), turn), b"", tags.get(_ICC_PROFILE, b""))


def _to_picture(channels: np.ndarray, exif: bytes, icc_profile: bytes) -> Picture:
    """Split ``(H, W, 1 to 4)`` into colour and alpha, in memory of their own."""
    colours = 1 if channels.shape[2] < 3 else 3
    alpha = channels[..., -1].copy() if channels.shape[2] > colours else None
    pixels = np.repeat(channels[..., :colours], 3 // colours, axis=2)
    return Picture(pixels, alpha, grey=colours == 1, exif=exif, icc_profile=icc_profile)


def _tiff_tags(data: bytes) -> Mapping[int, Any]:
    """The tags of a TIFF's first page; none for other files."""
    return _tiff_tags_of(io.BytesIO(data))


def _tiff_tags_of(file: IO[bytes]) -> Mapping[int, Any]:
    header = file.read(16)
    file.seek(0)
    if header[:4] not in TiffImagePlugin.PREFIXES:
        return {}
    tags = TiffImagePlugin.ImageFileDirectory_v2(header[: 16 if 43 in header[2:4] else 8])
    file.seek(tags.next)
    tags.load(file)
    file.seek(0)
    return tags


def _exif_block(exif: Image.Exif, file_format: str | None) -> bytes:
    """What to write back. A damaged block is dropped: the picture is worth more than its description."""
    if file_format == "TIFF":
        # The others describe how this file stores its pixels.
        for tag in set(exif) - _DESCRIPTIVE_TAGS:
            del exif[tag]
    try:
        return exif.tobytes() if len(exif) else b""
    except _DAMAGE:
        return b""


def _turn(declared: int, upright: bool, ignore_orientation: bool) -> int:
    """The EXIF orientation to apply to decoded pixels, which a decoder may have turned ``upright`` already."""
    if upright == (not ignore_orientation):
        return 1
    return {6: 8, 8: 6}.get(declared, declared) if upright else declared


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """More than 8 bits a channel."""
    return image.mode.startswith("I") or (image.format == "PNG" and data[24] == 16)


def _deep_channels(image: Image.Image, data: bytes, name: str) -> np.ndarray:
    if image.format != "PNG":
        # A grey PGM, which Pillow scales to 16 bits.
        return np.asarray(image).astype(np.uint16)[..., None]
    # Pillow reduces colour to 8 bits.
    channels = _opencv_channels(data, name)
    grey_with_alpha = data[25] == 4
    return channels[..., [0, 3]] if grey_with_alpha else channels


def _opencv_channels(data: bytes, name: str) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ImageError(f"{name}: the picture is truncated or damaged")
    if decoded.ndim == 2:
        return decoded[..., None]
    return decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]


def _shallow_channels(image: Image.Image) -> np.ndarray:
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA")
    mode = ("LA" if grey else "RGBA") if has_alpha else ("L" if grey else "RGB")
    array = np.asarray(image.convert(mode))
    return array[..., None] if array.ndim == 2 else array


def _orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Bring stored pixels upright; EXIF 2.32, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.flip(array, flips[orientation]) if orientation in flips else array


def _to_grey(pixels: np.ndarray) -> np.ndarray:
    grey = pixels @ _BT601
    return grey.astype(pixels.dtype) if pixels.dtype.kind == "f" else grey.round().astype(pixels.dtype)


def _encode_deep(pixels: np.ndarray, suffix: str) -> bytes:
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(pixels[..., order]), _DEEP_OPTIONS)
    if not done:
        raise ValueError("OpenCV refused them")
    return encoded.tobytes()


def _encode_8bit(pixels: np.ndarray, suffix: str, picture: Picture, quality: int) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if suffix == ".pgm":
        image = image.convert("L")
    options: dict[str, object] = {"quality": quality} if suffix in {".jpg", ".jpeg", ".webp"} else {}
    if suffix not in {".bmp", ".ppm", ".pgm"}:
        options |= {k: v for k in ("exif", "icc_profile") if (v := getattr(picture, k))}
    buffer = io.BytesIO()
    image.save(buffer, format=Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()
