"""Pairs of pictures in two folders whose suffixes may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from llie_preproc.pictures import paired_files


def files(folder: Path, *names: str) -> Path:
    """A folder with empty files."""
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_a_reference_is_not_that_of_two_inputs(tmp_path: Path) -> None:
    high = files(tmp_path / "high", "1.png", "2.jpg", "2.b.jpg")
    low = files(tmp_path / "low", "1.png", "2.webp", "2.b.png")
    pairs = {path.name: target.name for path, target in paired_files(low, high)}
    assert pairs == {"1.png": "1.png", "2.webp": "2.jpg", "2.b.png": "2.b.jpg"}
    # Either of these could be the one that belongs to 1.png.
    (low / "1.webp").touch()
    with pytest.raises(FileNotFoundError, match=r"low/1\.webp has no pair: there is no file .*high/1\.webp"):
        paired_files(low, high)
