"""What the ways to enhance a video share."""

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
    """What became of a video.

    Attributes:
        frames: Number of frames that were enhanced.
        carried: What was carried beside them, for example "sound".
        lost: Sentences on what of the source is not in the result, or is another in it.
    """

    frames: int
    carried: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.frames} frames enhanced", *(f"{what} carried" for what in self.carried)]
        return "; ".join(parts)


@dataclass(frozen=True)
class Settings:
    """How the frames of a video are enhanced.

    Attributes:
        enhancer: Network, and how it is run.
        ignore_orientation: Keep the stored frame.
        max_pixels: Largest width times height of a frame.
        progress: Function to be called with the number of frames that were written since it was called last.
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
        """How many frames of so many pixels run together."""
        return max(1, min(self.enhancer.options.batch_size, MAX_BATCH_PIXELS // pixels))

    def check_size(self, width: int, height: int, name: Path) -> None:
        """Raise :class:`ImageError` where a frame is larger than allowed."""
        if width * height > self.max_pixels:
            raise ImageError(f"{name}: declares frames of {width}x{height} pixels, over the limit of {self.max_pixels}")


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """The items in lists of ``size``, the last one shorter."""
    while batch := list(islice(items, size)):
        yield batch


def is_cut(source: Path) -> bool:
    """Whether an MP4 or MOV file ends before its last box does, by ISO/IEC 14496-12."""
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
    """Size of the box that begins here; 0: it goes to the end of the file."""
    size = int.from_bytes(file.read(8)[:4], "big")
    return int.from_bytes(file.read(8), "big") if size == 1 else size
