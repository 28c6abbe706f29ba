"""The reader and the writer of picture files that every command and dataset uses."""

from __future__ import annotations

import contextlib
import glob
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
# Pillow's other decoders run programs (EPS) or are rarely tested on damaged files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow and OpenCV raise these for damaged bytes, and for pixels that a format cannot hold.
_DAMAGE = (OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, cv2.error)
_PILLOW_LIMIT = threading.Lock()
_TIFF_SUFFIXES = {".tif", ".tiff"}
_DEEP_SUFFIXES = {"u2": {".png", *_TIFF_SUFFIXES}, "f4": _TIFF_SUFFIXES, "f8": _TIFF_SUFFIXES}
# OpenCV's default for float colour is LogLuv, which loses precision.
_DEEP_OPTIONS = [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]
# Length of the signature of a PNG together with its header chunk.
_PNG_START = 33
# A pixel has at most four channels of 64 bits. Beside pixels, a file may hold profiles, previews and a phone's short
# video.
_BYTES_A_PIXEL, _BYTES_BESIDE = 32, 1 << 28
# Float pictures that were resampled or decoded overshoot the range by rounding.
_RANGE_SLACK = 1e-3
# Largest number of problems of a folder that a message lists.
_LISTED = 3


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: Pixels ``(H, W, 3)`` in RGB order, as uint8, uint16, or float nominally in [0, 1].
        alpha: Alpha channel ``(H, W)`` of the same dtype, or None.
        grey: Whether the file had one channel, which ``pixels`` repeats three times.
        exif: EXIF block to write back; empty if there was none. Its orientation is reset, unless reading ignored it.
        icc_profile: Colour profile to write back; empty if there was none.

    Examples:
        >>> Picture(np.zeros((1, 2, 3), np.uint8)).alpha is None
        True
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

    8-bit, 16-bit and float files keep their depth. Palette and CMYK pictures are converted to RGB, and pictures with
    one channel get three equal channels.

    Args:
        path: Path of a regular file or of a link to one.
        ignore_orientation: Whether pixels stay as stored, without the EXIF orientation, because labels may have been
            made in that frame.
        max_pixels: Largest declared width times height that is decoded.

    Raises:
        FileNotFoundError: The file does not exist.
        ImageSizeError: The file declares more than ``max_pixels``, or holds more bytes than its pixels need.
        ImageMemoryError: There is not enough memory to decode it.
        ImageError: The path leads to a folder, a FIFO or a device; or the file is empty, not a picture, truncated, or
            of a kind that is not supported; or it has several frames or pages
            (:func:`~llie_preproc.picture_frames.require_one_frame`), or floats that are not finite or not in [0, 1].

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "deep.png")
        >>> write_picture(file, Picture(np.full((1, 2, 3), 32896, np.uint16)))
        >>> read_picture(file).pixels.dtype
        dtype('uint16')
    """
    with _opened(path) as (file, length):
        return _read(file, length, str(path), ignore_orientation, max_pixels)


def read_rgb8(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the pixels of a picture file as ``(H, W, 3)`` uint8 RGB, without alpha.

    The exceptions are those of :func:`read_picture`.

    Examples:
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
    """Do what :func:`read_picture` does, for the bytes of a file; ``name`` is its name in messages."""
    return _read(io.BytesIO(data), len(data), name, ignore_orientation, max_pixels)


def read_bytes(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> bytes:
    """Read the bytes of a picture file for another decoder, after the checks that :func:`read_picture` makes first.

    The exceptions are those of :func:`read_picture`.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.png")
        >>> write_picture(file, Picture(np.zeros((1, 2, 3), np.uint8)))
        >>> read_bytes(file)[1:4]
        b'PNG'
    """
    with _opened(path) as (file, length), _faults_of(str(path), "the picture is truncated or damaged"):
        _check_header(file, length, str(path), max_pixels)
        return file.read(length)


def write_picture(path: str | os.PathLike[str], picture: Picture, quality: int = 95) -> None:
    """Write a picture file atomically, in the format of the suffix of ``path``.

    The depth is kept if the format supports it (16 bits in PNG and TIFF, floats in TIFF), and otherwise reduced to 8
    bits. The alpha channel is dropped in JPEG, BMP, PPM and PGM files. No orientation is applied to the pixels.

    Args:
        path: Path of the file, with one of the suffixes in :data:`SUFFIXES`.
        picture: Picture to write.
        quality: Quality of JPEG and WebP, from 1 to 100.

    Raises:
        ImageMemoryError: There is not enough memory to encode it.
        ImageError: The suffix is unknown, pixels are not ``(H, W, 3)``, or floats are not finite or not in [0, 1].
        OSError: The file cannot be written; the error names ``path``.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.png")
        >>> write_picture(file, Picture(np.zeros((1, 2, 3), np.uint8)))
        >>> picture_size(file)
        (2, 1)
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(
            f"{path}: cannot write {suffix or 'a file without suffix'}; the suffix must be one of {sorted(SUFFIXES)}"
        )
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
    """``(width, height)`` that :func:`read_picture` would return, with the EXIF orientation applied, without decoding.

    Raises:
        FileNotFoundError: The file does not exist.
        ImageError: The path does not lead to a regular file; or the file is empty, not a picture, has several frames or
            pages, or has a damaged header.
    """
    with _opened(path) as (file, length), _faults_of(str(path), "the picture's header is damaged"):
        _require_content(length, str(path))
        (width, height), tags, image = _declared(file, str(path))
        orientation = _declared_orientation(file, tags, image)
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """List the picture files (:func:`is_picture`) below ``folder``, sorted by path.

    A FIFO, a broken link and the like with the name of a picture are listed too, so that reading them reports the
    problem.

    Raises:
        FileNotFoundError: The folder does not exist, or has no picture in it.
        ImageError: A folder below it cannot be listed, or a link leads to a folder outside it, so that a part of the
            set would be missing.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "b.png").touch(), (folder / "a.jpg").touch(), (folder / "notes.txt").touch()
        (None, None, None)
        >>> [path.name for path in picture_files(folder)]
        ['a.jpg', 'b.png']
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
    """List the pairs of picture files in two folders (:func:`pair_of`), sorted by the path in ``low``.

    Raises:
        FileNotFoundError: There is no picture below ``low``, or one has no pair; the message names both files.
    """
    low_root, high_root = Path(low).expanduser(), Path(high).expanduser()
    pairs = [(path, pair_of(path, low_root, high_root)) for path in picture_files(low)]
    for path, target in pairs:
        if not target.is_file():
            raise FileNotFoundError(f"{path} has no pair: there is no file {target}")
    return pairs


def pair_of(path: Path, root: Path, other: Path) -> Path:
    """The file below ``other`` that has the relative path of ``path`` below ``root``.

    If there is no such file, but one picture that differs from it in the suffix alone, this is the pair: a set may
    store its inputs losslessly and its references as JPEG. It is no pair if another picture beside ``path`` differs
    from ``path`` in the suffix alone, because it may belong to that one. The returned file need not exist.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "2.jpg").touch()
        >>> pair_of(Path("low/2.webp"), Path("low"), folder).name, pair_of(Path("low/3.webp"), Path("low"), folder).name
        ('2.jpg', '3.webp')
    """
    pair = other / path.relative_to(root)
    if pair.is_file():
        return pair
    others = _of_any_suffix(pair)
    return others[0] if len(others) == 1 and not _of_any_suffix(path) else pair


def _of_any_suffix(path: Path) -> list[Path]:
    """The other pictures that differ from ``path`` in the suffix alone."""
    alike = [file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if is_picture(file)]
    return [file for file in alike if file.stem == path.stem and file.name != path.name]


def convert_depth(pixels: np.ndarray, dtype: type | np.dtype) -> np.ndarray:
    """Convert between uint8, uint16 and float in [0, 1], with clipping and rounding to the nearest level.

    Examples:
        >>> convert_depth(np.array([0, 128, 255], np.uint8), np.uint16).tolist()
        [0, 32896, 65535]
    """
    target = np.dtype(dtype)
    if pixels.dtype == target:
        return pixels
    unit = pixels.astype(np.float32) / full_scale(pixels.dtype)
    if target.kind == "f":
        return unit.astype(target)
    return (unit.clip(0, 1) * full_scale(target)).round().astype(target)


def full_scale(dtype: np.dtype) -> float:
    """The value that stands for 1.0: 255 for uint8, 65535 for uint16, and 1 for floats.

    Raises:
        TypeError: ``dtype`` is none of these.

    Examples:
        >>> full_scale(np.dtype(np.uint8))
        255.0
    """
    scales = {"u1": 255.0, "u2": 65535.0}
    if dtype.kind == "f":
        return 1.0
    if dtype.str[1:] not in scales:
        raise TypeError(f"pixels must be uint8, uint16 or float, got {dtype}")
    return scales[dtype.str[1:]]


def require_unit_range(low: float, high: float, name: str) -> None:
    """Raise :class:`~llie_preproc.errors.ImageError` unless a picture may have floats from ``low`` to ``high``.

    Args:
        low, high: Extremes of the values, which are NaN if any value is.
        name: Name of the picture, for the message.

    Examples:
        >>> require_unit_range(0.0, 1.0, "night.tif")
        >>> require_unit_range(0.0, 255.0, "a.tif")
        Traceback (most recent call last):
        llie_preproc.errors.ImageError: a.tif: float images must be in [0, 1], got [0, 255]; divide by 255 or pass uint8
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
    """Open a regular file, and yield it with its length; anything else is refused, because a FIFO could block."""
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
    """Turn what decoders and encoders raise into errors that name the picture."""
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
    """Check everything that can be checked before ``file`` is read, and return to its beginning."""
    _require_content(length, name)
    _check_length(length, max_pixels, name)
    (width, height), _, _ = _declared(file, name)
    if width * height > max_pixels:
        raise ImageSizeError(f"{name}: declares {width}x{height} pixels, over the limit of {max_pixels} in total")
    _check_length(length, width * height, name)
    file.seek(0)


def _check_length(length: int, pixels: int, name: str) -> None:
    if length > _BYTES_A_PIXEL * pixels + _BYTES_BESIDE:
        raise ImageSizeError(f"{name}: the file holds {length} bytes, more than {pixels} pixels need")


def _open(data: bytes | IO[bytes]) -> ImageFile:
    # Pillow's own limit is lower than ours and global, so one thread at a time lifts it to read a header.
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _declared(file: IO[bytes], name: str) -> tuple[tuple[int, int], Mapping[int, Any], ImageFile | None]:
    """Read a header: the stored ``(width, height)``, the tags of a TIFF, and Pillow's image of any other file.

    Raises:
        ImageError: The file is not a picture, or holds several.
    """
    tags = _tiff_tags_of(file)
    try:
        image = None if _is_deep_tiff(tags) else _open(file)
    except UnidentifiedImageError as error:
        file.seek(0)
        start = file.read(8)
        raise ImageError(f"{name}: not a picture in a known format (its first bytes: {start!r})") from error
    # Pillow returns the size of a TIFF after its orientation is applied.
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
    """Copy a PNG's text and EXIF to a PNG of one pixel. Pillow decodes all pixels of a PNG before it returns these."""
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
    # Pillow applies the orientation of TIFFs by itself, and removes the tag.
    upright = exif.get(_ORIENTATION, 1) != declared
    channels = _deep_channels(image, data, name) if _is_deep(image, data) else _shallow_channels(image)
    channels = _orient(channels, _turn(declared, upright, ignore_orientation))
    if declared != 1:
        exif[_ORIENTATION] = declared if ignore_orientation else 1
    icc_profile = b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b""
    return _to_picture(channels, _exif_block(exif, image.format), icc_profile)


def _is_deep_tiff(tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF has more than 8 bits in a channel. OpenCV decodes these; Pillow would reduce or refuse them."""
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
    # OpenCV applies the orientation of TIFFs by itself.
    turn = _turn(tags.get(_ORIENTATION, 1), True, ignore_orientation)
    return _to_picture(_orient(_opencv_channels(data, name), turn), b"", tags.get(_ICC_PROFILE, b""))


def _to_picture(channels: np.ndarray, exif: bytes, icc_profile: bytes) -> Picture:
    """Split ``(H, W, 1 to 4)`` into copies of colour and alpha."""
    colours = 1 if channels.shape[2] < 3 else 3
    alpha = channels[..., -1].copy() if channels.shape[2] > colours else None
    pixels = np.repeat(channels[..., :colours], 3 // colours, axis=2)
    return Picture(pixels, alpha, grey=colours == 1, exif=exif, icc_profile=icc_profile)


def _tiff_tags(data: bytes) -> Mapping[int, Any]:
    """The tags of the first page of a TIFF; none for other files."""
    return _tiff_tags_of(io.BytesIO(data))


def _tiff_tags_of(file: IO[bytes]) -> Mapping[int, Any]:
    # Pillow is installed in any case, while tifffile would also need imagecodecs, for LZW among others.
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
    """The EXIF block to write back; a damaged block is dropped, so that the picture can be written."""
    if file_format == "TIFF":
        # The other tags describe how this file stores its pixels.
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
    """Whether a picture has more than 8 bits in a channel."""
    return image.mode.startswith("I") or (image.format == "PNG" and data[24] == 16)


def _deep_channels(image: Image.Image, data: bytes, name: str) -> np.ndarray:
    if image.format != "PNG":
        # This is a grey PGM, which Pillow scales to 16 bits.
        return np.asarray(image).astype(np.uint16)[..., None]
    # OpenCV decodes these PNGs, because Pillow reduces colour to 8 bits.
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
    """Turn stored pixels upright, by tag 0x0112 of EXIF 2.32."""
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
        raise ValueError("OpenCV refused the pixels")
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
