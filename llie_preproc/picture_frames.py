"""How many pictures a file holds: an animation or a stack would come out as its first one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from PIL.ImageFile import ImageFile

from .errors import ImageError

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _SUB_IFDS = 254, 255, 256, 330
# Bits of NewSubfileType: a reduced version of another page, and a mask of one. SubfileType 2 is the former's old name.
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
# Pages are counted as far as this; a hostile file may declare millions.
_MOST = 1000
# Samples of a pixel by the first two bytes.
_PNM_SAMPLES = {b"P4": 1, b"P5": 1, b"P6": 3}


def require_one_frame(file: IO[bytes], image: ImageFile | None, name: str) -> None:
    """Raise where a file holds several pictures.

    What belongs to one picture is none of its own: a TIFF's reduced versions and masks, and what follows the first
    picture of an MPO, the format of a phone's JPEG with a gain map or preview (of a stereo camera's too).

    Args:
        file: Whole file, open at any place.
        image: What Pillow makes of it; None for a TIFF that Pillow does not read.
        name: Name for the message.

    Raises:
        ImageError: There are several pictures; or the first page of a TIFF is a preview of another one.
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
        raise ImageError(f"{name}: the file holds {number}, and only files of one are taken: split it first")


class _Page(NamedTuple):
    tags: dict[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether it is a picture of its own."""
        kind = self.tags.get(_SUBFILE_TYPE, 0)
        return not kind & (_REDUCED | _MASK) and self.tags.get(_OLD_SUBFILE_TYPE) != _OLD_REDUCED


def _pages_of_tiff(file: IO[bytes], name: str) -> int:
    pages = list(_tiff_pages(file))
    whole = [page for page in pages if page.is_whole]
    if pages and not pages[0].is_whole and (whole or _SUB_IFDS in pages[0].tags):
        raise ImageError(f"{name}: the first page of this TIFF is a preview or mask of another one")
    return len(whole)


def _tiff_pages(file: IO[bytes]) -> Iterator[_Page]:
    """The pages in their order. What the last one points to, in files of careless writers, may be no page."""
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
    """A number that stands in its entry: kind 3 has 16 bits, the others used here have 32."""
    return struct.unpack_from(order + ("H" if kind == 3 else "I"), stored)[0]


def _pictures_of_pnm(file: IO[bytes], image: ImageFile) -> int:
    """1, or 2 where another picture follows: the format may hold several, one after another."""
    file.seek(0)
    magic = file.read(2)
    if magic not in _PNM_SAMPLES:
        # Numbers as text, whose end is not known without reading them.
        return 1
    _, _, start, arguments = image.tile[0]
    deep = arguments == "I;16B" or (isinstance(arguments, tuple) and arguments[-1] > 0xFF)
    bits = 1 if magic == b"P4" else 8 * _PNM_SAMPLES[magic] * (1 + deep)
    file.seek(start + image.height * -(-image.width * bits // 8))
    rest = file.read(64).lstrip()
    return 2 if rest[:1] == b"P" and rest[1:2].isdigit() else 1
