"""Enhancing video files.

PyAV (the extra ``video``) carries frame times, sound and subtitles: :mod:`.ffmpeg`. Where it is not installed, OpenCV
does the work (:mod:`.opencv`), refuses the videos whose frame times it would change, and says what is lost.
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
"""Suffixes that are taken for videos."""


def written_suffixes() -> Mapping[str, str]:
    """Suffixes that can be written here, and the encoder of each: more with PyAV than without.

    >>> ".mp4" in written_suffixes()
    True
    """
    return _backend().CODECS


def declared_frames(source: str | os.PathLike[str]) -> int | None:
    """Number of frames that a video's header declares to be shown; None where the container declares none.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The file is no regular file, or it cannot be opened as a video.
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

    The frame size is multiplied by ``enhancer.scale``. With PyAV every frame keeps the time at which players show it
    (edit lists and variable frame rates included), sound and subtitles are copied without decoding where the container
    of the result takes them, and so are titles, languages, chapters and the date of recording. Without PyAV only the
    frames are carried, at one frame rate. The result is encoded anew (:func:`written_suffixes`), and appears whole or
    not at all.

    Args:
        source: Video file.
        target: Result file; its suffix, a key of :func:`written_suffixes`, chooses the container.
        enhancer: Network, on the device where it shall run.
        ignore_orientation: Keep the stored frame where the default turns it upright.
        progress: Function that is called with the number of frames that were written since it was called last.
        max_pixels: Largest width times height of a frame; a larger one is refused before decoding.
        **options: Those of :class:`~llie_preproc.InferenceOptions`; frames are decoded to RGB, whatever they say.

    Returns:
        The number of frames, what was carried beside them, and what was not.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file cannot be read, or the result not written (the disk is full, for example).
        ValueError: An option that is none of its values, or that the enhancer cannot run with.
        ImageError: The file is no regular file or no video, holds no frame, is truncated or damaged, has too large
            frames, or cannot be written as a file of this suffix.
    """
    at_least("max_pixels", max_pixels, 1)
    suffix = Path(target).suffix.lower()
    if suffix not in (known := written_suffixes()):
        raise ImageError(f"{target}: cannot write a video of the suffix {suffix!r}; one of {', '.join(known)}")
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
    """Opening a pipe would wait for a writer, for ever."""
    try:
        with open_regular(source) as file:
            if not file.read(1):
                raise ImageError(f"{source}: the file is empty")
    except NotRegularError as error:
        raise ImageError(str(error)) from error
    return Path(source)
