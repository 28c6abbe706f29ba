"""``benchmarks.timed_training`` measures the steps of a training, and trains as long as it is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

from PIL import Image

from benchmarks import timed_training
from llie_preproc import build_enhancer
from tests.support.places import ROOT


@pytest.mark.slow(60)
def test_a_training_takes_the_given_time(tmp_path, monkeypatch):
    day = np.random.default_rng(0).integers(60, 220, (40, 40, 3), dtype=np.uint8)
    for folder in ("sice_part1_256", "lol_v1/our485/low", "lol_v1/our485/high"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.fromarray(day // (8 if folder.endswith("low") else 1)).save(tmp_path / folder / name)
    out = tmp_path / "out"
    options = ["train_dataloader.dataset.names=['1','2']", "train_dataloader.dataset.size=32"]
    monkeypatch.chdir(ROOT)
    words = [str(tmp_path), "--minutes", "0.5", "--only", "psenet", "--work-dir", str(out), "--set", *options]
    monkeypatch.setattr("sys.argv", ["timed_training", *words, "--out", str(tmp_path / "result.json")])
    timed_training.main()
    (row,) = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert row["steps"] >= 20
    assert 0 < row["seconds_per_step"] < 30
    assert 0 < row["iqa/ssim"] < 1
    log = timed_training.scalars(out / "psenet" / "run")
    assert max(entry.get("step", 0) for entry in log) == row["steps"]
    assert build_enhancer(f"psenet@{out / 'psenet/run/enhancer.safetensors'}").scale == 1


def test_a_failed_training_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["timed_training", str(tmp_path), "--minutes", "0.1", "--only", "psenet", "--work-dir", str(tmp_path)],
    )
    with pytest.raises(SystemExit, match=r"failed: psenet; see log\.txt in .*/<training>/probe"):
        timed_training.main()
    assert "llie: error" in (tmp_path / "psenet/probe/log.txt").read_text()
