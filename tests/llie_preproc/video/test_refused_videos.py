"""``enhance_video`` refuses files that are not whole videos, and names them; it opens and writes no other file."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from llie_preproc.enhancers import Identity
from llie_preproc.errors import ImageError
from llie_preproc.video import enhance_video
from tests.support.command import Run, one_line
from tests.support.film_checks import Counting, without_pyav
from tests.support.films import box, grey, make_film


@pytest.mark.examples(2)
@pytest.mark.parametrize("part", [0.4, 0.8, 0.97])
@pytest.mark.parametrize("name", ["in.mp4", "in.mov", "in.mkv", "in.webm", "in.avi"])
def test_a_truncated_video_is_refused_before_any_work(
    tmp_path: Path, noisy_films: Callable[[str], Path], name: str, part: float
) -> None:
    source = Path(shutil.copy(noisy_films(name), tmp_path))
    source.write_bytes(source.read_bytes()[: int(part * source.stat().st_size)])
    enhancer = Counting()
    with pytest.raises(ImageError, match=rf"{name}.*truncated or damaged"):
        enhance_video(source, tmp_path / "out" / name, enhancer)
    assert enhancer.calls == 0
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def noisy_films(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that makes a whole video of noise for a file name, once for each name."""
    return functools.cache(lambda name: make_noisy_film(tmp_path_factory.mktemp("whole"), name))


def make_noisy_film(folder: Path, name: str) -> Path:
    codec = {"in.webm": "libvpx-vp9", "in.avi": "mjpeg"}.get(name, "libx264")
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), np.uint8)
    source = make_film(
        folder / name,
        range(100),
        tick=Fraction(1, 25),
        codec=codec,
        pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p",
        picture=lambda number, size: noise[number],
        muxing={"movflags": "faststart"} if name in {"in.mp4", "in.mov"} else {},
    )
    assert enhance_video(source, folder / f"enhanced{source.suffix}", Identity()).frames == 100
    return source


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_video_of_fragments_is_refused(tmp_path: Path, part: float) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    source = make_film(tmp_path / "in.mp4", range(60), tick=Fraction(1, 25), options={"g": "10"}, muxing=fragments)
    assert enhance_video(source, tmp_path / "whole.mp4", Identity()).frames == 60
    source.write_bytes(source.read_bytes()[: int(part * source.stat().st_size)])
    with pytest.raises(ImageError, match=r"in\.mp4.*damaged"):
        enhance_video(source, tmp_path / "out.mp4", Identity())


def test_a_video_with_damaged_frames_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
    source = make_film(tmp_path / "in.mp4", range(0, 2400, 40), picture=lambda number, size: noise[number])
    data = bytearray(source.read_bytes())
    middle = data.find(b"mdat") + len(box(bytes(data), "mdat")) // 2
    data[middle : middle + 4000] = bytes(4000)
    source.write_bytes(data)
    with pytest.raises(ImageError, match=r"in\.mp4.*damaged"):
        enhance_video(source, tmp_path / "out" / "v.mp4", Identity())
    assert list((tmp_path / "out").iterdir()) == []


def playlist(kind: str, folder: Path) -> str:
    real = make_film(folder / "real.mp4")
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{real}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{real.name}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }[kind]


@pytest.mark.parametrize("kind", ["m3u8", "concat", "sdp"])
@pytest.mark.parametrize("library", ["PyAV", "OpenCV"])
def test_a_playlist_with_the_suffix_of_a_video_opens_nothing(
    tmp_path: Path, kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "OpenCV":
        without_pyav(monkeypatch)
    source = tmp_path / "in.mp4"
    source.write_text(playlist(kind, tmp_path))
    with pytest.raises(ImageError, match=rf"in\.mp4.*{library} cannot open"):
        enhance_video(source, tmp_path / "out.mp4", Identity())


def test_a_playlist_with_its_own_suffix_does_open_files(tmp_path: Path) -> None:
    """If it did not, the test above could not fail."""
    (tmp_path / "in.ffconcat").write_text(playlist("concat", tmp_path))
    with av.open(str(tmp_path / "in.ffconcat")) as container:
        assert len(list(container.decode(video=0))) == 20


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video(llie: Run, tmp_path: Path, cover: bool) -> None:
    source = make_film(tmp_path / "in.mp4", sound="aac")
    with av.open(str(source)) as film, av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream_from_template(film.streams.audio[0])
        if cover:
            picture = output.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 16, 16, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(grey(0, (16, 16)), format="rgb24")
            covers = [*picture.encode(frame), *picture.encode(None)]
        output.start_encoding()
        for packet in covers if cover else []:
            output.mux(packet)
        for packet in film.demux(film.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    result = llie("enhance", tmp_path / "sound.mp4", "--out", tmp_path / "out.mp4", "--enhancer", "Identity")
    one_line(result, "sound.mp4", "no video stream")


@pytest.fixture
def alarm() -> Iterator[None]:
    """Ends a test that hangs, after a minute."""

    def end(*_: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", ["in.mp4", "in.avi", "in.mkv"])
def test_a_pipe_is_refused_without_waiting(llie: Run, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    one_line(
        llie("enhance", tmp_path / name, "--out", tmp_path / f"out{name[2:]}", "--enhancer", "Identity"),
        name,
        "regular",
    )


def test_frames_over_the_limit_are_refused(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4")
    with pytest.raises(ImageError, match=r"in\.mp4.*64x48.*3000"):
        enhance_video(source, tmp_path / "out.mp4", Identity(), max_pixels=3000)
    assert enhance_video(source, tmp_path / "out.mp4", Identity(), max_pixels=64 * 48).frames == 20


def test_frames_that_claim_an_absurd_size_are_not_decoded(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.avi", range(20), tick=Fraction(1, 25), codec="mjpeg", pixel_format="yuvj420p")
    data = source.read_bytes()
    # A JPEG's frame header begins with its length of 17 bytes, 8 bits, height and width.
    header = b"\xff\xc0\x00\x11\x08"
    assert data.count(header + bytes([0, 48, 0, 64])) == 20
    source.write_bytes(data.replace(header + bytes([0, 48, 0, 64]), header + b"\xfd\xe8\xfd\xe8"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"in\.avi"):
        enhance_video(source, tmp_path / "out.mp4", Identity())
    # A frame of that size has 4 billion pixels.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize(("library", "reason"), [("PyAV", "file too large"), ("OpenCV", "space on the disk")])
def test_a_full_disk_names_the_result(
    llie: Run, tmp_path: Path, library: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "OpenCV":
        without_pyav(monkeypatch)
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    source = make_film(
        tmp_path / "v.mp4", range(0, 1600, 40), size=(128, 96), picture=lambda number, size: noise[number]
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        result = llie("enhance", source, "--out", tmp_path / "out" / "v.mp4", "--enhancer", "Identity")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(result, "out/v.mp4", reason)
    assert list((tmp_path / "out").iterdir()) == []
