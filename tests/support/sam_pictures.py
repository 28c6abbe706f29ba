"""Pictures for ``llie sam``, boxes in them, and the scores of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llie_preproc.pictures import Picture, write_picture

# These options ask for few points and filter nothing, because a SAM with random weights is sure of nothing.
FAST = ["--generator", "points_per_side=3", "pred_iou_thresh=0", "stability_score_thresh=0", "box_nms_thresh=0.99"]
SIZE = (48, 64)
BOXES = {"a": [(8, 6, 31, 29), (40, 20, 55, 43)], "b": [(10, 10, 40, 40)], "sub/c": []}


def draw_rectangles(path: Path, seed: int, repeat: int = 1) -> None:
    """Write a picture of three rectangles on an even ground, each pixel ``repeat`` times in both directions."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), rng.integers(10, 60, 3), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, 30, 2)
        image[y : y + 18, x : x + 25] = rng.integers(0, 255, 3)
    write_picture(path, Picture(image.repeat(repeat, 0).repeat(repeat, 1)))


def read_scores(out: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The content of a run's ``results.json``, and the values of its scores by enhancer."""
    results = json.loads((out / "results.json").read_text())
    return results, {
        row["enhancer"]: {name: each["value"] for name, each in row["scores"].items()} for row in results["rows"]
    }
