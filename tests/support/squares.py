"""Pictures of squares that are redder than their background, and a detector that takes them for faces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from llie_preproc.faces import Faces
from llie_preproc.pictures import Picture, write_picture

# Squares of a picture: left, top, right, bottom, the last pixel included. The second square has the weaker contrast.
SQUARES = {"a": [(10, 10, 29, 29), (60, 20, 89, 49)], "b": [(30, 40, 69, 79)], "c": []}
_STRONG, _WEAK, _GROUND = (220, 120, 110), (190, 130, 120), (120, 120, 110)


class SquareDetector:
    """A detector of patches that are redder than their background; redder patches get higher scores."""

    def __init__(self) -> None:
        self.seen = 0
        self.stop_after: int | None = None

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return [self._one(image.astype(int)) for image in images]

    def _one(self, image: np.ndarray) -> Faces:
        red = image[..., 0] - image[..., 1]
        count, _, boxes, _ = cv2.connectedComponentsWithStats((red > 20).astype(np.uint8))
        found = [(x, y, x + w, y + h, red[y + h // 2, x + w // 2]) for x, y, w, h, _ in boxes[1:count]]
        rows = np.array(found, np.float32).reshape(-1, 5)
        return Faces(rows[:, :4], np.minimum(0.75 + rows[:, 4] / 400, 0.999))


def draw_squares(path: Path, squares: Sequence[tuple[int, int, int, int]]) -> None:
    """Write a picture of these squares; the first, third, fifth and so on have the stronger contrast."""
    image = np.full((100, 120, 3), _GROUND, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(squares):
        image[y1 : y2 + 1, x1 : x2 + 1] = (_STRONG, _WEAK)[number % 2]
    write_picture(path, Picture(image))


def draw_pictures(folder: Path) -> Path:
    """Write a PNG file of each picture in ``SQUARES`` into ``folder``; returns the folder."""
    for name, squares in SQUARES.items():
        draw_squares(folder / f"{name}.png", squares)
    return folder


def score_values(out: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """The values of the scores in a sweep's ``results.json``, by enhancer and gamma."""
    rows = json.loads((out / "results.json").read_text())["rows"]
    return {(r["enhancer"], r["gamma"]): {name: s["value"] for name, s in r["scores"].items()} for r in rows}
