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
import cv2
import numpy as np
import pytest
from torch import Tensor

from llie_preproc import video
from llie_preproc.enhancers import Identity, Upscale
from llie_preproc.errors import ImageError
from llie_preproc.video import enhance_video
from tests.support.command import Run, one_line
from tests.support.films import box, boxed_seconds, boxed_times, edit, grey, make_film, packets_of, shown

# Ticks of a millisecond: 30 frames at 30 a second, then 30 at 10, as phones and screen recorders write.
PHONE = tuple([round(1000 * i / 30) for i in range(30)] + [1000 + 100 * i for i in range(30)])
RANDOM = tuple(int(t) for t in np.cumsum(np.random.default_rng(0).integers(1, 250, 40)))
B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0:scenecut=0"}


class Counting(Identity):
    """Counts the calls, and the most pictures of one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.together = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls, self.together = self.calls + 1, max(self.together, len(image))
        return image


def assert_same_film(target: Path, source: Path, milliseconds: float = 0.1) -> None:
    """OpenCV shows the same frames at the same times, from the first one on."""
    expected, found = shown(source), shown(target)
    assert len(found) == len(expected) > 0
    assert np.abs(np.subtract([f.time for f in found], [f.time for f in expected])).max() <= milliseconds
    off = np.subtract([f.level for f in found], [f.level for f in expected])
    # A codec's bias is the same for all; another frame would be 4 levels off.
    assert np.abs(off).max() < 4
    assert np.abs(off - np.median(off)).max() < 2


# times


@pytest.mark.examples(3)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
@pytest.mark.parametrize("times", [PHONE, RANDOM], ids=["phone", "random"])
def test_frames_keep_their_times(tmp_path: Path, times: tuple[int, ...], suffix: str) -> None:
    source = make_film(tmp_path / "in.mp4", times)
    assert enhance_video(source, tmp_path / f"out{suffix}", Identity(), batch_size=7).frames == len(times)
    # Matroska counts milliseconds.
    assert_same_film(tmp_path / f"out{suffix}", source, 1 if suffix in {".mkv", ".webm"} else 0.1)


@pytest.mark.parametrize("times", [PHONE, RANDOM], ids=["phone", "random"])
def test_the_boxes_of_an_mp4_have_the_times(tmp_path: Path, times: tuple[int, ...]) -> None:
    source = make_film(tmp_path / "in.mp4", times, options=B_FRAMES)
    enhance_video(source, tmp_path / "out.mp4", Identity())
    expected = [(time - times[0]) / 1000 for time in times]
    first = boxed_times(source)[0]
    assert boxed_times(tmp_path / "out.mp4") == pytest.approx([first + t for t in expected], abs=1e-4)


@pytest.mark.examples(6)
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.avi"])
@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES, {"g": "1"}], ids=["plain", "b-frames", "key frames"])
@pytest.mark.parametrize("start", [0, 1, 10])
def test_what_an_edit_list_hides_stays_hidden(tmp_path: Path, start: int, options: dict, target: str) -> None:
    source = make_film(tmp_path / "in.mp4", range(40), tick=Fraction(1, 25), options={"g": "6", **options})
    scale = 12800 // 25
    edit(source, (start * scale, (40 - start - 5) / 25))
    expected = shown(source)
    assert len(expected) == 35 - start
    assert expected[0].level == pytest.approx(20 + 4 * start, abs=3)
    result = enhance_video(source, tmp_path / target, Identity())
    assert result.frames == len(expected)
    assert_same_film(tmp_path / target, source, 0.1 if target == "out.mp4" else 1)


@pytest.mark.examples(4)
@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES], ids=["plain", "b-frames"])
@pytest.mark.parametrize("sound", [None, "aac"])
@pytest.mark.parametrize(
    "edits",
    [
        [(0, 0.4), (20 * 512, 0.4)],
        [(0, 0.4), (0, 0.4)],
        [(20 * 512, 0.4), (0, 0.4)],
        [(-1, 0.5), (0, 0.4), (20 * 512, 0.4)],
    ],
    ids=["gap", "repeated", "backwards", "pause"],
)
def test_all_edits_are_played(tmp_path: Path, edits: list, sound: str | None, options: dict) -> None:
    source = make_film(tmp_path / "in.mp4", range(40), tick=Fraction(1, 25), options={"g": "6", **options}, sound=sound)
    edit(source, *edits)
    result = enhance_video(source, tmp_path / "out.mp4", Identity())
    assert result.carried == (("sound",) if sound else ())
    # OpenCV gives the first frame of several edits the time of another one.
    assert times_of(tmp_path / "out.mp4") == pytest.approx(times_of(source), abs=1e-4)
    levels = [frame.level for frame in shown(source)]
    assert [frame.level for frame in shown(tmp_path / "out.mp4")] == pytest.approx(levels, abs=2)


def test_a_frame_that_begins_late_does_so_in_the_result(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", range(700, 1500, 40), sound="aac")
    enhance_video(source, tmp_path / "out.mp4", Identity())
    assert boxed_times(tmp_path / "out.mp4")[0] == pytest.approx(0.7, abs=1e-3)
    assert_same_film(tmp_path / "out.mp4", source)


def test_the_last_frame_is_shown_as_long(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", PHONE)
    enhance_video(source, tmp_path / "out.mp4", Identity())
    assert boxed_seconds(source) == pytest.approx(4, abs=2e-3)
    assert boxed_seconds(tmp_path / "out.mp4") == pytest.approx(4, abs=2e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_frames_are_refused_for_an_avi_before_any_work(tmp_path: Path, suffix: str) -> None:
    source, enhancer = make_film(tmp_path / f"in{suffix}", RANDOM), Counting()
    with pytest.raises(ImageError, match=r"out\.avi.*one frame rate.*\.mkv"):
        enhance_video(source, tmp_path / "out.avi", enhancer)
    assert enhancer.calls == 0
    assert not (tmp_path / "out.avi").exists()


@pytest.mark.examples(2)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("kind", ["29.97", "with frames left out"])
def test_even_frames_go_through_an_avi(tmp_path: Path, kind: str, suffix: str) -> None:
    times = [round(1000 * i / 29.97) for i in range(60)] if kind == "29.97" else PHONE
    source = make_film(
        tmp_path / f"in{suffix}",
        times,
        codec="libvpx-vp9" if suffix == ".webm" else "libx264",
    )
    enhance_video(source, tmp_path / "out.avi", Identity())
    assert_same_film(tmp_path / "out.avi", source, 1.6)
    enhance_video(tmp_path / "out.avi", tmp_path / "back.mp4", Identity())
    assert_same_film(tmp_path / "back.mp4", tmp_path / "out.avi")


def test_a_clock_that_starts_anywhere_starts_at_zero(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mpg", range(20), tick=Fraction(1, 25), codec="mpeg2video", sound="mp2")
    enhance_video(source, tmp_path / "out.mp4", Identity())
    result = shown(tmp_path / "out.mp4")
    assert [frame.time for frame in result] == pytest.approx([result[0].time + 40 * i for i in range(20)], abs=0.1)
    assert result[0].time < 100
    assert_in_step(tmp_path / "out.mp4", source)


def test_frames_run_in_batches(tmp_path: Path) -> None:
    enhancer = Counting()
    seen: list[int] = []
    enhance_video(make_film(tmp_path / "in.mp4"), tmp_path / "o.mp4", enhancer, batch_size=3, progress=seen.append)
    assert enhancer.together == 3
    assert seen == [3] * 6 + [2]


# sound, subtitles and tags


def assert_in_step(target: Path, source: Path, seconds: float = 1.1e-3) -> None:
    """Sound is the same bytes, as far from the first frame as in the source."""
    before, after = packets_of(source, "audio"), packets_of(target, "audio")
    # Samples that are not coded are cut into packets as a container likes.
    assert b"".join(data for _, data in after) == b"".join(data for _, data in before)
    expected = before[0][0] - times_of(source)[0]
    assert after[0][0] - times_of(target)[0] == pytest.approx(expected, abs=seconds)
    if source.suffix != ".mpg":
        assert times_of(target)[0] == pytest.approx(times_of(source)[0], abs=1e-3)
    if len(after) == len(before):
        assert after[-1][0] - after[0][0] == pytest.approx(before[-1][0] - before[0][0], abs=2 * seconds)


def times_of(path: Path) -> list[float]:
    """Seconds at which the frames are shown, by PyAV."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


@pytest.mark.examples(3)
@pytest.mark.parametrize(
    ("before", "codec", "after"),
    [
        (".mp4", "aac", ".mp4"),
        (".mp4", "aac", ".mov"),
        (".mp4", "aac", ".mkv"),
        (".mp4", "aac", ".avi"),
        (".mkv", "aac", ".mp4"),
        (".mkv", "libopus", ".webm"),
        (".mkv", "libopus", ".mkv"),
        (".webm", "libopus", ".mp4"),
        (".mov", "pcm_s16le", ".mov"),
        (".avi", "libmp3lame", ".mp4"),
        (".avi", "libmp3lame", ".avi"),
    ],
)
def test_sound_is_copied_in_step(llie: Run, tmp_path: Path, before: str, codec: str, after: str) -> None:
    encoder = {".webm": "libvpx-vp9", ".avi": "mjpeg"}.get(before, "libx264")
    source = make_film(
        tmp_path / f"in{before}",
        range(30),
        tick=Fraction(1, 25),
        sound=codec,
        codec=encoder,
        pixel_format="yuvj420p" if encoder == "mjpeg" else "yuv420p",
    )
    target = tmp_path / f"out{after}"
    result = llie("enhance", source, "--out", target, "--enhancer", "Identity")
    assert result.code == 0
    assert "30 frames enhanced; sound carried" in result.out
    # An AVI counts packets of sound.
    assert_in_step(target, source, 0.03 if after == ".avi" else 1.1e-3)


@pytest.mark.examples(2)
@pytest.mark.parametrize("delay", [0.4, 0.0])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_sound_that_begins_later_does_so_in_the_result(tmp_path: Path, delay: float, target: str) -> None:
    source = make_film(tmp_path / "in.mp4", range(0, 2000, 40), sound="aac", sound_start=delay)
    enhance_video(source, tmp_path / target, Identity())
    assert_in_step(tmp_path / target, source)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_sound_of_a_trimmed_video_stays_in_step(tmp_path: Path, target: str) -> None:
    source = edit(make_film(tmp_path / "in.mp4", range(0, 2000, 40), sound="aac"), (5 * 640, 1.5))
    enhance_video(source, tmp_path / target, Identity())
    assert_same_film(tmp_path / target, source, 1)
    assert_in_step(tmp_path / target, source)


def test_sound_that_a_container_cannot_hold_is_named(llie: Run, tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", sound="aac")
    result = llie("enhance", source, "--out", tmp_path / "out.webm", "--enhancer", "Identity")
    assert result.code == 0
    assert "sound carried" not in result.out
    assert "sound (aac) cannot be copied into a webm file" in result.err
    assert_same_film(tmp_path / "out.webm", source, 1)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip")])
def test_subtitles_are_copied(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_film(tmp_path / f"in{suffix}", subtitles=codec)
    result = enhance_video(source, tmp_path / f"out{suffix}", Identity())
    assert result.carried == ("subtitles",)
    found = [p for p in packets_of(tmp_path / f"out{suffix}", "subtitles") if b"line" in p[1]]
    assert found == [p for p in packets_of(source, "subtitles") if b"line" in p[1]]
    assert found[0][0] == pytest.approx(0.12)


def test_chapters_are_carried(tmp_path: Path) -> None:
    tick = Fraction(1, 1000)
    chapters = [
        {"id": 1, "start": 0, "end": 500, "time_base": tick, "metadata": {"title": "Dusk"}},
        {"id": 2, "start": 500, "end": 800, "time_base": tick, "metadata": {"title": "Night"}},
    ]
    source = make_film(tmp_path / "in.mkv", chapters=chapters)
    assert enhance_video(source, tmp_path / "out.mp4", Identity()).carried == ("chapters",)
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [(c["metadata"]["title"], c["start"] * c["time_base"]) for c in container.chapters()]
    assert found == [("Dusk", 0), ("Night", Fraction(1, 2))]


def test_title_date_and_language_are_carried(tmp_path: Path) -> None:
    tags = {"title": "Night", "creation_time": "2024-05-06T07:08:09.000000Z", "comment": "dark"}
    source = make_film(tmp_path / "in.mp4", metadata=tags, sound="aac", language="fra")
    enhance_video(source, tmp_path / "out.mp4", Identity())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert {key: container.metadata.get(key) for key in tags} == tags
        assert container.streams.audio[0].language == "fra"


# the frames


def turned(path: Path, degrees: int, **options: Any) -> Path:
    """A film of pictures with a bright corner, that players turn."""

    def corner(number: int, size: tuple[int, int]) -> np.ndarray:
        picture = np.full((size[1], size[0], 3), 40, np.uint8)
        picture[: size[1] // 2, : size[0] // 2] = 220
        picture[: size[1] // 2, size[0] // 2 :] = 120
        return picture

    return make_film(
        path, picture=corner, prepare=lambda stream: stream.set_display_rotation(degrees, **options), size=(64, 32)
    )


def first_frame(path: Path, **options: Any) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    for key, value in options.items():
        capture.set(getattr(cv2, key), value)
    return capture.read()[1].astype(int)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    source = turned(tmp_path / "in.mp4", degrees)
    enhance_video(source, tmp_path / "out.mp4", Identity())
    expected, found = first_frame(source), first_frame(tmp_path / "out.mp4", CAP_PROP_ORIENTATION_AUTO=0)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3


def test_mirrored_frames_are_mirrored_back(tmp_path: Path) -> None:
    source = turned(tmp_path / "in.mp4", 0, hflip=True)
    enhance_video(source, tmp_path / "out.mp4", Identity())
    stored = first_frame(source, CAP_PROP_ORIENTATION_AUTO=0)
    assert np.abs(first_frame(tmp_path / "out.mp4") - stored[:, ::-1]).mean() < 3


def test_the_stored_frame_can_be_kept_with_its_orientation(llie: Run, tmp_path: Path) -> None:
    source = turned(tmp_path / "in.mp4", 90)
    call = ("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--ignore-orientation")
    assert llie(*call).code == 0
    for automatic in (0, 1):
        expected = first_frame(source, CAP_PROP_ORIENTATION_AUTO=automatic)
        found = first_frame(tmp_path / "out.mp4", CAP_PROP_ORIENTATION_AUTO=automatic)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 3


@pytest.mark.examples(4)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("size", [(47, 33), (48, 33), (47, 32), (2, 2)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    source = make_film(tmp_path / "in.mkv", size=size, codec="ffv1", pixel_format="yuv444p")
    enhance_video(source, tmp_path / f"out{suffix}", Identity())
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frames = list(container.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {size}
    levels = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert np.abs(np.subtract(levels, [grey(i, size).mean() for i in range(20)])).max() < 3


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarged_frames_keep_times_and_sound(tmp_path: Path, scale: int) -> None:
    source = make_film(tmp_path / "in.mp4", PHONE, size=(47, 33), codec="libx264", pixel_format="yuv444p", sound="aac")
    enhance_video(source, tmp_path / "out.mp4", Upscale(scale, "nearest"))
    assert first_frame(tmp_path / "out.mp4").shape == (33 * scale, 47 * scale, 3)
    assert_same_film(tmp_path / "out.mp4", source)
    assert_in_step(tmp_path / "out.mp4", source)


# Red and blue weights of ITU-R BT.601, BT.709 and BT.2020, by their numbers in ITU-T H.273.
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
COLOUR = (200, 40, 80)


def to_yuv(matrix: int, full: bool) -> tuple[float, ...]:
    red, blue = WEIGHTS[matrix]
    r, g, b = (level / 255 for level in COLOUR)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    return (255 * y, 128 + 255 * cb, 128 + 255 * cr) if full else (16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr)


def to_rgb(planes: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    red, blue = WEIGHTS[matrix]
    y, cb, cr = planes
    black, y_range, c_range = (0, 255, 255) if full else (16, 219, 224)
    y, cb, cr = (y - black) / y_range, (cb - 128) / c_range, (cr - 128) / c_range
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return 255 * np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])


def flat(path: Path, matrix: int, full: bool, declared: int | None = None, size: tuple[int, int] = (64, 48)) -> Path:
    """A film of one colour, coded by hand."""
    y, cb, cr = (round(level) for level in to_yuv(matrix, full))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.colorspace = matrix if declared is None else declared
        stream.codec_context.color_range = 2 if full else 1
        if declared is None:
            stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for _ in range(5):
            planes = np.full((size[1] * 3 // 2, size[0]), y, np.uint8)
            planes[size[1] : size[1] * 5 // 4], planes[size[1] * 5 // 4 :] = cb, cr
            output.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        output.mux(stream.encode(None))
    return path


class Watching(Identity):
    """Keeps the mean colour of what it saw last."""

    def forward(self, image: Tensor) -> Tensor:
        self.seen = 255 * image.mean(dim=(0, 2, 3)).numpy()
        return image


def assert_colour(path: Path, matrix: int) -> None:
    """By the formulas, from the levels and the tags."""
    with av.open(str(path)) as container:
        frame = list(container.decode(video=0))[-1]
    assert WEIGHTS[frame.colorspace] == WEIGHTS[matrix]
    planes = [np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]
    means = np.array([plane[: p.height, : p.width].mean() for plane, p in zip(planes, frame.planes, strict=True)])
    assert to_rgb(means, frame.colorspace, frame.color_range == 2) == pytest.approx(COLOUR, abs=4)


@pytest.mark.examples(8)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_colours_and_their_tags_are_right(tmp_path: Path, matrix: int, full: bool, suffix: str) -> None:
    watching = Watching()
    source = flat(tmp_path / "in.mp4", matrix, full)
    enhance_video(source, tmp_path / f"out{suffix}", watching)
    assert watching.seen == pytest.approx(COLOUR, abs=4)
    assert_colour(tmp_path / f"out{suffix}", 6 if suffix == ".avi" else matrix)
    if suffix != ".avi":
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            frame = next(container.decode(video=0))
            assert frame.color_range == (2 if full else 1)
            assert (frame.color_primaries, frame.color_trc) in ({(1, 1)} if suffix != ".webm" else {(1, 1), (2, 2)})


@pytest.mark.parametrize(("size", "matrix"), [((720, 576), 6), ((1280, 720), 1)])
def test_undeclared_colours_are_those_of_the_size(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    watching = Watching()
    enhance_video(flat(tmp_path / "in.mp4", matrix, False, declared=2, size=size), tmp_path / "out.mp4", watching)
    assert watching.seen == pytest.approx(COLOUR, abs=4)
    assert_colour(tmp_path / "out.mp4", matrix)


@pytest.mark.parametrize(("suffix", "depth"), [(".mp4", 10), (".mkv", 10), (".webm", 8)])
def test_deep_frames_stay_deep_or_it_is_said(tmp_path: Path, suffix: str, depth: int) -> None:
    def dark(number: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((size[1], size[0], 3), 64 * (40 + 2 * number), np.uint16)

    source = make_film(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p10le", picture=dark, options={"strict": "-2"}
    )
    result = enhance_video(source, tmp_path / f"out{suffix}", Identity())
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frames = list(container.decode(video=0))
    assert frames[0].format.components[0].bits == depth
    assert any("8-bit" in sentence for sentence in result.lost) == (depth == 8)
    levels = [frame.to_ndarray(format="rgb48le").mean() for frame in frames]
    assert np.abs(np.subtract(levels, [64 * (40 + 2 * i) for i in range(20)])).max() < (130 if depth == 10 else 800)


def test_hdr_and_interlacing_are_said(tmp_path: Path) -> None:
    def hdr(stream: Any) -> None:
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 18, 9
        stream.codec_context.colorspace = 9

    source = make_film(tmp_path / "in.mp4", prepare=hdr)
    assert any("HLG" in sentence for sentence in enhance_video(source, tmp_path / "a.mp4", Identity()).lost)
    source = make_film(tmp_path / "i.mp4", options={"x264-params": "tff=1"})
    assert any("interlaced" in sentence for sentence in enhance_video(source, tmp_path / "b.mp4", Identity()).lost)


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    def anamorphic(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        stream.set_display_rotation(90)

    source = make_film(tmp_path / "in.mp4", prepare=anamorphic)
    for name, ignore, expected in (("a.mp4", True, Fraction(16, 11)), ("b.mp4", False, Fraction(11, 16))):
        enhance_video(source, tmp_path / name, Identity(), ignore_orientation=ignore)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected


# what is refused


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
    """Makes a whole film of noise by the name of its file, once."""
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
def test_a_playlist_that_calls_itself_a_video_opens_nothing(
    tmp_path: Path, kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "OpenCV":
        without_pyav(monkeypatch)
    source = tmp_path / "in.mp4"
    source.write_text(playlist(kind, tmp_path))
    with pytest.raises(ImageError, match=rf"in\.mp4.*{library} cannot open"):
        enhance_video(source, tmp_path / "out.mp4", Identity())


def test_that_test_can_fail(tmp_path: Path) -> None:
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
    """Ends a test that hangs."""

    def end(*_: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", ["in.mp4", "in.avi", "in.mkv"])
def test_a_pipe_is_refused_and_not_waited_for(llie: Run, tmp_path: Path, name: str) -> None:
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
    # The start of a JPEG's frame: 17 bytes, 8 bits, height and width.
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


# without PyAV


def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.find_spec
    monkeypatch.setattr(video, "find_spec", lambda name: None if name == "av" else real(name))


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pyav(monkeypatch)


@pytest.mark.usefixtures("opencv")
def test_opencv_says_what_it_loses(llie: Run, tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", range(30), tick=Fraction(1, 25), sound="aac")
    result = llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity")
    assert result.code == 0
    assert result.out == "30 frames enhanced\n"
    assert "in.mp4" in result.err
    assert "sound" in result.err
    assert "llie-preproc[video]" in result.err
    assert_same_film(tmp_path / "out.mp4", source)


@pytest.mark.usefixtures("opencv")
@pytest.mark.parametrize("times", [PHONE, RANDOM], ids=["phone", "random"])
def test_opencv_refuses_uneven_frames_before_any_work(tmp_path: Path, times: tuple[int, ...]) -> None:
    source, enhancer = make_film(tmp_path / "in.mp4", times), Counting()
    with pytest.raises(ImageError, match=r"in\.mp4.*evenly.*llie-preproc\[video\]"):
        enhance_video(source, tmp_path / "out.mp4", enhancer)
    assert enhancer.calls == 0


@pytest.mark.usefixtures("opencv")
@pytest.mark.parametrize("start", [0, 10])
def test_opencv_keeps_a_trimmed_video(tmp_path: Path, start: int) -> None:
    source = make_film(tmp_path / "in.mp4", range(40), tick=Fraction(1, 25), options={"bf": "0"})
    edit(source, (start * 512, (40 - start - 5) / 25))
    result = enhance_video(source, tmp_path / "out.mp4", Identity())
    assert result.frames == 35 - start
    assert any(f"{5 + start} of 40 frames are hidden by an edit list" in sentence for sentence in result.lost)
    assert_same_film(tmp_path / "out.mp4", source)


@pytest.mark.usefixtures("opencv")
def test_opencv_refuses_a_truncated_video(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", range(40), tick=Fraction(1, 25), muxing={"movflags": "faststart"})
    data = source.read_bytes()
    source.write_bytes(data[: data.find(b"mdat") + len(box(data, "mdat")) // 2])
    with pytest.raises(ImageError, match=r"in\.mp4.*(truncated|no frame)"):
        enhance_video(source, tmp_path / "out.mp4", Identity())


@pytest.mark.usefixtures("opencv")
def test_opencv_refuses_results_of_odd_size_rather_than_cut_them(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", range(20), tick=Fraction(1, 25), size=(47, 33), pixel_format="yuv444p")
    with pytest.raises(ImageError, match="even"):
        enhance_video(source, tmp_path / "out.avi", Identity())


@pytest.mark.usefixtures("opencv")
def test_opencv_refuses_frames_over_the_limit(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", range(20), tick=Fraction(1, 25))
    with pytest.raises(ImageError, match=r"in\.mp4.*64x48.*3000"):
        enhance_video(source, tmp_path / "out.mp4", Identity(), max_pixels=3000)
