"""One reader and one writer of picture files, for every command and dataset."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .checkpoints import atomic_write
from .errors import ImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 1 << 28
"""Default limit of a picture's declared width times height: 268 million pixels."""

_EXIF_ORIENTATION = 0x0112
_DEEP_SUFFIXES = {".png", ".tif", ".tiff"}
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
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{name}: declares {image.width}x{image.height} pixels, over the limit of {max_pixels} in all"
                )
            image.load()
            return _from_pillow(image, data, name, ignore_orientation)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a format that is known (its first bytes: {data[:8]!r})") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ImageError(f"{name}: the picture is truncated or damaged ({error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


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
    deep = pixels.dtype == np.uint16 and suffix in _DEEP_SUFFIXES or pixels.dtype.kind == "f" and "tif" in suffix
    encoded = _encode_deep(pixels, suffix) if deep else _encode_8bit(convert_depth(pixels, np.uint8), suffix, picture, quality)
    with atomic_write(path) as file:
        file.write(encoded)


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


def _from_pillow(image: Image.Image, data: bytes, name: str, ignore_orientation: bool) -> Picture:
    exif = image.getexif()
    orientation = 1 if ignore_orientation else int(exif.get(_EXIF_ORIENTATION, 1))
    channels = _deep_channels(data, name) if _is_deep(image, data) else _shallow_channels(image)
    channels = _orient(channels, orientation)
    alpha = channels[..., -1].copy() if channels.shape[2] in (2, 4) else None
    colour = channels[..., : channels.shape[2] - (alpha is not None)]
    grey = colour.shape[2] == 1
    if _EXIF_ORIENTATION in exif and not ignore_orientation:
        exif[_EXIF_ORIENTATION] = 1
    return Picture(
        pixels=np.ascontiguousarray(np.repeat(colour, 3, axis=2) if grey else colour),
        alpha=alpha,
        grey=grey,
        exif=exif.tobytes() if len(exif) else b"",
        icc_profile=b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b"",
    )


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """More than 8 bits a channel: Pillow would reduce such colour pictures, so OpenCV decodes them."""
    if image.format == "PNG":
        return data[24] == 16
    return image.mode in ("F", "I") or image.mode.startswith("I;16") or image.format == "TIFF" and _tiff_bits(image) > 8


def _tiff_bits(image: Image.Image) -> int:
    bits = getattr(image, "tag_v2", {}).get(258, 8)
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _deep_channels(data: bytes, name: str) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise ImageError(f"{name}: a deep picture of a kind that is not supported (16-bit and float32 are)")
    if decoded.ndim == 2:
        return decoded[..., None]
    return decoded[..., {1: [0], 2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[decoded.shape[2]]]


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
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(pixels[..., order]))
    if not done:
        raise ImageError(f"cannot encode {pixels.dtype} pixels of shape {pixels.shape} as {suffix}")
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
