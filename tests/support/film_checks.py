"""Checks of a video's times, levels and sound against those of its source."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

from llie_preproc import video
from llie_preproc.enhancers import Identity
from tests.support.films import packets_of, shown

PHONE = tuple([round(1000 * i / 30) for i in range(30)] + [1000 + 100 * i for i in range(30)])
"""Times in milliseconds of 30 frames at 30 per second and 30 more at 10 per second, as in a phone's video."""
RANDOM = tuple(int(t) for t in np.cumsum(np.random.default_rng(0).integers(1, 250, 40)))
"""Times in milliseconds of frames at irregular distances."""


class Counting(Identity):
    """An enhancer that changes nothing; it counts its calls and keeps the largest number of pictures in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.together = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls, self.together = self.calls + 1, max(self.together, len(image))
        return image


def assert_same_film(target: Path, source: Path, milliseconds: float = 0.1) -> None:
    """Assert that OpenCV shows the same frames at the same times, from the first frame on."""
    expected, found = shown(source), shown(target)
    assert len(found) == len(expected) > 0
    assert np.abs(np.subtract([f.time for f in found], [f.time for f in expected])).max() <= milliseconds
    off = np.subtract([f.level for f in found], [f.level for f in expected])
    # A codec's bias is the same for all frames; a wrong frame would be 4 levels off.
    assert np.abs(off).max() < 4
    assert np.abs(off - np.median(off)).max() < 2


def assert_in_step(target: Path, source: Path, seconds: float = 1.1e-3) -> None:
    """Assert that the sound has the source's bytes, and begins as long after the first frame as in the source."""
    before, after = packets_of(source, "audio"), packets_of(target, "audio")
    # Containers cut uncoded samples into packets of different sizes, so the packets are joined first.
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


def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide PyAV, so that OpenCV reads and writes the videos."""
    real = video.find_spec
    monkeypatch.setattr(video, "find_spec", lambda name: None if name == "av" else real(name))
