"""``enhance_video`` keeps the frames' orientation, size, colours, depth and shape of pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from torch import Tensor

from llie_preproc.enhancers import Identity, Upscale
from llie_preproc.video import enhance_video
from tests.support.command import Run
from tests.support.film_checks import PHONE, assert_in_step, assert_same_film
from tests.support.films import grey, make_film


def turned(path: Path, degrees: int, **options: Any) -> Path:
    """A video whose pictures have a bright corner; its metadata tells players to turn it."""

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
    """A video of one colour, coded by hand."""
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
    """An enhancer that changes nothing and keeps the mean colour of its last picture."""

    def forward(self, image: Tensor) -> Tensor:
        self.seen = 255 * image.mean(dim=(0, 2, 3)).numpy()
        return image


def assert_colour(path: Path, matrix: int) -> None:
    """Assert the colour by the formulas, from the levels and tags of the last frame."""
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
def test_10_bit_frames_keep_their_depth_or_the_loss_is_reported(tmp_path: Path, suffix: str, depth: int) -> None:
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


def test_lost_hdr_and_interlacing_are_reported(tmp_path: Path) -> None:
    def hdr(stream: Any) -> None:
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 18, 9
        stream.codec_context.colorspace = 9

    source = make_film(tmp_path / "in.mp4", prepare=hdr)
    assert any("HLG" in sentence for sentence in enhance_video(source, tmp_path / "a.mp4", Identity()).lost)
    source = make_film(tmp_path / "i.mp4", options={"x264-params": "tff=1"})
    assert any("interlaced" in sentence for sentence in enhance_video(source, tmp_path / "b.mp4", Identity()).lost)


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    def anamorphic(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        stream.set_display_rotation(90)

    source = make_film(tmp_path / "in.mp4", prepare=anamorphic)
    for name, ignore, expected in (("a.mp4", True, Fraction(16, 11)), ("b.mp4", False, Fraction(11, 16))):
        enhance_video(source, tmp_path / name, Identity(), ignore_orientation=ignore)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected
