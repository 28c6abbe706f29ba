"""A small night-time detection set, made of real photographs.

Objects are cut out of scikit-image's photographs, scaled, turned and mirrored, and pasted on photographed textures. A
scene is then photographed at night. Every pixel's linear light is multiplied by an illumination with a few lamps:

    E(x) = ambient + sum_i c_i / (1 + |x - p_i|^2 / r_i^2)

The exposure is set in stops, shot noise and read noise are drawn, and the result is encoded as sRGB in 8 bits
(:func:`llie_preproc.ops.sensor.photograph`). A seed and an index determine a scene.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from llie_preproc.files import atomic_write
from llie_preproc.ops.sensor import Sensor, photograph
from llie_preproc.pictures import Picture, write_picture

from .photographs import sample

CLASSES = ("face", "cup", "cat", "shuttle", "motorcycle")
SIZE = 160
"""Height and width of a scene, in pixels."""

SENSOR = Sensor(full_well=1200.0, read_noise=2.5)
_STOPS = (-6.0, -3.0)
_BACKGROUNDS = ("brick", "grass", "gravel", "rocket", "coffee")
_TEXTURE_ONLY = {"coffee": (slice(0, 400), slice(490, 600))}
_LONGER_SIDE = (32, 76)
_TILT_DEGREES = 12.0
_MAX_OVERLAP = 0.15
_TRIES = 20


@dataclass(frozen=True)
class CutOut:
    """Object that is cut out of a photograph.

    Attributes:
        rgb: Pixels ``(H, W, 3)`` RGB uint8, cropped to the object.
        alpha: Opacity ``(H, W)`` float32 in [0, 1].
    """

    rgb: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Scene by day and at night.

    Attributes:
        day: Picture by day, ``(H, W, 3)`` RGB uint8.
        night: Picture of the same scene at night, of the same shape.
        boxes: Boxes of the objects, ``(n, 4)`` x1 y1 x2 y2 in pixels.
        labels: Class of each box, an index into :data:`CLASSES`.
    """

    day: np.ndarray
    night: np.ndarray
    boxes: np.ndarray
    labels: tuple[int, ...]


# Outlines in pixels of the photograph: ellipses (centre x, y, half axes) or a polygon.
_OUTLINES: dict[str, tuple[str, list]] = {
    "face": ("astronaut", [(226, 101, 72, 88)]),
    "cup": ("coffee", [(278, 228, 200, 154), (293, 100, 122, 84)]),
    "cat": ("chelsea", [(200, 150, 158, 148)]),
    "shuttle": (
        "astronaut",
        [[(402, 0), (437, 0), (454, 51), (455, 211), (455, 280), (394, 283), (354, 217), (383, 171), (385, 80)]],
    ),
    "motorcycle": (
        "motorcycle",
        [
            [
                (94, 193), (152, 152), (251, 218), (334, 185), (417, 160), (483, 152), (475, 86), (533, 78),
                (566, 136), (533, 202), (632, 276), (685, 384), (640, 453), (566, 417), (516, 334), (475, 318),
                (450, 367), (318, 384), (251, 400), (160, 392), (122, 318), (136, 251), (94, 226),
            ]
        ],
    ),
}  # fmt: skip


def cut_outs() -> list[CutOut]:
    """Cut out the objects, in the order of :data:`CLASSES`."""
    return [_cut_out(*_OUTLINES[name]) for name in CLASSES]


def night_scene(seed: int, index: int, objects: Sequence[CutOut]) -> Scene:
    """Make a scene of a set.

    Args:
        seed: Seed of the set.
        index: Index of the scene in the set.
        objects: Objects of :func:`cut_outs`.

    Examples:
        >>> scene = night_scene(seed=0, index=0, objects=cut_outs())
        >>> scene.night.shape, len(scene.boxes) == len(scene.labels)
        ((160, 160, 3), True)
    """
    rng = np.random.default_rng([seed, index])
    day = _background(rng).astype(np.float32)
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for label in rng.integers(len(objects), size=rng.integers(1, 5)):
        box = _paste(day, vary(objects[label], rng), boxes, rng)
        if box is not None:
            boxes.append(box)
            labels.append(int(label))
    upright = day.round().clip(0, 255).astype(np.uint8)
    night = photograph(upright, rng.uniform(*_STOPS), SENSOR, rng, lamps(rng))
    return Scene(upright, night, np.array(boxes, np.float32).reshape(-1, 4), tuple(labels))


def write_night_set(folder: Path, seed: int, count: int, by_day: bool = False) -> Path:
    """Write a set of scenes as PNG files, with ``annotations.json`` in COCO's format.

    Args:
        folder: Folder to write into, which is created if it is missing.
        seed: Seed of the set.
        count: Number of scenes.
        by_day: Whether to write the pictures by day instead of those at night.

    Returns:
        Path of the annotations.
    """
    objects = cut_outs()
    images: list[dict] = []
    annotations: list[dict] = []
    for index in tqdm(range(count), desc=f"scenes ({folder.name})", unit="scene"):
        scene = night_scene(seed, index, objects)
        name = f"{index:04d}.png"
        write_picture(folder / name, Picture(scene.day if by_day else scene.night))
        images.append({"id": index, "file_name": name, "width": SIZE, "height": SIZE})
        for box, label in zip(scene.boxes.tolist(), scene.labels, strict=True):
            annotations.append(_coco_annotation(len(annotations) + 1, index, box, label))
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    target = folder / "annotations.json"
    with atomic_write(target) as file:
        file.write(json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode())
    return target


def _coco_annotation(number: int, image: int, box: list[float], label: int) -> dict:
    x1, y1, x2, y2 = box
    size = [x2 - x1, y2 - y1]
    area = size[0] * size[1]
    return {"id": number, "image_id": image, "category_id": label, "bbox": [x1, y1, *size], "area": area, "iscrowd": 0}


def _cut_out(photograph_name: str, outlines: list) -> CutOut:
    image = sample(photograph_name)
    mask = np.zeros(image.shape[:2], np.uint8)
    for outline in outlines:
        if isinstance(outline, tuple):
            x, y, a, b = outline
            cv2.ellipse(mask, (x, y), (a, b), 0, 0, 360, 255, -1)
        else:
            cv2.fillPoly(mask, [np.array(outline, np.int32)], 255)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return CutOut(image[window], mask[window].astype(np.float32) / 255)


def vary(cut: CutOut, rng: np.random.Generator, longer_side: tuple[float, float] = _LONGER_SIDE) -> CutOut:
    """Scale an object to a random longer side in the range, in pixels, and tilt and mirror it at random."""
    scale = rng.uniform(*longer_side) / max(cut.alpha.shape)
    rgb, alpha = (cv2.resize(x, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for x in (cut.rgb, cut.alpha))
    height, width = alpha.shape
    side = int(np.ceil(np.hypot(height, width))) + 2
    to_middle = np.array([[0, 0, (side - width) / 2], [0, 0, (side - height) / 2]])
    tilt = rng.uniform(-_TILT_DEGREES, _TILT_DEGREES)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0) + to_middle
    rgb, alpha = (cv2.warpAffine(x, turn, (side, side), flags=cv2.INTER_LINEAR) for x in (rgb, alpha))
    return CutOut(rgb[:, ::-1], alpha[:, ::-1]) if rng.random() < 0.5 else CutOut(rgb, alpha)


def _paste(
    canvas: np.ndarray, cut: CutOut, others: Sequence[np.ndarray], rng: np.random.Generator
) -> np.ndarray | None:
    """Blend an object into ``canvas`` where it hides little of others; return its box, or None if it fits nowhere."""
    visible = cut.alpha > 0.5
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    size = extent[2:] - extent[:2]
    for _ in range(_TRIES):
        corner = rng.integers(0, SIZE - size, endpoint=True)
        box = np.concatenate([corner, corner + size])
        if all(_overlap(box, other) <= _MAX_OVERLAP for other in others):
            window = slice(extent[1], extent[3]), slice(extent[0], extent[2])
            alpha = cut.alpha[window][..., None]
            place = slice(box[1], box[3]), slice(box[0], box[2])
            canvas[place] = (1 - alpha) * canvas[place] + alpha * cut.rgb[window]
            return box
    return None


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Divide the common area of two boxes by the area of the smaller one."""
    common = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(common / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()))


def _background(rng: np.random.Generator) -> np.ndarray:
    """Cut a random piece from a photographed texture, and tint it: ``(SIZE, SIZE, 3)`` uint8."""
    name = str(rng.choice(_BACKGROUNDS))
    image = sample(name)[_TEXTURE_ONLY.get(name, ...)]
    side = int(rng.integers(min(image.shape[:2]) // 2, min(image.shape[:2]), endpoint=True))
    top, left = (int(rng.integers(0, n - side, endpoint=True)) for n in image.shape[:2])
    piece = cv2.resize(image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return (piece * rng.uniform(0.6, 1.0, 3)).astype(np.uint8)


def lamps(rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Draw an illumination ``E``, ``(size, size, 3)``, with 1 as its largest value."""
    y, x = np.mgrid[:size, :size] / size
    light = np.full((size, size, 3), rng.uniform(0.1, 0.4))
    for _ in range(rng.integers(1, 4)):
        centre, radius = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.15, 0.5)
        # Lamps are warmer than the white that the photographs were balanced for.
        colour = rng.uniform(0.5, 1.0) * np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.4, 1.0)])
        light += colour / (1 + ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)[..., None] / radius**2)
    return light / light.max()
