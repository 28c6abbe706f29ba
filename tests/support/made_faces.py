"""A made face set: small real faces of many sizes, and as many patches without a face, pasted on photographs.

The training part and the test part share no face, no patch and no photograph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from skimage import data

SIDE = 96
WIDTHS = (20, 60)
"""Smallest and largest width of a face in pixels; its height is a third more."""
_HEIGHT = 4 / 3
# Each part's share of scikit-image's hundred faces and hundred patches of 25x25 pixels.
_PARTS = {"train": slice(0, 70), "test": slice(70, 100)}
_GROUNDS = {
    "train": ("brick", "grass", "coffee", "coins", "immunohistochemistry"),
    "test": ("gravel", "rocket", "hubble_deep_field", "retina", "page"),
}


def write_faces(folder: Path, part: str, count: int, seed: int = 0) -> Path:
    """Write ``count`` pictures and ``annotations.json`` (COCO) into ``folder``; returns that file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, list(_PARTS).index(part)))
    patches = (255 * data.lfw_subset()).astype(np.uint8)
    faces, others = patches[:100][_PARTS[part]], patches[100:][_PARTS[part]]
    grounds = [_colour(getattr(data, name)()) for name in _GROUNDS[part]]
    images, annotations = [], []
    for number in range(1, count + 1):
        picture, boxes = _scene(rng, grounds, faces, others)
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), picture)
        images.append(dict(id=number, file_name=name, width=SIDE, height=SIDE))
        for x, y, w, h in boxes:
            box = dict(bbox=[x, y, w, h], area=w * h, image_id=number, category_id=1, iscrowd=0)
            annotations.append(dict(box, id=len(annotations) + 1))
    path = folder / "annotations.json"
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="face")])
    path.write_text(json.dumps(content))
    return path


def _scene(
    rng: np.random.Generator, grounds: Sequence[np.ndarray], faces: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, list[list[int]]]:
    """A picture with one to three faces, as many patches without one, and the faces' boxes (x, y, width, height)."""
    picture = _ground(rng, grounds[rng.integers(len(grounds))])
    number = int(rng.integers(1, 4))
    taken: list[list[int]] = []
    boxes: list[list[int]] = []
    for index in range(2 * number):
        patch = (faces if index < number else others)[rng.integers(len(faces))]
        place = _free_place(rng, taken)
        if place is None:
            continue
        taken.append(place)
        boxes += [place] if index < number else []
        _paste(rng, picture, patch, place)
    return picture, boxes


def _free_place(rng: np.random.Generator, taken: list[list[int]]) -> list[int] | None:
    """A place (x, y, width, height) that overlaps none of ``taken``; None if 30 tries find no room.

    The logarithm of the width is uniform between those of :data:`WIDTHS`.
    """
    for _ in range(30):
        width = round(float(np.exp(rng.uniform(*np.log(WIDTHS)))))
        height = round(width * _HEIGHT)
        x, y = int(rng.integers(0, SIDE - width + 1)), int(rng.integers(0, SIDE - height + 1))
        if all(x + width <= a or a + c <= x or y + height <= b or b + d <= y for a, b, c, d in taken):
            return [x, y, width, height]
    return None


def _paste(rng: np.random.Generator, picture: np.ndarray, patch: np.ndarray, place: list[int]) -> None:
    x, y, width, height = place
    patch = patch[:, ::-1] if rng.random() < 0.5 else patch
    grey = cv2.resize(np.ascontiguousarray(patch), (width, height), interpolation=cv2.INTER_LINEAR)
    tint = rng.uniform(0.7, 1.0, 3) * rng.uniform(0.8, 1.1)
    picture[y : y + height, x : x + width] = (grey[..., None] * tint).clip(0, 255)


def _ground(rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
    side = int(rng.integers(SIDE // 2, min(photograph.shape[:2]) + 1))
    y, x = (int(rng.integers(0, length - side + 1)) for length in photograph.shape[:2])
    window = cv2.resize(photograph[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return (window * rng.uniform(0.5, 1.0)).astype(np.uint8)


def _colour(photograph: np.ndarray) -> np.ndarray:
    """The photograph as ``(H, W, 3)`` BGR."""
    if photograph.ndim == 2:
        return np.repeat(photograph[..., None], 3, axis=2)
    return np.ascontiguousarray(photograph[..., 2::-1])
