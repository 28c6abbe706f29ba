"""One reader and one writer of picture files, for every command and dataset."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from .errors import ImageError, ImageMemoryError, ImageSizeError
from .files import NotRegularError, atomic_write, open_regular
from .luma import BT601
from .out_of_memory import is_out_of_memory
from .picture_frames import require_one_frame
from .picture_tree import SUFFIXES as SUFFIXES
from .picture_tree import is_picture as is_picture
from .picture_tree import scan_tree

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
# Four channels of 64 bits; and what a file may hold beside its pixels: profiles, previews, a phone's film.
_BYTES_A_PIXEL, _BYTES_BESIDE = 32, 1 << 28
# Float pictures that were resampled or decoded overshoot the range by rounding.
_RANGE_SLACK = 1e-3
# How many problems of a folder a message lists.
_LISTED = 3


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
        path: A regular file, or a link to one.
        ignore_orientation: Keep the stored frame (for labels made in it) where the default applies the EXIF
            orientation.
        max_pixels: A larger declared width times height is refused before decoding.

    Raises:
        FileNotFoundError: No such file.
        ImageSizeError: It declares more than ``max_pixels``, or holds more bytes than its pixels can take.
        ImageMemoryError: Memory does not suffice to decode it.
        ImageError: Neither a file nor a link to one (a folder, a FIFO, a device), empty, no picture, truncated, of a
            kind that is not supported, of several frames or pages
            (:func:`~llie_preproc.picture_frames.require_one_frame`), or of floats that are not finite or not in
            [0, 1].
    """
    with _opened(path) as (file, length):
        return _read(file, length, str(path), ignore_orientation, max_pixels)


def read_rgb8(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of a picture file, ``(H, W, 3)`` uint8 RGB, without alpha; raises what :func:`read_picture` raises.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "deep.png")
    >>> write_picture(file, Picture(np.full((1, 2, 3), 32896, np.uint16)))
    >>> read_rgb8(file)
    array([[[128, 128, 128],
            [128, 128, 128]]], dtype=uint8)
    """
    return convert_depth(read_picture(path).pixels, np.uint8)


def decode_picture(
    data: bytes, name: str = "picture", ignore_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> Picture:
    """:func:`read_picture` for bytes; ``name`` stands in messages."""
    return _read(io.BytesIO(data), len(data), name, ignore_orientation, max_pixels)


def read_bytes(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a picture file, for decoders of one's own, after the checks of :func:`read_picture` that need no
    decoding; raises what it raises."""
    with _opened(path) as (file, length), _faults_of(str(path), "the picture is truncated or damaged"):
        _check_header(file, length, str(path), max_pixels)
        return file.read(length)


def write_picture(path: str | os.PathLike[str], picture: Picture, quality: int = 95) -> None:
    """Write a picture file, atomically; the suffix of ``path`` chooses the format.

    The depth is kept where the format has it (16-bit: PNG, TIFF; float: TIFF) and reduced to 8 bits where not; JPEG
    drops the alpha channel. The orientation is never written: the pixels are upright already.

    Raises:
        ImageMemoryError: Memory does not suffice to encode it.
        ImageError: An unknown suffix, pixels that are not ``(H, W, 3)``, or floats that :func:`read_picture` refuses.
        OSError: The file cannot be written; the error names ``path``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}; one of {sorted(SUFFIXES)} can be")
    if picture.pixels.ndim != 3 or picture.pixels.shape[2] != 3:
        raise ImageError(f"{path}: pixels must be (H, W, 3), got {picture.pixels.shape}")
    pixels = _to_grey(picture.pixels)[..., None] if picture.grey else picture.pixels
    if picture.alpha is not None and suffix not in {".jpg", ".jpeg", ".ppm", ".pgm", ".bmp"}:
        pixels = np.dstack([pixels, picture.alpha])
    _check_floats(picture, str(path))
    with _faults_of(str(path), f"cannot encode {pixels.dtype} pixels of shape {pixels.shape}"):
        if suffix in _DEEP_SUFFIXES.get(pixels.dtype.kind + str(pixels.itemsize), ()):
            encoded = _encode_deep(pixels, suffix)
        else:
            encoded = _encode_8bit(convert_depth(pixels, np.uint8), suffix, picture, quality)
    with atomic_write(path) as file:
        file.write(encoded)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """``(width, height)`` of what :func:`read_picture` would give, EXIF orientation applied, without decoding.

    Raises:
        FileNotFoundError: No such file.
        ImageError: No regular file, empty, no picture, of several frames or pages, or a damaged header.
    """
    with _opened(path) as (file, length), _faults_of(str(path), "the picture's header is damaged"):
        _require_content(length, str(path))
        (width, height), tags, image = _declared(file, str(path))
        orientation = _declared_orientation(file, tags, image)
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Picture files below ``folder``, sorted by path, by :func:`is_picture`.

    A FIFO, a broken link and the like by such a name are listed too: reading them says what is wrong.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
        ImageError: A folder below it cannot be listed, or a link leads to a folder outside of it: a part of the set
            would be missing.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    tree = scan_tree(root)
    if tree.problems:
        more = len(tree.problems) - _LISTED
        raise ImageError("; ".join(tree.problems[:_LISTED]) + (f"; and {more} more" if more > 0 else ""))
    if not tree.files:
        raise FileNotFoundError(f"no pictures below {root}")
    return tree.files


def paired_files(low: str | os.PathLike[str], high: str | os.PathLike[str]) -> list[tuple[Path, Path]]:
    """Pairs of picture files that have the same path below ``low`` and ``high``, sorted.

    Raises:
        FileNotFoundError: No picture below ``low``, or one without its pair; the message names both files.
    """
    low_root, high_root = Path(low).expanduser(), Path(high).expanduser()
    pairs = [(path, high_root / path.relative_to(low_root)) for path in picture_files(low)]
    for path, target in pairs:
        if not target.is_file():
            raise FileNotFoundError(f"{path} has no pair: there is no file {target}")
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


def require_unit_range(low: float, high: float, name: str) -> None:
    """Raise :class:`~llie_preproc.errors.ImageError` unless floats from ``low`` to ``high`` are a picture's.

    Args:
        low, high: Extremes; NaN where any value is.
        name: Name of the picture, for the message.

    >>> require_unit_range(0.0, 1.0, "night.tif")
    >>> require_unit_range(0.0, 255.0, "night.tif")
    Traceback (most recent call last):
    llie_preproc.errors.ImageError: night.tif: float images must be in [0, 1], got [0, 255]; divide by 255 or pass uint8
    """
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{name}: the values are not finite (NaN or infinity)")
    if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
        raise ImageError(
            f"{name}: float images must be in [0, 1], got [{low:.4g}, {high:.4g}]; divide by 255 or pass uint8"
        )


def _check_floats(picture: Picture, name: str) -> None:
    for values in (picture.pixels, picture.alpha):
        if values is not None and values.dtype.kind == "f" and values.size:
            require_unit_range(float(values.min()), float(values.max()), name)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file and its length; others are refused without waiting, as opening a FIFO would."""
    try:
        with open_regular(path) as file:
            yield file, os.fstat(file.fileno()).st_size
    except NotRegularError as error:
        raise ImageError(str(error)) from error


def _require_content(length: int, name: str) -> None:
    if not length:
        raise ImageError(f"{name}: the file is empty")


@contextlib.contextmanager
def _faults_of(name: str, fault: str) -> Iterator[None]:
    """What decoders and encoders raise, as errors that name the picture."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ImageMemoryError(f"{name}: memory does not suffice for this picture") from error
        if isinstance(error, _DAMAGE):
            raise ImageError(f"{name}: {fault} ({error})") from error
        raise


def _read(file: IO[bytes], length: int, name: str, ignore_orientation: bool, max_pixels: int) -> Picture:
    with _faults_of(name, "the picture is truncated or damaged"):
        _check_header(file, length, name, max_pixels)
        data = file.read(length)
        tags = _tiff_tags(data)
        if _is_deep_tiff(tags):
            picture = _from_deep_tiff(data, tags, name, ignore_orientation)
        else:
            with _open(data) as image:
                picture = _from_pillow(image, data, name, ignore_orientation)
        _check_floats(picture, name)
    return picture


def _check_header(file: IO[bytes], length: int, name: str, max_pixels: int) -> None:
    """Everything that can be said before the file is read whole, which is what ``file`` is ready for afterwards."""
    _require_content(length, name)
    _check_length(length, max_pixels, name)
    (width, height), _, _ = _declared(file, name)
    if width * height > max_pixels:
        raise ImageSizeError(f"{name}: declares {width}x{height} pixels, over the limit of {max_pixels} in all")
    _check_length(length, width * height, name)
    file.seek(0)


def _check_length(length: int, pixels: int, name: str) -> None:
    if length > _BYTES_A_PIXEL * pixels + _BYTES_BESIDE:
        raise ImageSizeError(f"{name}: the file holds {length} bytes, more than {pixels} pixels can take")


def _open(data: bytes | IO[bytes]) -> ImageFile:
    # Pillow's own limit is lower than ours and a global: it is lifted while the header is read, by one thread a time.
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _declared(file: IO[bytes], name: str) -> tuple[tuple[int, int], Mapping[int, Any], ImageFile | None]:
    """By a picture's header: the stored size ``(width, height)``, the tags of a TIFF, and Pillow's view of others.

    Raises:
        ImageError: The file holds several pictures.
    """
    tags = _tiff_tags_of(file)
    try:
        image = None if _is_deep_tiff(tags) else _open(file)
    except UnidentifiedImageError as error:
        file.seek(0)
        start = file.read(8)
        raise ImageError(f"{name}: not a picture in a format that is known (its first bytes: {start!r})") from error
    # Pillow gives the size of TIFFs as it is after turning them.
    size = (int(tags[_WIDTH]), int(tags[_HEIGHT])) if tags or image is None else image.size
    require_one_frame(file, image, name)
    return size, tags, image


def _declared_orientation(file: IO[bytes], tags: Mapping[int, Any], image: ImageFile | None) -> int:
    if image is None:
        return tags.get(_ORIENTATION, 1)
    if image.format != "PNG":
        return image.getexif().get(_ORIENTATION, 1)
    with _open(_description_of_png(file)) as description:
        return description.getexif().get(_ORIENTATION, 1)


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


def _from_pillow(image: ImageFile, data: bytes, name: str, ignore_orientation: bool) -> Picture:
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


def _is_deep_tiff(tags: Mapping[int, Any]) -> bool:
    """More than 8 bits a channel: Pillow reduces or refuses such colour pictures, so OpenCV decodes them."""
    return max(tags.get(_BITS, (8,))) > 8


def _from_deep_tiff(data: bytes, tags: Mapping[int, Any], name: str, ignore_orientation: bool) -> Picture:
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
    # By Pillow, which is there in any case: tifffile would need imagecodecs besides, for LZW among others.
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


def _shallow_channels(image: ImageFile) -> np.ndarray:
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
    grey = pixels @ np.array(BT601)
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
