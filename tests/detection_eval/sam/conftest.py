"""Fixtures of the tests of ``llie sam``: pictures with boxes, an enhancer, and the command with a small SAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.command import Result, Run
from tests.support.sam_pictures import BOXES, draw_rectangles


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three pictures, one of them in a subfolder."""
    for number, name in enumerate(BOXES):
        draw_rectangles(tmp_path / "pictures" / f"{name}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with the boxes in DARK FACE's format."""
    for name, boxes in BOXES.items():
        path = tmp_path / "texts" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([str(len(boxes)), *(" ".join(map(str, box)) for box in boxes)]))
    return tmp_path / "texts"


@pytest.fixture
def brighter(tmp_path: Path) -> str:
    """The value of ``--enhancer`` for an enhancer that brightens."""
    (tmp_path / "brighter.py").write_text("enhancer = dict(type='GammaCorrection', gamma=0.5)")
    return f"brighter={tmp_path / 'brighter.py'}"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A list that gets the shape of each picture that SAM encodes."""
    from llie_preproc.segmentation import EnhancedSamPredictor

    shapes = []
    plain = EnhancedSamPredictor.set_image

    def count(self: EnhancedSamPredictor, image: np.ndarray, *arguments: object) -> None:
        shapes.append(image.shape)
        return plain(self, image, *arguments)

    monkeypatch.setattr(EnhancedSamPredictor, "set_image", count)
    return shapes


@pytest.fixture
def sam(llie: Run) -> Run:
    """A function that runs ``llie sam`` with a small SAM of random weights."""

    def run(images: Path, out: Path, *arguments: object) -> Result:
        return llie("sam", "--images", images, "--out", out, "--sam", "small", *arguments)

    return run
