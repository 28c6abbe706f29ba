"""Enhancing video files through PyAV: frames keep their times, and sound and subtitles are copied without decoding."""

from __future__ import annotations

import contextlib
import io
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import ImageError
from ..files import atomic_path
from ..pictures import MAX_PIXELS
from .base import Settings, VideoResult, batches, is_cut
from .colours import Colours, depth_of, from_pixels, notes_on, to_pixels
from .orientation import display_matrix, is_transposed, upright


@dataclass(frozen=True)
class _Encoder:
    """An encoder, with options for a result that looks like its source, and pixel formats for even and odd sizes."""

    name: str
    options: dict[str, str]
    even: str
    odd: str
    depth: int = 8


_H264 = _Encoder("libx264", {"crf": "18", "preset": "medium"}, "yuv420p", "yuv444p")
_H265 = _Encoder(
    "libx265", {"crf": "18", "preset": "medium", "x265-params": "log-level=none"}, "yuv420p10le", "yuv444p10le", 10
)
_VP9 = _Encoder(
    "libvpx-vp9", {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}, "yuv420p", "yuv420p"
)
_MJPEG = _Encoder("mjpeg", {"qmin": "2", "qmax": "2"}, "yuvj420p", "yuvj420p")

# For each suffix: FFmpeg's name of the container, the encoder of 8-bit sources, and the encoder of deeper ones.
_CONTAINERS = {
    ".mp4": ("mp4", _H264, _H265),
    ".m4v": ("mp4", _H264, _H265),
    ".mov": ("mov", _H264, _H265),
    ".mkv": ("matroska", _H264, _H265),
    ".webm": ("webm", _VP9, _VP9),
    ".avi": ("avi", _MJPEG, _MJPEG),
}

CODECS = {suffix: encoder.name for suffix, (_, encoder, _) in _CONTAINERS.items()}
"""Suffixes that can be written, and the encoder of each."""

# Each of these reads one file. Others (playlists, concatenations) would open the files or addresses named in it.
_DEMUXERS = ("mov", "avi", "matroska", "webm", "mpeg", "mpegts", "mpegvideo", "asf")
_CARRIED = {"audio": "sound", "subtitle": "subtitles"}
_STREAM_TAGS = ("language", "title", "handler_name")
# These tags describe the file of the source, or would make a track of their own.
_FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "timecode", "duration"}
_FINEST_TICK = 1_000_000
_USUAL_RATE = Fraction(25)
# The end that a container declares may differ from that of its last frame by this many frames, even in a whole file.
_END_FRAMES = 3


def declared_frames(source: Path) -> int | None:
    """Number of frames that the container's index or header declares to be shown; None if it has neither."""
    with _source(source, MAX_PIXELS) as container:
        video = _video(container, source)
        if "mov" in container.format.name and len(video.index_entries):
            return sum(not entry.is_discard for entry in video.index_entries)
        return video.frames or None


def enhance_video(source: Path, target: Path, settings: Settings) -> VideoResult:
    """Do what :func:`llie_preproc.video.enhance_video` says, with PyAV."""
    timeline = _timeline(source, settings)
    muxer, shallow, deep = _CONTAINERS[target.suffix.lower()]
    _require(shallow, target)
    clock = _EvenClock(timeline, source, target) if muxer == "avi" else _Clock(timeline)
    with (
        atomic_path(target, f".tmp{target.suffix.lower()}") as temporary,
        _blamed(target, temporary),
        _source(source, settings.max_pixels) as container,
        temporary.open("w+b") as file,
        av.open(file, "w", format=muxer, metadata_errors="replace") as output,
    ):
        reader = _Reader(container, source, timeline, settings)
        copies = _Copies(container, reader.video, output, timeline.origin)
        writer = None
        count = 0
        for batch in batches(reader.frames(copies), settings.frames_together(timeline.pixels)):
            images = settings.enhance([frame.pixels for frame in batch], "rgb")
            if writer is None:
                encoder = deep if reader.depth > 8 else shallow
                _require(encoder, target)
                writer = _Writer(output, encoder, reader, clock, images[0].shape)
                copies.start()
            for frame, image in zip(batch, images, strict=True):
                writer.write(image, frame.time, frame.duration)
            count += len(batch)
            settings.progress(len(batch))
        if writer is None:
            raise ImageError(f"{source}: the video holds no frame that can be decoded")
        reader.check_end()
        writer.finish()
    return VideoResult(count, tuple(copies.carried), (*reader.lost, *writer.lost, *copies.lost))


def _require(encoder: _Encoder, target: Path) -> None:
    try:
        av.codec.Codec(encoder.name, "w")
    except ValueError as error:
        raise ImageError(
            f"{target}: this build of PyAV lacks the encoder {encoder.name}, which such files need"
        ) from error


# Reading


@contextlib.contextmanager
def _source(path: Path, max_pixels: int) -> Iterator[Any]:
    """Open the file so that nothing in it makes FFmpeg open another file, or decode frames that are too large."""
    demuxers = ",".join(_DEMUXERS)
    options = {"protocol_whitelist": "none", "format_whitelist": demuxers, "max_pixels": str(max_pixels)}
    with path.open("rb") as file:
        try:
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except av.FFmpegError as error:
            raise ImageError(
                f"{path}: PyAV cannot open this video: it is damaged, empty, or not one of {', '.join(_DEMUXERS)} "
                f"({error.strerror})"
            ) from error
        with container:
            yield container


def _video(container: Any, source: Path) -> Any:
    """The video stream that players show."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise ImageError(f"{source}: the file holds no video stream")
    best = container.streams.best("video")
    video = best if best in streams else streams[0]
    if video.codec_context is None or not video.time_base:
        raise ImageError(f"{source}: the video's codec is unknown to PyAV")
    return video


@dataclass(frozen=True)
class _Timeline:
    """Times at which the frames of a video are shown, as the container declares them.

    Attributes:
        times: Presentation times of the frames that are shown, sorted, in ticks.
        tick: Duration of a tick, in seconds.
        rates: Possible frame rates, declared by the container or measured from the times; the first is a good guess.
        interval: Usual number of ticks from one frame to the next.
        longest: Largest number of ticks from one frame to the next.
        origin: Time, in seconds, at which the clock of the result begins.
        pixels: Width times height of a frame.
    """

    times: array
    tick: Fraction
    rates: tuple[Fraction, ...]
    interval: int
    longest: int
    origin: Fraction
    pixels: int


def _timeline(source: Path, settings: Settings) -> _Timeline:
    """Read the times of a video without decoding it, so that a truncated video is refused before any work is done."""
    with _damage(source), _source(source, settings.max_pixels) as container:
        video = _video(container, source)
        size = video.codec_context.width, video.codec_context.height
        settings.check_size(*size, source)
        times, ends = _packet_times(container, video, source)
        tick = video.time_base
        rates = _rates(video, times)
        interval = max(1, round(1 / rates[0] / tick))
        longest = max(interval, max(_steps(times), default=0))
        _check_whole(container, video, source, times, ends, longest * tick)
        origin = _origin(container, times[0] * tick if times else Fraction(0))
        return _Timeline(times, tick, rates, interval, longest, origin, max(1, size[0] * size[1]))


def _origin(container: Any, first: Fraction) -> Fraction:
    """Time on the container's clock, in seconds, at which the clock of the result begins.

    The clock of an MP4 begins where its film does. The clocks of other containers may begin anywhere, and players set
    them to 0. If the first frame has a negative time, the result begins at that time.
    """
    start = 0 if "mov" in container.format.name else max(0, container.start_time or 0)
    return min(first, Fraction(start, av.time_base)) if first < 0 else Fraction(start, av.time_base)


@dataclass
class _Ends:
    """End of a file: the number of video packets, and the times in seconds at which the video and any stream end."""

    packets: int = 0
    video: Fraction = Fraction(0)
    all: Fraction = Fraction(0)


def _packet_times(container: Any, video: Any, source: Path) -> tuple[array, _Ends]:
    times, ends = array("q"), _Ends()
    for packet in container.demux():
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            end = (time + (packet.duration or 0)) * packet.time_base
            ends.all = max(ends.all, end)
            if packet.stream is video:
                ends.video = max(ends.video, end)
        if packet.stream is not video or not packet.size:
            continue
        if packet.is_corrupt:
            _refuse_short(source, f"or breaks after {ends.packets} of {video.frames or 'its'} frames")
        ends.packets += 1
        if time is not None and not packet.is_discard:
            times.append(time)
    return array("q", sorted(times)), ends


def _steps(times: Sequence[int]) -> Iterator[int]:
    return (later - earlier for earlier, later in pairwise(times))


def _check_whole(container: Any, video: Any, source: Path, times: array, ends: _Ends, longest: Fraction) -> None:
    """Raise :class:`ImageError` if the container declares more than it holds.

    Frames that an edit list hides do not count on either side, because FFmpeg takes them out of the index.
    """
    kind = container.format.name
    if "mov" in kind:
        # Empty samples stand for frames that a recorder left out.
        declared = sum(entry.size > 0 for entry in video.index_entries)
        if ends.packets < declared:
            _refuse_short(source, f"after {ends.packets} of {declared} frames")
        # Fragments have no index.
        if not video.frames and is_cut(source):
            _refuse_short(source, f"within the fragment after {ends.packets} frames")
    elif kind == "avi" and video.duration:
        if video.duration * video.time_base > ends.video + _END_FRAMES * longest:
            _refuse_short(source, f"after {len(times)} of {video.duration} frames")
    elif kind in {"matroska,webm", "asf"} and container.duration:
        declared = Fraction(container.duration, av.time_base)
        if declared > ends.all + _END_FRAMES * longest:
            _refuse_short(source, f"after {float(ends.all):.2f} of {float(declared):.2f} seconds")


def _refuse_short(source: Path, where: str) -> None:
    raise ImageError(f"{source}: the video ends {where}: it is truncated or damaged")


def _rates(video: Any, times: array) -> tuple[Fraction, ...]:
    """Frame rates that a video may have: the declared ones, the measured one, and the usual ones close to it."""
    found = [video.average_rate, video.guessed_rate]
    if len(times) > 1 and times[-1] > times[0]:
        measured = (len(times) - 1) / ((times[-1] - times[0]) * video.time_base)
        whole = Fraction(round(measured))
        shortest = Fraction(round(1 / (max(1, min(_steps(times))) * video.time_base)))
        found += [measured, whole, whole * 1000 / 1001, shortest, shortest * 1000 / 1001]
    found.append(_USUAL_RATE)
    return tuple(rate.limit_denominator(100_000) for rate in found if rate and Fraction(1, 1000) < rate <= 1000)


@dataclass
class _Frame:
    """A decoded frame: ``(H, W, 3)`` RGB levels, and its time and duration in ticks (a duration of 0 is unknown)."""

    pixels: np.ndarray
    time: int
    duration: int


class _Reader:
    """Reader of the frames of a video, upright, in RGB, at their times.

    Attributes:
        video: Video stream of the source.
        lost: Sentences on what the frames lose.
        colours, depth, aspect, matrix: Coding of the first frame: its colours, its bits, the width of a pixel divided
            by its height, and the display matrix if it was not applied.
    """

    def __init__(self, container: Any, source: Path, timeline: _Timeline, settings: Settings) -> None:
        self.video = _video(container, source)
        self.video.thread_type = "AUTO"
        self.video.codec_context.options = {"max_pixels": str(settings.max_pixels)}
        self.lost: dict[str, None] = {}
        self.colours = Colours()
        self.depth = 8
        self.aspect: Fraction | None = None
        self.matrix: tuple[int, ...] | None = None
        self._container = container
        self._source = source
        self._timeline = timeline
        self._settings = settings
        self._size = (0, 0)
        self._last: int | None = None

    def frames(self, copies: _Copies) -> Iterator[_Frame]:
        """Decode the frames; meanwhile the packets of the streams that are copied go to ``copies``."""
        for packet in self._packets([self.video, *copies.sources]):
            if packet.stream is self.video:
                yield from map(self._frame, self._decoded(packet))
            elif packet.size:
                copies.take(packet)

    def check_end(self) -> None:
        """Raise :class:`ImageError` if the last frames of the container were not decoded."""
        times, last = self._timeline.times, self._last
        if times and last is not None and last < times[-1] - _END_FRAMES * self._timeline.longest:
            seconds = [float(time * self._timeline.tick) for time in (last, times[-1])]
            _refuse_short(self._source, "at {:.2f} of {:.2f} seconds".format(*seconds))

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        packets = self._container.demux(*streams)
        while True:
            with _damage(self._source):
                packet = next(packets, None)
            if packet is None:
                return
            yield packet

    def _decoded(self, packet: Any) -> list[Any]:
        begun = self._last is not None
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if begun:
                raise ImageError(f"{self._source}: the video is damaged after {self._seconds()} ({error})") from error
            # A recording may begin between two key frames; players skip the frames that cannot be decoded yet.
            return []
        if begun and any(frame.is_corrupt for frame in frames):
            raise ImageError(f"{self._source}: the video is damaged after {self._seconds()}")
        return frames

    def _seconds(self) -> str:
        return f"{float((self._last or 0) * self._timeline.tick):.2f} seconds"

    def _frame(self, frame: Any) -> _Frame:
        if self._last is None:
            self._look_at(frame)
        for note in notes_on(frame):
            self.lost[note] = None
        if (frame.width, frame.height) != self._size:
            self.lost["frames of other sizes were scaled to the size of the first"] = None
        duration = frame.duration or 0
        self._last = time = self._time(frame.pts, duration)
        pixels = to_pixels(frame, self._size, self.depth, self._source)
        matrix = None if self._settings.ignore_orientation else display_matrix(frame)
        return _Frame(upright(pixels, matrix), time, duration)

    def _time(self, declared: int | None, duration: int) -> int:
        """The time of a frame, which is later than that of the frame before, because encoders refuse other times."""
        if self._last is None:
            return declared or 0
        if declared is None:
            return self._last + (duration or self._timeline.interval)
        return max(declared, self._last + 1)

    def _look_at(self, first: Any) -> None:
        """Note from the first frame how all frames are coded."""
        self._size = (first.width, first.height)
        self._settings.check_size(*self._size, self._source)
        self.colours = Colours.of(first, self._source)
        self.depth = depth_of(first)
        matrix = display_matrix(first)
        aspect = self.video.sample_aspect_ratio or self.video.codec_context.sample_aspect_ratio
        turned = is_transposed(matrix) and not self._settings.ignore_orientation
        self.aspect = (1 / aspect if turned else aspect) if aspect else None
        self.matrix = matrix if self._settings.ignore_orientation else None


# Writing


class _Clock:
    """Conversion of the source's times to ticks of ``tick`` seconds in the result."""

    def __init__(self, timeline: _Timeline) -> None:
        self.tick = max(timeline.tick, Fraction(1, _FINEST_TICK))
        self.rate = timeline.rates[0]
        self._timeline = timeline

    def __call__(self, time: int) -> int:
        return round((time * self._timeline.tick - self._timeline.origin) / self.tick)


class _EvenClock(_Clock):
    """Conversion of the source's times to whole frames, because an AVI holds nothing finer.

    Raises:
        ImageError: The frames of the source do not follow each other evenly.
    """

    def __init__(self, timeline: _Timeline, source: Path, target: Path) -> None:
        super().__init__(timeline)
        for self.rate in timeline.rates:
            self.tick = 1 / self.rate
            if self._is_even():
                break
        else:
            raise ImageError(
                f"{target}: an AVI has one frame rate, and the frames of {source} do not follow each other evenly: "
                "choose another suffix, such as .mp4 or .mkv"
            )

    def _is_even(self) -> bool:
        times = self._timeline.times
        places = [self(time) for time in times]
        # A dropped frame becomes an empty chunk of the AVI; a few of them are common, but many would fill the disk.
        if any(step < 1 for step in _steps(places)) or max(places, default=0) > 10 * len(places) + 100:
            return False
        # Some containers round times to milliseconds.
        allowed = max(self._timeline.tick, Fraction(1, 1000))
        late = [time * self._timeline.tick - place * self.tick for time, place in zip(times, places, strict=True)]
        return not late or max(late) - min(late) <= 2 * allowed


class _Writer:
    """The video stream of the result.

    Attributes:
        lost: Sentences on what the encoder cannot hold.
    """

    def __init__(self, output: Any, encoder: _Encoder, reader: _Reader, clock: _Clock, shape: Sequence[int]) -> None:
        height, width = shape[:2]
        pixel_format = encoder.odd if height % 2 or width % 2 else encoder.even
        shallower = reader.depth > encoder.depth
        self.lost = [f"{reader.depth}-bit levels became {encoder.depth}-bit ones"] if shallower else []
        self._output = output
        self._clock = clock
        self._last = -1
        self._durations: dict[int, int] = {}
        self._pixel_format = pixel_format
        self._colours = reader.colours.in_format(pixel_format)
        self._stream = output.add_stream(encoder.name, rate=clock.rate, options=dict(encoder.options))
        self._set_up(width, height, reader)
        if encoder is _H265 and output.format.name in {"mp4", "mov"}:
            # Apple's players need this tag.
            self._stream.codec_context.codec_tag = "hvc1"

    def _set_up(self, width: int, height: int, reader: _Reader) -> None:
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, self._pixel_format
        context.time_base = self._clock.tick
        context.thread_type = "AUTO"
        self._colours.tag(context)
        if reader.aspect:
            context.sample_aspect_ratio = reader.aspect.limit_denominator(10_000)
        if reader.matrix is not None:
            self._stream.set_display_matrix(reader.matrix)
        _copy_tags(reader.video, self._stream)

    def write(self, image: np.ndarray, time: int, duration: int) -> None:
        """Encode ``(H, W, 3)`` RGB levels that are shown at ``time`` for ``duration``, both in ticks of the source."""
        frame = from_pixels(image, self._pixel_format, self._colours)
        self._last = max(self._clock(time), self._last + 1)
        frame.pts, frame.time_base = self._last, self._clock.tick
        self._durations[self._last] = max(0, self._clock(time + duration) - self._clock(time))
        self._encode(frame)

    def finish(self) -> None:
        """Write the frames that the encoder still holds."""
        self._encode(None)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            # Encoders give every frame the duration that follows from the rate.
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration
            self._output.mux(packet)


class _Copies:
    """Streams that are copied without decoding, in step with the frames.

    Attributes:
        sources: Streams of the source that the result can hold.
        carried: Names of what they carry, for messages.
        lost: Sentences on the streams that are left out.
    """

    def __init__(self, container: Any, video: Any, output: Any, origin: Fraction) -> None:
        self.sources: list[Any] = []
        self.lost: list[str] = []
        self._output = output
        self._origin = origin
        self._edits = output.format.name in {"mp4", "mov"}
        # In Matroska files, what a decoder throws away at the beginning lies before time 0.
        self._early = self._edits or "matroska" in container.format.name
        self._targets: dict[int, Any] = {}
        self._waiting: list[Any] = []
        self._last: dict[int, int] = {}
        for stream in container.streams:
            if stream is not video:
                self._choose(stream)
        self.carried = list(dict.fromkeys(_CARRIED[stream.type] for stream in self.sources))
        output.metadata.update({k: v for k, v in container.metadata.items() if k.lower() not in _FILE_TAGS})
        if not origin and (chapters := container.chapters()):
            output.set_chapters(chapters)
            self.carried.append("chapters")

    def _choose(self, stream: Any) -> None:
        if stream.type in _CARRIED and _fits(stream, self._output.format.name):
            self.sources.append(stream)
            return
        kind = stream.codec_context.name if stream.codec_context else stream.metadata.get("handler_name", "unknown")
        if stream.type in _CARRIED:
            muxer = self._output.format.name
            self.lost.append(f"{_CARRIED[stream.type]} ({kind}) cannot be copied into a {muxer} file, and is left out")
        else:
            self.lost.append(f"a further {stream.type} stream ({kind}) is left out")

    def start(self) -> None:
        """Add the streams to the result after its video stream, and write the packets that have waited for that."""
        for stream in self.sources:
            copy = self._output.add_stream_from_template(stream)
            _copy_tags(stream, copy)
            self._targets[stream.index] = copy
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            self.take(packet)

    def take(self, packet: Any) -> None:
        """Write a packet, or keep it until :meth:`start`."""
        if not self._targets:
            self._waiting.append(packet)
            return
        index, origin = packet.stream.index, round(self._origin / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - origin
        dts = packet.pts if packet.dts is None else packet.dts - origin
        if dts is None or self._hidden(packet, dts):
            return
        # Times of joined recordings may step back, which containers refuse.
        packet.dts = max(dts, self._last.get(index, dts - 1) + 1)
        packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
        self._last[index] = packet.dts
        packet.stream = self._targets[index]
        self._output.mux(packet)

    def _hidden(self, packet: Any, time: int) -> bool:
        """Whether players skip a packet of the source, but the result cannot tell them to skip it."""
        if time < 0:
            return not self._early
        return packet.is_discard


def _fits(stream: Any, muxer: str) -> bool:
    """Whether a container can hold a stream; this is tried without the stream's packets."""
    if stream.codec_context is None:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _copy_tags(source: Any, target: Any) -> None:
    target.metadata.update({key: source.metadata[key] for key in _STREAM_TAGS if key in source.metadata})
    target.disposition = source.disposition


# Errors


@contextlib.contextmanager
def _damage(source: Path) -> Iterator[None]:
    """Replace an error that FFmpeg raises while it reads by one that names the source."""
    try:
        yield
    except ImageError:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise OSError(error.errno, error.strerror, str(source)) from error
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{source}: the video is truncated or damaged ({reason})") from error


@contextlib.contextmanager
def _blamed(target: Path, temporary: Path) -> Iterator[None]:
    """Replace an error that FFmpeg or the system raises while the result is written by one that names the result."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and error.errno > 0:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise ImageError(f"{target}: FFmpeg cannot write this video ({error.strerror})") from error
    except OSError as error:
        of_another = error.filename is not None and Path(os.fsdecode(error.filename)) != temporary
        if of_another or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
