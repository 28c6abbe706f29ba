"""Enhancing video files through OpenCV. Sound and subtitles are not carried: OpenCV handles pictures only."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .batch import MAX_BATCH_PIXELS
from .checkpoints import atomic_path
from .enhancers.base import Enhancer
from .errors import ImageError
from .inference import check_inference_options, enhance

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
"""Suffixes that can be written, and the codec of each."""

SUFFIXES = frozenset({*CODECS, ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
"""Suffixes that are taken for videos."""


def declared_frames(source: str | os.PathLike[str]) -> int | None:
    """The number of frames that a video's header declares; None where the container declares none.

    Raises:
        ImageError: OpenCV cannot open the file.
    """
    with _capture(source) as capture:
        return _declared(capture, source)


def enhance_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    enhancer: Enhancer,
    *,
    batch_size: int = 8,
    precision: str = "float32",
    tile: int | None = None,
    map_side: int | None = None,
    ignore_orientation: bool = False,
    progress: Callable[[int], object] = lambda frames: None,
) -> int:
    """Enhance a video, frame by frame.

    Frame rate and frame size (times ``enhancer.scale``) are kept; **sound is not carried**. The result is encoded
    anew (:data:`CODECS`), and appears whole or not at all.

    Args:
        source: The video.
        target: The result; its suffix, a key of :data:`CODECS`, chooses the container.
        enhancer: The network, on the device where it shall run.
        batch_size, precision, tile, map_side: As for :func:`llie_preproc.enhance`.
        ignore_orientation: Keep the stored frame where the default turns it upright.
        progress: Called with the number of frames that were written since it was called last.

    Returns:
        The number of frames.

    Raises:
        ImageError: OpenCV cannot open or write the file, there is no frame, the frames end before their declared
            number, the result's width or height is odd, or its suffix has no codec.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in CODECS:
        raise ImageError(f"{target}: cannot write a video of the suffix {suffix!r}; one of {', '.join(CODECS)}")
    options: dict[str, Any] = dict(precision=precision, tile=tile, map_side=map_side)
    check_inference_options(enhancer, batch_size=batch_size, **options)
    run: Callable[..., list[np.ndarray]] = partial(enhance, enhancer=enhancer, channel_order="bgr", **options)
    count = 0
    with _capture(source) as capture, atomic_path(target, f".tmp{suffix}") as temporary:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(not ignore_orientation))
        frames = _frames(capture)
        first = next(frames, None)
        if first is None:
            raise ImageError(f"{source}: the video holds no frame that can be decoded")
        size = (enhancer.scale * first.shape[1], enhancer.scale * first.shape[0])
        together = max(1, min(batch_size, MAX_BATCH_PIXELS // (first.shape[0] * first.shape[1])))
        with _writer(temporary, CODECS[suffix], _rate(capture, source), size, str(target)) as writer:
            for batch in _batches(chain([first], frames), together):
                for frame in run(batch):
                    writer.write(frame)
                count += len(batch)
                progress(len(batch))
        declared = _declared(capture, source)
        if declared is not None and count < declared:
            raise ImageError(f"{source}: the video ends after {count} of {declared} frames: it is truncated or damaged")
        _check_written(temporary, count, str(target))
    return count


@contextlib.contextmanager
def _capture(source: str | os.PathLike[str]) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(os.fspath(source))
    try:
        if not capture.isOpened():
            raise ImageError(f"{source}: OpenCV cannot open this video: it is damaged, empty, or of an unknown codec")
        yield capture
    finally:
        capture.release()


@contextlib.contextmanager
def _writer(path: Path, codec: str, rate: float, size: tuple[int, int], name: str) -> Iterator[cv2.VideoWriter]:
    if size[0] % 2 or size[1] % 2:
        # OpenCV would cut a row or column off.
        raise ImageError(f"{name}: OpenCV writes videos of even width and height, and this one has {size[0]}x{size[1]}")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    try:
        if not writer.isOpened():
            raise ImageError(f"{name}: OpenCV cannot write {size[0]}x{size[1]} at {rate:g} frames a second as {codec}")
        yield writer
    finally:
        writer.release()


def _declared(capture: cv2.VideoCapture, source: str | os.PathLike[str]) -> int | None:
    # For other containers OpenCV returns a guess from the duration.
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 and Path(source).suffix.lower() in CODECS else None


def _rate(capture: cv2.VideoCapture, source: str | os.PathLike[str]) -> float:
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


def _batches(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    while batch := list(islice(frames, size)):
        yield batch


def _check_written(path: Path, count: int, name: str) -> None:
    """``VideoWriter.write`` reports nothing, a full disk included."""
    with _capture(path) as capture:
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if written != count:
        raise ImageError(f"{name}: OpenCV wrote {written} of {count} frames: is there space on the disk?")
