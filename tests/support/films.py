"""Videos made for tests, and readers of videos that do not use the library."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

RATE = 48_000
"""Samples of sound per second."""


def grey(number: int, size: tuple[int, int]) -> np.ndarray:
    """A ``(H, W, 3)`` RGB frame whose level tells its number."""
    return np.full((size[1], size[0], 3), 20 + 4 * (number % 50), np.uint8)


def make_film(
    path: Path,
    times: Sequence[int] = tuple(range(0, 800, 40)),
    *,
    size: tuple[int, int] = (64, 48),
    tick: Fraction = Fraction(1, 1000),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    picture: Callable[[int, tuple[int, int]], np.ndarray] = grey,
    sound: str | None = None,
    sound_start: float = 0.0,
    subtitles: str | None = None,
    metadata: dict[str, str] | None = None,
    chapters: Sequence[Any] = (),
    language: str | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frames are shown at ``times``, in ticks.

    Args:
        picture: Function that makes the frame of a number and a size (width, height).
        sound: Encoder of a tone that lasts as long as the frames; None for no sound.
        subtitles: Codec of one line of text; None for no subtitles.
        prepare: Function that is called with the video stream before encoding.
    """
    with av.open(str(path), "w", options=muxing or {}) as output:
        output.metadata.update(metadata or {})
        output.set_chapters(list(chapters))
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = tick
        prepare(stream)
        heard = output.add_stream(sound, rate=RATE) if sound else None
        if heard and language:
            heard.metadata["language"] = language
        read = output.add_mux_stream(subtitles) if subtitles else None
        packets: list[Any] = []
        durations: dict[int, int] = {}
        steps = np.diff(times).tolist() or [1]
        for number, (time, duration) in enumerate(zip(times, [*steps, steps[-1]], strict=True)):
            pixels = picture(number, size)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le" if pixels.dtype == np.uint16 else "rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, tick
            durations[time] = duration
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in packets:
            packet.duration = durations[packet.pts]
        if heard:
            packets += [p for frame in sine(float(times[-1] * tick), sound_start) for p in heard.encode(frame)]
            packets += heard.encode(None)
        if read:
            packets.append(subtitle(read, "A line of text", counted=subtitles == "mov_text"))
        output.start_encoding()
        for packet in sorted(packets, key=lambda p: float((p.dts if p.dts is not None else p.pts) * p.time_base)):
            output.mux(packet)
    return path


def plain_film(path: Path, frames: int = 7, size: tuple[int, int] = (48, 32), rate: float = 24.0) -> Path:
    """Write a video with OpenCV, whose frames grow brighter."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), (40, 30 * number, 80), np.uint8))
    writer.release()
    return path


def sine(seconds: float, start: float = 0.0) -> Iterator[Any]:
    """Frames of a stereo tone of 440 Hz."""
    for place in range(0, int(seconds * RATE), 1024):
        wave = np.sin(np.arange(place, place + 1024) * 2 * np.pi * 440 / RATE).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]) / 2, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = place + round(start * RATE)
        yield frame


def subtitle(stream: Any, text: str, counted: bool) -> Any:
    data = text.encode()
    packet = av.Packet(struct.pack(">H", len(data)) + data if counted else data)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = 120
    packet.duration = 200
    return packet


class Shown(NamedTuple):
    """A frame as OpenCV shows it: its time in milliseconds, and its mean level."""

    time: float
    level: float


def shown(path: Path) -> list[Shown]:
    """All frames of a video, as OpenCV reads them."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(Shown(capture.get(cv2.CAP_PROP_POS_MSEC), float(read[1].mean())))
    return frames


def packets_of(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Time in seconds and bytes of each packet of a stream, without those before the video's start."""
    with av.open(str(path)) as container:
        (stream,) = getattr(container.streams, kind)
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard and p.pts >= 0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets]


# Reading MP4 without a library, by ISO/IEC 14496-12.


def box(data: bytes, *path: str) -> bytes:
    """The content of the first box at a path such as ``"moov", "trak"``."""
    for name in path:
        data = next(content for kind, content in _boxes(data) if kind == name)
    return data


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size = struct.unpack_from(">I", data, place)[0]
        yield data[place + 4 : place + 8].decode("latin-1"), data[place + 8 : place + size]
        place += size


def boxed_times(path: Path) -> list[float]:
    """Seconds at which the frames of an MP4 are shown, computed from its boxes.

    The file may have empty edits, which delay the frames, and one edit that shows them.
    """
    track, film_scale = _track(path)
    table = box(track, "mdia", "minf", "stbl")
    scale = struct.unpack_from(">I", box(track, "mdia", "mdhd"), 12)[0]
    steps = [delta for count, delta in _entries(box(table, "stts"), ">II") for _ in range(count)]
    decoded = np.cumsum([0, *steps[:-1]])
    offsets = np.zeros(len(steps), int)
    if any(kind == "ctts" for kind, _ in _boxes(table)):
        offsets = np.array([o for count, o in _entries(box(table, "ctts"), ">Ii") for _ in range(count)])
    edits = _entries(box(track, "edts", "elst"), ">Iii") if b"edts" in track else [(0, 0, 0)]
    delay = sum(length for length, start, _ in edits if start < 0) / film_scale
    length, start, _ = next(edit for edit in edits if edit[1] >= 0)
    times = np.sort(decoded + offsets) - start
    last = length / film_scale if length else np.inf
    return [t / scale + delay for t in times if t >= 0 and t / scale < last - 1e-6]


def boxed_seconds(path: Path) -> float:
    """Seconds from the video's start to the end of its video track, by its edits."""
    track, film_scale = _track(path)
    return sum(length for length, _, _ in _entries(box(track, "edts", "elst"), ">Iii")) / film_scale


def _track(path: Path) -> tuple[bytes, int]:
    """The video track of an MP4, and the number of ticks per second of the movie."""
    film = box(path.read_bytes(), "moov")
    track = next(t for kind, t in _boxes(film) if kind == "trak" and b"vide" in box(t, "mdia", "hdlr"))
    return track, struct.unpack_from(">I", box(film, "mvhd"), 12)[0]


def _entries(content: bytes, layout: str) -> list[tuple[int, ...]]:
    (count,) = struct.unpack_from(">I", content, 4)
    size = struct.calcsize(layout)
    return [struct.unpack_from(layout, content, 8 + i * size) for i in range(count)]


def edit(path: Path, *edits: tuple[int, float]) -> Path:
    """Rewrite the edit list of an MP4's first track, as phones and editors do to trim a video.

    Args:
        path: MP4 file whose frames stand before its header.
        edits: Start in ticks (-1 for a pause) and length in seconds of each edit.
    """
    data = bytearray(path.read_bytes())
    scale = struct.unpack_from(">I", data, data.find(b"mvhd") + 16)[0]
    place = data.find(b"elst")
    size = struct.unpack_from(">I", data, place - 4)[0]
    first = struct.unpack_from(">i", data, place + 16)[0]
    entries = [(round(length * scale), start if start < 0 else first + start, 1 << 16) for start, length in edits]
    table = struct.pack(">I", len(entries)) + b"".join(struct.pack(">Iii", *entry) for entry in entries)
    data[place + 8 : place - 4 + size] = table
    grown = len(table) + 12 - size
    for name in (b"elst", b"edts", b"trak", b"moov"):
        at = data.find(name) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + grown)
    path.write_bytes(data)
    return path
