"""Fixtures of the tests of ``llie faces``: pictures of coloured squares, their detector, an enhancer, the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Result, Run
from tests.support.squares import SquareDetector, draw_pictures


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> SquareDetector:
    """A detector of coloured squares, which the command builds whatever ``--detector`` says."""
    squares = SquareDetector()
    monkeypatch.setattr("detection_eval.faces.detectors.DetectorChoice._build_base", lambda self: squares)
    return squares


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures of coloured squares."""
    return draw_pictures(tmp_path / "pictures")


@pytest.fixture
def undo(tmp_path: Path) -> str:
    """The value of ``--enhancer`` for an enhancer that undoes a shift by gamma 0.1."""
    (tmp_path / "undo.py").write_text("enhancer = dict(type='GammaCorrection', gamma=10.0)")
    return f"undo={tmp_path / 'undo.py'}"


@pytest.fixture
def faces(llie: Run) -> Run:
    """A function that runs ``llie faces`` on a data set."""

    def run(dataset: str, images: Path, out: Path, *arguments: object) -> Result:
        return llie("faces", "--dataset", dataset, "--images", images, "--out", out, *arguments)

    return run
