"""Conversion between a codec's frames and RGB pixels, by the colours that a video declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import ImageError

# FFmpeg uses these numbers of ITU-T H.273.
_BT709, _UNSPECIFIED, _BT601 = 1, 2, 6
_LIMITED, _FULL = 1, 2
_HDR = {16: "PQ", 18: "HLG"}
# libswscale has coefficients for these matrices.
_MATRICES = {1, 4, 5, 6, 7, 9}
# These values do not name a matrix: RGB (whose pixels are not YUV), unspecified and reserved.
_NO_MATRIX = {0, 2, 3}
# The flags of libswscale for the bicubic filter, full horizontal chroma and exact rounding.
_ACCURATELY = 0x4 | 0x2000 | 0x40000


@dataclass(frozen=True)
class Colours:
    """Colours that the levels of a video stand for.

    Attributes:
        matrix, primaries, transfer: Numbers of ITU-T H.273.
        full: Whether the levels span their whole range (0 to 255 for 8 bits) instead of the range of studio video.
    """

    matrix: int = _BT709
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full: bool = False

    @classmethod
    def of(cls, frame: Any, name: Path) -> Colours:
        """The colours of a decoded frame.

        For a frame that declares no matrix, players take BT.709 from a width of 1280 or a height of 577 pixels on, and
        BT.601 below; so does this function.

        Raises:
            ImageError: libswscale cannot compute with the matrix.
        """
        matrix = frame.colorspace
        if frame.format.is_rgb or matrix in _NO_MATRIX:
            matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
        elif matrix not in _MATRICES:
            raise ImageError(f"{name}: the video's colour matrix (number {matrix} of ITU-T H.273) is not supported")
        return cls(matrix, frame.color_primaries, frame.color_trc, not frame.format.is_rgb and _is_full(frame))

    @property
    def range(self) -> int:
        """Number that FFmpeg has for the range."""
        return _FULL if self.full else _LIMITED

    def in_format(self, pixel_format: str) -> Colours:
        """The colours to encode with; in a JPEG format they always have BT.601's matrix and the full range."""
        return replace(self, matrix=_BT601, full=True) if pixel_format.startswith("yuvj") else self

    def tag(self, described: Any) -> None:
        """Declare the colours on a frame or on an encoder."""
        described.colorspace = self.matrix
        described.color_range = self.range
        described.color_primaries = self.primaries
        described.color_trc = self.transfer


def depth_of(frame: Any) -> int:
    """Number of bits of a level."""
    return max(component.bits for component in frame.format.components)


def to_pixels(frame: Any, size: tuple[int, int], depth: int, name: Path) -> np.ndarray:
    """Convert a decoded frame to ``(H, W, 3)`` RGB levels: uint8, or uint16 for more than 8 bits.

    Args:
        frame: Frame of a decoder.
        size: Width and height of the result; a frame of another size is scaled to it.
        depth: Number of bits of a level.
        name: File that the frame comes from, for messages.
    """
    declared = {}
    if not frame.format.is_rgb:
        colours = Colours.of(frame, name)
        frame.colorspace = colours.matrix
        declared["src_color_range"] = colours.range
    converted = frame.reformat(
        width=size[0],
        height=size[1],
        format="rgb48le" if depth > 8 else "rgb24",
        dst_color_range=_FULL,
        interpolation=_ACCURATELY,
        **declared,
    )
    return converted.to_ndarray()


def from_pixels(pixels: np.ndarray, pixel_format: str, colours: Colours) -> Any:
    """Convert ``(H, W, 3)`` RGB levels of uint8 or uint16 to a frame for an encoder."""
    layout = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    frame.colorspace = colours.matrix
    frame = frame.reformat(
        format=pixel_format, src_color_range=_FULL, dst_color_range=colours.range, interpolation=_ACCURATELY
    )
    colours.tag(frame)
    return frame


def notes_on(frame: Any) -> Iterator[str]:
    """Yield sentences on what is lost when a frame becomes RGB pixels."""
    if frame.interlaced_frame:
        yield "interlaced frames were enhanced whole, and are progressive now"
    if frame.color_trc in _HDR:
        yield f"the source is HDR ({_HDR[frame.color_trc]}): its levels were enhanced as if they were SDR"
    if any(component.is_alpha for component in frame.format.components):
        yield "the alpha channel is left out"


def _is_full(frame: Any) -> bool:
    name = frame.format.name
    # Grey frames that declare no range come from codecs of pictures, which have the full range.
    return frame.color_range == _FULL or name.startswith("yuvj") or (frame.color_range == 0 and name.startswith("gray"))
