"""Settings, results and helpers that both ways to enhance a video share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ..enhance_files import MAX_BATCH_PIXELS
from ..errors import ImageError
from ..inference import FrozenEnhancer

T = TypeVar("T")


@dataclass(frozen=True)
class VideoResult:
    """Account of an enhanced video.

    Attributes:
        frames: Number of frames that were enhanced.
        carried: Names of what was carried beside the frames, for example "sound".
        lost: Sentences on what the result lacks or has changed, compared with the source.

    Examples:
        >>> str(VideoResult(250, carried=("sound",)))
        '250 frames enhanced; sound carried'
    """

    frames: int
    carried: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.frames} frames enhanced", *(f"{what} carried" for what in self.carried)]
        return "; ".join(parts)


@dataclass(frozen=True)
class Settings:
    """Settings with which the frames of a video are enhanced.

    Attributes:
        enhancer: Network with the options that it runs with.
        ignore_orientation: Whether the frames stay as they are stored.
        max_pixels: Largest width times height of a frame.
        progress: Function that is called with the number of frames that were written since the last call.
    """

    enhancer: FrozenEnhancer
    ignore_orientation: bool
    max_pixels: int
    progress: Callable[[int], Any]

    def enhance(self, frames: list[np.ndarray], channel_order: str) -> list[np.ndarray]:
        """Enhance frames ``(H, W, 3)`` uint8 in the channel order in which they are decoded."""
        options = replace(self.enhancer.options, channel_order=channel_order)
        return FrozenEnhancer(self.enhancer.enhancer, options)(frames)

    def frames_together(self, pixels: int) -> int:
        """Number of frames that run together if each has so many pixels."""
        return max(1, min(self.enhancer.options.batch_size, MAX_BATCH_PIXELS // pixels))

    def check_size(self, width: int, height: int, name: Path) -> None:
        """Raise :class:`ImageError` if a frame is larger than allowed."""
        if width * height > self.max_pixels:
            raise ImageError(
                f"{name}: the video declares frames of {width}x{height} pixels, over the limit of {self.max_pixels}"
            )


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``size``; the last list may be shorter.

    Examples:
        >>> list(batches(iter("abcde"), 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    while batch := list(islice(items, size)):
        yield batch


def is_cut(source: Path) -> bool:
    """Whether an MP4 or MOV file ends before its last box does (the boxes of ISO/IEC 14496-12)."""
    end = source.stat().st_size
    with source.open("rb") as file:
        position = 0
        while 0 <= position < end:
            file.seek(position)
            size = _box_size(file)
            if size == 0:
                return False
            position += max(8, size)
    return position > end


def _box_size(file: BinaryIO) -> int:
    """Size of the box that begins here, or 0 if the box reaches to the end of the file."""
    size = int.from_bytes(file.read(8)[:4], "big")
    return int.from_bytes(file.read(8), "big") if size == 1 else size
