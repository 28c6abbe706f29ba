"""Enhancing video files.

With PyAV (the extra ``video``), frame times, sound and subtitles are carried over (:mod:`.ffmpeg`). Without it, OpenCV
does the work (:mod:`.opencv`): it refuses videos whose frame times it would change, and says what is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..checks import at_least
from ..enhancers.base import Enhancer
from ..errors import ImageError
from ..files import NotRegularError, open_regular
from ..inference import FrozenEnhancer
from ..inference_options import InferenceOptions, OptionKeywords, shows_options
from ..pictures import MAX_PIXELS
from .base import Settings, VideoResult

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SUFFIXES", "VideoResult", "declared_frames", "enhance_video", "written_suffixes"]

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
"""Suffixes of the files that are treated as videos."""


def written_suffixes() -> Mapping[str, str]:
    """Suffixes that can be written here, with the encoder of each; there are more with PyAV than without.

    Examples:
        >>> ".mp4" in written_suffixes()
        True
    """
    return _backend().CODECS


def declared_frames(source: str | os.PathLike[str]) -> int | None:
    """Number of frames that a video's header declares to be shown; None if the container declares no number.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The file is not a regular file, or cannot be opened as a video.

    Examples:
        >>> import cv2, numpy as np, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "night.avi"
        >>> writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 32))
        >>> for _ in range(3):
        ...     writer.write(np.full((32, 32, 3), 20, np.uint8))
        >>> writer.release()
        >>> declared_frames(path)
        3
    """
    return _backend().declared_frames(_regular(source))


@shows_options()
def enhance_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    enhancer: Enhancer,
    *,
    ignore_orientation: bool = False,
    progress: Callable[[int], object] = lambda frames: None,
    max_pixels: int = MAX_PIXELS,
    **options: Unpack[OptionKeywords],
) -> VideoResult:
    """Enhance a video, frame by frame.

    The frame size is multiplied by ``enhancer.scale``. With PyAV, every frame keeps the time at which players show it
    (edit lists and variable frame rates included). Sound and subtitles are copied without decoding if the container of
    the result can hold them, and so are titles, languages, chapters and the date of recording. Without PyAV, only the
    frames are carried, at one frame rate. The result is encoded anew (:func:`written_suffixes`), and appears whole or
    not at all.

    Args:
        source: Video file.
        target: Result file, whose suffix (a key of :func:`written_suffixes`) chooses the container.
        enhancer: Network, on the device that it is to run on.
        ignore_orientation: Whether the frames stay as they are stored; by default they are turned upright.
        progress: Function that is called with the number of frames that were written since the last call.
        max_pixels: Largest width times height of a frame; a larger one is refused before it is decoded.
        **options: Fields of :class:`~llie_preproc.InferenceOptions`; ``channel_order`` has no effect on videos.

    Returns:
        The number of frames, what was carried beside them, and what was lost.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file cannot be read or the result cannot be written, for example because the disk is full.
        ValueError: An option has an unknown value, or one that the enhancer cannot run with.
        ImageError: The file is not a regular file or not a video, holds no frame, is truncated or damaged, has frames
            that are too large, or cannot be written as a file of this suffix.

    Examples:
        >>> import cv2, numpy as np, tempfile
        >>> from llie_preproc import build_enhancer
        >>> folder = Path(tempfile.mkdtemp())
        >>> night = cv2.VideoWriter(str(folder / "night.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 32))
        >>> for _ in range(3):
        ...     night.write(np.full((32, 32, 3), 20, np.uint8))
        >>> night.release()
        >>> enhance_video(folder / "night.avi", folder / "day.avi", build_enhancer("gamma_correction")).frames
        3
    """
    at_least("max_pixels", max_pixels, 1)
    suffix = Path(target).suffix.lower()
    if suffix not in (known := written_suffixes()):
        raise ImageError(f"{target}: the suffix of a video to write must be one of {', '.join(known)}, got {suffix!r}")
    settings = Settings(
        enhancer=FrozenEnhancer(enhancer, InferenceOptions.of(options)),
        ignore_orientation=ignore_orientation,
        max_pixels=max_pixels,
        progress=progress,
    )
    return _backend().enhance_video(_regular(source), Path(target), settings)


def _backend() -> ModuleType:
    if find_spec("av") is None:
        from . import opencv

        return opencv
    from . import ffmpeg

    return ffmpeg


def _regular(source: str | os.PathLike[str]) -> Path:
    """Return the path of a regular file that is not empty; opening a pipe instead could wait for ever."""
    try:
        with open_regular(source) as file:
            if not file.read(1):
                raise ImageError(f"{source}: the file is empty")
    except NotRegularError as error:
        raise ImageError(str(error)) from error
    return Path(source)
