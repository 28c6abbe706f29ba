"""Between the frames of a codec and RGB pixels, by the colours that a video declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import ImageError

# Numbers of ITU-T H.273, as FFmpeg has them.
_BT709, _UNSPECIFIED, _BT601 = 1, 2, 6
_LIMITED, _FULL = 1, 2
_HDR = {16: "PQ", 18: "HLG"}
# The matrices that libswscale has coefficients for.
_MATRICES = {1, 4, 5, 6, 7, 9}
# Values of the matrix that say nothing: RGB (whose pixels are no YUV), unspecified, reserved.
_NO_MATRIX = {0, 2, 3}
# libswscale's bicubic filter, whole horizontal chroma, and exact rounding.
_ACCURATELY = 0x4 | 0x2000 | 0x40000


@dataclass(frozen=True)
class Colours:
    """How the levels of a video stand for colours.

    Attributes:
        matrix, primaries, transfer: Numbers of ITU-T H.273.
        full: Whether levels span all of their range (0 to 255 for 8 bits) rather than that of studio video.
    """

    matrix: int = _BT709
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full: bool = False

    @classmethod
    def of(cls, frame: Any, name: Path) -> Colours:
        """The colours of a decoded frame.

        Where a frame declares no matrix it is that of BT.709 from 1280 pixels across or 577 down, and BT.601 below, as
        players have it.

        Raises:
            ImageError: The matrix is one that libswscale cannot compute.
        """
        matrix = frame.colorspace
        if frame.format.is_rgb or matrix in _NO_MATRIX:
            matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
        elif matrix not in _MATRICES:
            raise ImageError(f"{name}: the video's colour matrix (number {matrix} of ITU-T H.273) is not supported")
        return cls(matrix, frame.color_primaries, frame.color_trc, not frame.format.is_rgb and _is_full(frame))

    @property
    def range(self) -> int:
        """FFmpeg's number of the range."""
        return _FULL if self.full else _LIMITED

    def in_format(self, pixel_format: str) -> Colours:
        """The colours to encode with: JPEG has one matrix and the full range."""
        return replace(self, matrix=_BT601, full=True) if pixel_format.startswith("yuvj") else self

    def tag(self, described: Any) -> None:
        """Declare the colours on a frame or on an encoder."""
        described.colorspace = self.matrix
        described.color_range = self.range
        described.color_primaries = self.primaries
        described.color_trc = self.transfer


def depth_of(frame: Any) -> int:
    """Bits of a level."""
    return max(component.bits for component in frame.format.components)


def to_pixels(frame: Any, size: tuple[int, int], depth: int, name: Path) -> np.ndarray:
    """``(H, W, 3)`` RGB levels of a decoded frame: uint8, or uint16 beyond 8 bits.

    Args:
        frame: Frame of a decoder.
        size: Width and height, to which a frame of another size is scaled.
        depth: Bits of a level.
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
    """A frame to encode, from ``(H, W, 3)`` RGB levels of uint8 or uint16."""
    layout = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    frame.colorspace = colours.matrix
    frame = frame.reformat(
        format=pixel_format, src_color_range=_FULL, dst_color_range=colours.range, interpolation=_ACCURATELY
    )
    colours.tag(frame)
    return frame


def notes_on(frame: Any) -> Iterator[str]:
    """Sentences on what a frame has that its RGB pixels have not."""
    if frame.interlaced_frame:
        yield "interlaced frames were enhanced whole, and are progressive ones now"
    if frame.color_trc in _HDR:
        yield f"the source is HDR ({_HDR[frame.color_trc]}): its levels were enhanced as if they were SDR"
    if any(component.is_alpha for component in frame.format.components):
        yield "the alpha channel is left out"


def _is_full(frame: Any) -> bool:
    name = frame.format.name
    # Grey frames that declare nothing come from codecs of pictures.
    return frame.color_range == _FULL or name.startswith("yuvj") or (frame.color_range == 0 and name.startswith("gray"))
