"""The check that a file holds only one picture, because the reader would ignore all but the first."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from PIL.ImageFile import ImageFile

from .errors import ImageError

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _SUB_IFDS = 254, 255, 256, 330
# These bits of NewSubfileType mark a reduced version of another page, and a mask of one. In the old SubfileType, the
# value 2 marks a reduced version.
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
# Largest number of pages that are counted, because a hostile file may declare millions.
_MOST = 1000
# The number of samples of a pixel, by the first two bytes of the file.
_PNM_SAMPLES = {b"P4": 1, b"P5": 1, b"P6": 3}


def require_one_frame(file: IO[bytes], image: ImageFile | None, name: str) -> None:
    """Raise if a file holds several pictures.

    Parts that belong to one picture do not count: reduced versions and masks in a TIFF, and everything after the first
    picture of an MPO, the format of phones' JPEGs with a gain map or preview (and of stereo cameras).

    Args:
        file: Whole file, open at any position.
        image: Image that Pillow opened from it; None for a TIFF that Pillow does not read.
        name: Name of the file, for the message.

    Raises:
        ImageError: There are several pictures, or the first page of a TIFF is a preview or mask of another one.

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> pages = [Image.new("L", (2, 2), level) for level in (0, 9)]
        >>> pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
        >>> require_one_frame(file, Image.open(file), "stack.tif")
        Traceback (most recent call last):
        llie_preproc.errors.ImageError: stack.tif: the file holds 2 frames, but must hold one: split it first
    """
    kind = "TIFF" if image is None else image.format
    if kind == "TIFF":
        count = _pages_of_tiff(file, name)
    elif kind == "PPM" and image is not None:
        count = _pictures_of_pnm(file, image)
    else:
        count = 1 if kind == "MPO" else getattr(image, "n_frames", 1)
    if count > 1:
        number = f"{count} frames or more" if count >= _MOST else f"{count} frames"
        raise ImageError(f"{name}: the file holds {number}, but must hold one: split it first")


class _Page(NamedTuple):
    tags: dict[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether the page is a picture of its own."""
        kind = self.tags.get(_SUBFILE_TYPE, 0)
        return not kind & (_REDUCED | _MASK) and self.tags.get(_OLD_SUBFILE_TYPE) != _OLD_REDUCED


def _pages_of_tiff(file: IO[bytes], name: str) -> int:
    pages = list(_tiff_pages(file))
    whole = [page for page in pages if page.is_whole]
    if pages and not pages[0].is_whole and (whole or _SUB_IFDS in pages[0].tags):
        raise ImageError(f"{name}: the first page of this TIFF is a preview or mask of another one")
    return len(whole)


def _tiff_pages(file: IO[bytes]) -> Iterator[_Page]:
    """Yield the pages in their order. A careless writer's last page may point to something that is no page."""
    # Only the entries are read. Pillow would fetch the values of each page, together as many bytes as the file has.
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = 43 in header[2:4]
    count, entry, offset = (order + code for code in (("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")))
    seen: set[int] = set()
    (at,) = struct.unpack(offset, header[8:16] if big else header[4:8])
    while at and at not in seen and len(seen) < _MOST:
        seen.add(at)
        try:
            file.seek(at)
            (number,) = struct.unpack(count, file.read(struct.calcsize(count)))
            table = file.read(min(number, 0xFFFF) * struct.calcsize(entry))
            tags = {tag: _value(order, kind, value) for tag, kind, _, value in struct.iter_unpack(entry, table)}
            (at,) = struct.unpack(offset, file.read(struct.calcsize(offset)))
        except (struct.error, OSError, OverflowError, ValueError):
            return
        if _WIDTH in tags:
            yield _Page(tags)


def _value(order: str, kind: int, stored: bytes) -> int:
    """Read a number that is stored in its entry; kind 3 has 16 bits, and the other kinds used here have 32."""
    return struct.unpack_from(order + ("H" if kind == 3 else "I"), stored)[0]


def _pictures_of_pnm(file: IO[bytes], image: ImageFile) -> int:
    """Return 2 if another picture follows the first one, which the format allows, and 1 otherwise."""
    file.seek(0)
    magic = file.read(2)
    if magic not in _PNM_SAMPLES:
        # The numbers are written as text, whose end is not known without reading it.
        return 1
    _, _, start, arguments = image.tile[0]
    deep = arguments == "I;16B" or (isinstance(arguments, tuple) and arguments[-1] > 0xFF)
    bits = 1 if magic == b"P4" else 8 * _PNM_SAMPLES[magic] * (1 + deep)
    file.seek(start + image.height * -(-image.width * bits // 8))
    rest = file.read(64).lstrip()
    return 2 if rest[:1] == b"P" and rest[1:2].isdigit() else 1
