"""Without PyAV, ``enhance_video`` uses OpenCV; it warns of what is lost, or refuses the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from llie_preproc.enhancers import Identity
from llie_preproc.errors import ImageError
from llie_preproc.video import enhance_video
from tests.support.command import Run
from tests.support.film_checks import PHONE, RANDOM, Counting, assert_same_film, without_pyav
from tests.support.films import box, edit, make_film


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
