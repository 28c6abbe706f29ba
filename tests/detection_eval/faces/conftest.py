"""What the tests of ``llie faces`` are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Result, Run
from tests.support.squares import SquareDetector, draw_pictures


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> SquareDetector:
    """The detector that every choice on the command line builds."""
    squares = SquareDetector()
    monkeypatch.setattr("detection_eval.faces.detectors.DetectorChoice._build_base", lambda self: squares)
    return squares


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of the pictures of squares."""
    return draw_pictures(tmp_path / "pictures")


@pytest.fixture
def undo(tmp_path: Path) -> str:
    """An enhancer that undoes a shift by 0.1."""
    (tmp_path / "undo.py").write_text("enhancer = dict(type='GammaCorrection', gamma=10.0)")
    return f"undo={tmp_path / 'undo.py'}"


@pytest.fixture
def faces(llie: Run) -> Run:
    """Runs ``llie faces`` on a data set."""

    def run(dataset: str, images: Path, out: Path, *arguments: object) -> Result:
        return llie("faces", "--dataset", dataset, "--images", images, "--out", out, *arguments)

    return run
