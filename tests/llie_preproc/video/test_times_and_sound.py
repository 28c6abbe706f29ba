"""``enhance_video`` keeps the times of the frames, and carries sound, subtitles and tags in step with them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from llie_preproc.enhancers import Identity
from llie_preproc.errors import ImageError
from llie_preproc.video import enhance_video
from tests.support.command import Run
from tests.support.film_checks import PHONE, RANDOM, Counting, assert_in_step, assert_same_film, times_of
from tests.support.films import boxed_seconds, boxed_times, edit, make_film, packets_of, shown

B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0:scenecut=0"}


# Times.


@pytest.mark.examples(3)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
@pytest.mark.parametrize("times", [PHONE, RANDOM], ids=["phone", "random"])
def test_frames_keep_their_times(tmp_path: Path, times: tuple[int, ...], suffix: str) -> None:
    source = make_film(tmp_path / "in.mp4", times)
    assert enhance_video(source, tmp_path / f"out{suffix}", Identity(), batch_size=7).frames == len(times)
    # Matroska counts time in milliseconds.
    assert_same_film(tmp_path / f"out{suffix}", source, 1 if suffix in {".mkv", ".webm"} else 0.1)


@pytest.mark.parametrize("times", [PHONE, RANDOM], ids=["phone", "random"])
def test_the_boxes_of_an_mp4_hold_the_times_of_the_source(tmp_path: Path, times: tuple[int, ...]) -> None:
    source = make_film(tmp_path / "in.mp4", times, options=B_FRAMES)
    enhance_video(source, tmp_path / "out.mp4", Identity())
    expected = [(time - times[0]) / 1000 for time in times]
    first = boxed_times(source)[0]
    assert boxed_times(tmp_path / "out.mp4") == pytest.approx([first + t for t in expected], abs=1e-4)


@pytest.mark.examples(6)
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.avi"])
@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES, {"g": "1"}], ids=["plain", "b-frames", "key frames"])
@pytest.mark.parametrize("start", [0, 1, 10])
def test_frames_that_an_edit_list_hides_stay_hidden(tmp_path: Path, start: int, options: dict, target: str) -> None:
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
    # OpenCV gives the first frame of several edits a wrong time.
    assert times_of(tmp_path / "out.mp4") == pytest.approx(times_of(source), abs=1e-4)
    levels = [frame.level for frame in shown(source)]
    assert [frame.level for frame in shown(tmp_path / "out.mp4")] == pytest.approx(levels, abs=2)


def test_a_late_first_frame_is_late_in_the_result(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", range(700, 1500, 40), sound="aac")
    enhance_video(source, tmp_path / "out.mp4", Identity())
    assert boxed_times(tmp_path / "out.mp4")[0] == pytest.approx(0.7, abs=1e-3)
    assert_same_film(tmp_path / "out.mp4", source)


def test_the_last_frame_keeps_its_duration(tmp_path: Path) -> None:
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
def test_even_frames_survive_an_avi(tmp_path: Path, kind: str, suffix: str) -> None:
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


def test_the_times_of_the_result_start_at_zero(tmp_path: Path) -> None:
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


# Sound, subtitles and tags.


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
    # An AVI counts time in packets of sound.
    assert_in_step(target, source, 0.03 if after == ".avi" else 1.1e-3)


@pytest.mark.examples(2)
@pytest.mark.parametrize("delay", [0.4, 0.0])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_late_sound_is_late_in_the_result(tmp_path: Path, delay: float, target: str) -> None:
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
