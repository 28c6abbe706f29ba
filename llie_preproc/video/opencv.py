"""Enhancing video files through OpenCV if PyAV is not installed: only the frames, at one frame rate."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError
from ..files import atomic_path
from .base import Settings, VideoResult, batches, is_cut

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
"""Suffixes that can be written, and the codec of each."""

WITHOUT_SOUND = 'sound, subtitles and tags are not carried without PyAV: pip install "llie-preproc[video]"'

_MP4_SUFFIXES = {".mp4", ".m4v", ".mov"}
# OpenCV hands this to FFmpeg. It allows only demuxers that read one file, because others open what a playlist names.
_CAPTURE_OPTIONS = "protocol_whitelist;file|format_whitelist;mov,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf"
_CAPTURE_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# A frame may be off its place by this many milliseconds, because some containers round times, or by this share of a
# frame's duration.
_ROUNDING, _UNEVEN = 1.5, 0.1


def declared_frames(source: Path) -> int | None:
    """Number of frames that a video's header declares; None if the container declares no number."""
    with _capture(source) as capture:
        return _declared(capture, source)


def enhance_video(source: Path, target: Path, settings: Settings) -> VideoResult:
    """Do what :func:`llie_preproc.video.enhance_video` says, with OpenCV.

    Raises:
        ImageError: The frames do not follow each other evenly, or the result's width or height is odd; OpenCV cannot
            write such videos. Other reasons are those of :func:`llie_preproc.video.enhance_video`.
    """
    suffix = target.suffix.lower()
    lost = [WITHOUT_SOUND, *_check(source, settings)]
    count = 0
    with _capture(source) as capture, atomic_path(target, f".tmp{suffix}") as temporary:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(not settings.ignore_orientation))
        frames = _frames(capture)
        first = next(frames)
        size = (settings.enhancer.scale * first.shape[1], settings.enhancer.scale * first.shape[0])
        together = settings.frames_together(first.shape[0] * first.shape[1])
        with _writer(temporary, CODECS[suffix], _rate(capture, source), size, str(target)) as writer:
            for batch in batches(chain([first], frames), together):
                for frame in settings.enhance(batch, "bgr"):
                    writer.write(frame)
                count += len(batch)
                settings.progress(len(batch))
        _check_written(temporary, count, str(target))
    return VideoResult(count, lost=tuple(lost))


def _check(source: Path, settings: Settings) -> list[str]:
    """Decode a video once before it is enhanced, and return sentences on what OpenCV leaves out.

    Raises:
        ImageError: The frames are too large, missing, or not evenly spaced.
    """
    with _capture(source) as capture:
        size = [int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        settings.check_size(size[0], size[1], source)
        times = []
        while capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        declared = _declared(capture, source)
    if not times:
        raise ImageError(f"{source}: the video holds no frame that can be decoded")
    if not _are_even(times):
        raise ImageError(
            f"{source}: the frames do not follow each other evenly, and OpenCV would write them as if they did. "
            'PyAV keeps their times: pip install "llie-preproc[video]"'
        )
    if declared is None or len(times) >= declared:
        return []
    if source.suffix.lower() not in _MP4_SUFFIXES or is_cut(source):
        raise ImageError(
            f"{source}: the video ends after {len(times)} of {declared} frames: it is truncated or damaged"
        )
    return [f"{declared - len(times)} of {declared} frames are hidden by an edit list, and are left out"]


def _are_even(times: Sequence[float]) -> bool:
    steps = np.diff(times)
    if not len(steps):
        return True
    usual = float(np.median(steps))
    off = np.asarray(times) - np.linspace(times[0], times[-1], len(times))
    return bool(max(np.abs(off).max(), np.abs(steps - usual).max()) <= max(_ROUNDING, _UNEVEN * usual))


@contextlib.contextmanager
def _capture(source: Path) -> Iterator[cv2.VideoCapture]:
    with _set(_CAPTURE_VARIABLE, _CAPTURE_OPTIONS):
        capture = cv2.VideoCapture(os.fspath(source), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise ImageError(f"{source}: OpenCV cannot open this video: it is damaged, empty, or of an unknown codec")
        yield capture
    finally:
        capture.release()


@contextlib.contextmanager
def _set(variable: str, value: str) -> Iterator[None]:
    """Give an environment variable a value, and restore it at the end."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


@contextlib.contextmanager
def _writer(path: Path, codec: str, rate: float, size: tuple[int, int], name: str) -> Iterator[cv2.VideoWriter]:
    if size[0] % 2 or size[1] % 2:
        # OpenCV would cut off a row or column.
        raise ImageError(
            f"{name}: OpenCV writes only videos of even width and height, and this one has {size[0]}x{size[1]}. "
            'PyAV writes it: pip install "llie-preproc[video]"'
        )
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    try:
        if not writer.isOpened():
            raise ImageError(f"{name}: OpenCV cannot write {size[0]}x{size[1]} at {rate:g} frames a second as {codec}")
        yield writer
    finally:
        writer.release()


def _declared(capture: cv2.VideoCapture, source: Path) -> int | None:
    # For other containers, OpenCV guesses the number from the duration.
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 and source.suffix.lower() in CODECS else None


def _rate(capture: cv2.VideoCapture, source: Path) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    if not (math.isfinite(rate) and rate > 0):
        raise ImageError(f"{source}: the video declares no frame rate")
    return rate


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        found, frame = capture.read()
        if not found:
            return
        yield frame


def _check_written(path: Path, count: int, name: str) -> None:
    """Count the written frames, because ``VideoWriter.write`` reports no failure, not even a full disk."""
    written = 0
    with contextlib.suppress(ImageError), _capture(path) as capture:
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if written != count:
        raise ImageError(f"{name}: OpenCV wrote {written} of {count} frames: is there space on the disk?")
