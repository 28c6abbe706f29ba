"""``llie enhance`` of a video keeps frames, rate and colours, and refuses a damaged file by name."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from llie_preproc.enhancers import Enhancer
from llie_preproc.video import enhance_video
from tests.support.command import Run, one_line
from tests.support.films import plain_film
from tests.support.picture_files import files_below


def frames_of(path: Path) -> tuple[float, np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return capture.get(cv2.CAP_PROP_FPS), np.stack(frames)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
@pytest.mark.parametrize("rate", [24.0, 29.97])
def test_video_keeps_frames_rate_and_colours(llie: Run, tmp_path: Path, suffix: str, rate: float) -> None:
    source = plain_film(tmp_path / f"in{suffix}", rate=rate)
    target = tmp_path / "out" / f"v{suffix}"
    assert llie("enhance", source, "--out", target, "--enhancer", "Identity", "--batch-size", 3).code == 0
    (rate_in, frames_in), (rate_out, frames_out) = frames_of(source), frames_of(target)
    assert rate_out == pytest.approx(rate_in, abs=1e-3) == pytest.approx(rate, abs=1e-2)
    assert frames_out.shape == frames_in.shape
    # The frames are encoded twice, each time with loss.
    assert np.abs(frames_out.astype(int) - frames_in).mean() < 3
    assert files_below(tmp_path / "out") == [f"v{suffix}"]


def test_video_is_scaled_and_changes_container(llie: Run, tmp_path: Path) -> None:
    source = plain_film(tmp_path / "in.avi")
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Upscale").code == 0
    assert frames_of(tmp_path / "out.mp4")[1].shape == (7, 64, 96, 3)


def test_video_colours_are_not_swapped(tmp_path: Path) -> None:
    class Reddening(Enhancer):
        def forward(self, image: Tensor) -> Tensor:
            red = torch.zeros_like(image)
            red[:, 0] = 1
            return red

    enhance_video(plain_film(tmp_path / "in.avi"), tmp_path / "out.avi", Reddening())
    blue, _, red = frames_of(tmp_path / "out.avi")[1].mean(axis=(0, 1, 2))
    assert red > 240
    assert blue < 15


def damaged_video(kind: str, folder: Path) -> Path:
    whole = plain_film(folder / "whole.avi", frames=40).read_bytes()
    if kind == "no frame":
        return plain_film(folder / "bad.avi", frames=0)
    path = folder / ("bad.mp4" if kind == "text" else "bad.avi")
    path.write_bytes({"empty": b"", "text": b"I am a text", "short": whole[: len(whole) * 3 // 4]}[kind])
    return path


@pytest.mark.parametrize(("kind", "reason"), [("empty", "empty"), ("text", "open"), ("no frame", "open|no frame")])
def test_damaged_videos_are_refused(llie: Run, tmp_path: Path, kind: str, reason: str) -> None:
    source = damaged_video(kind, tmp_path)
    result = llie("enhance", source, "--out", tmp_path / "out" / source.name, "--enhancer", "Identity")
    one_line(result, str(source))
    assert re.search(reason, result.err)
    assert not (tmp_path / "out").exists() or files_below(tmp_path / "out") == []


def test_a_video_that_ends_short_is_an_error(llie: Run, tmp_path: Path) -> None:
    result = llie(
        "enhance", damaged_video("short", tmp_path), "--out", tmp_path / "out" / "v.avi", "--enhancer", "Identity"
    )
    one_line(result, "bad.avi", "of 40 frames")
    assert files_below(tmp_path / "out") == []


def test_wrong_or_existing_results_of_a_video_are_refused(llie: Run, tmp_path: Path) -> None:
    source = plain_film(tmp_path / "in.mp4")
    before = source.read_bytes()
    one_line(llie("enhance", source, "--out", source, "--enhancer", "Identity", "--overwrite"), "is an input")
    one_line(
        llie("enhance", source, "--out", tmp_path / "out.wmv", "--enhancer", "Identity"), "out.wmv", ".avi", ".mp4"
    )
    one_line(llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", "Identity"), "out.png")
    one_line(
        llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--format", "png"), "--format"
    )
    assert source.read_bytes() == before
    (tmp_path / "out.mp4").write_bytes(b"old")
    one_line(llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity"), "out.mp4", "--resume")
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--resume").code == 0
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--overwrite").code == 0
    assert len(frames_of(tmp_path / "out.mp4")[1]) == 7
