"""PNG files written by the specification, independent of the libraries under test."""

from __future__ import annotations

import struct
import zlib


def png_of(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG of this header, with ``rows`` as its only image data, whether they fit the header or not.

    Args:
        width: Declared width in pixels.
        height: Declared height in pixels.
        bits: Declared bits of a sample.
        colour_type: 0 for grey, 2 for RGB, 4 for grey with alpha, 6 for RGB with alpha.
        rows: Image data before compression: each row is a filter byte and its big-endian samples.
    """
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
