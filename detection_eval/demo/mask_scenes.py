"""Scenes with a mask of every object, made of real photographs, by day and at night.

Objects are pasted over each other on photographed textures. Some are the cut-outs of
:mod:`~detection_eval.demo.night_scenes`. The others are random blobs, ellipses and polygons, filled with pieces of
scikit-image's photographs. A mask is the visible part of an object. Outlines are random and objects hide parts of each
other, so that the box of an object does not determine its mask. At night
:func:`~detection_eval.demo.night_scenes.lamps` light the scene. A seed and an index determine a scene.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from llie_preproc.files import atomic_write
from llie_preproc.ops.sensor import photograph
from llie_preproc.pictures import Picture, write_picture

from .night_scenes import SENSOR, CutOut, cut_outs, lamps, vary
from .photographs import sample

SIZE = 128
"""Height and width of a scene, in pixels, unless another is asked for."""

DAY, ANNOTATIONS = "day", "annotations.json"

_ZOOM = (1.0, 3.0)
_CUT_OUTS = 0.2
_LONGER_SIDE = (0.3, 0.65)
_LARGEST = 3 / 4
_LEAST_VISIBLE, _LEAST_PIXELS = 0.5, 40
_TRIES = 20
_FINE = 4


@dataclass(frozen=True)
class Material:
    """Material of surfaces.

    Attributes:
        photographs: Names of photographs (:func:`~detection_eval.demo.photographs.sample`) that pieces are cut from.
        gain: Range of a random factor of all channels.
        least_tint: Least random factor of each single channel; the largest is 1.
    """

    photographs: tuple[str, ...]
    gain: tuple[float, float]
    least_tint: float


_BACKGROUND = Material(("brick", "camera", "grass", "gravel", "immunohistochemistry", "moon"), (0.7, 1.3), 0.8)
# Objects have stronger colours than the background, as most real objects do.
_FILLING = Material(
    (
        "astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "immunohistochemistry", "motorcycle",
    ),
    (0.8, 1.6),
    0.25,
)  # fmt: skip


@dataclass(frozen=True)
class MaskScene:
    """Scene by day.

    Attributes:
        day: Picture ``(H, W, 3)`` RGB uint8.
        masks: Disjoint masks ``(n, H, W)`` bool of the objects, from the hindmost to the foremost.
    """

    day: np.ndarray
    masks: np.ndarray


def mask_scene(
    seed: int,
    index: int,
    size: int = SIZE,
    *,
    objects: tuple[int, int] = (2, 4),
    longer_side: tuple[float, float] | None = None,
) -> MaskScene:
    """Make a scene of a set.

    Args:
        seed: Seed of the set.
        index: Index of the scene in the set.
        size: Height and width in pixels.
        objects: Least and largest number of objects. Half of each object, and at least 40 of its pixels, stay visible;
            an object that would hide more of others is left out.
        longer_side: Range of the longer side of an object, in pixels; by default 0.3 to 0.65 of ``size``.

    Raises:
        ValueError: A range is empty, or the longer side could be below 8 pixels or above 3/4 of the scene.

    Examples:
        >>> scene = mask_scene(seed=0, index=0, size=64)
        >>> scene.day.shape, scene.masks.shape[1:]
        ((64, 64, 3), (64, 64))
    """
    shortest, longest = longer_side or (size * _LONGER_SIDE[0], size * _LONGER_SIDE[1])
    if not 8 <= shortest <= longest <= size * _LARGEST:
        raise ValueError(
            f"longer_side must rise from at least 8 to at most {size * _LARGEST:g} pixels, 3/4 of a scene of {size}; "
            f"got {shortest:g} to {longest:g}"
        )
    if not 1 <= objects[0] <= objects[1]:
        raise ValueError(f"objects must rise from at least 1, got {objects[0]} to {objects[1]}")
    rng = np.random.default_rng([seed, index])
    day = _texture(_BACKGROUND, (size, size), rng).astype(np.float32)
    owner = np.full((size, size), -1)
    areas: list[int] = []
    for _ in range(rng.integers(objects[0], objects[1], endpoint=True)):
        _paste(day, owner, areas, _object(rng, (shortest, longest)), rng)
    return MaskScene(day.round().clip(0, 255).astype(np.uint8), owner == np.arange(len(areas))[:, None, None])


def at_night(scene: MaskScene, stops: float, seed: int, index: int) -> np.ndarray:
    """Photograph a scene by the light of lamps, which are the same at all exposures of the scene.

    Args:
        scene: Scene by day.
        stops: Exposure in EV.
        seed: Seed of the set.
        index: Index of the scene in the set.

    Returns:
        Picture ``(H, W, 3)`` RGB uint8.
    """
    rng = np.random.default_rng([seed, index, 1])
    return photograph(scene.day, stops, SENSOR, rng, lamps(rng, len(scene.day)))


def write_mask_set(
    folder: Path, seed: int, count: int, stops: Sequence[float] = (-2.0, -4.0, -6.0), size: int = SIZE
) -> Path:
    """Write a set of scenes: PNG files by day and at each exposure, and masks in COCO's format.

    The pictures are written to ``day`` and to a folder for each exposure, such as ``ev-2``, with the same names.

    Args:
        folder: Folder to write into.
        seed: Seed of the set.
        count: Number of scenes.
        stops: Exposures in EV, all below 0.
        size: Height and width of a scene in pixels.

    Returns:
        Path of ``annotations.json``, whose masks are compressed run lengths.

    Raises:
        ValueError: ``count`` is below 1, or an exposure is not below 0.
        MissingExtraError: pycocotools is not installed.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if wrong := [f"{ev:g}" for ev in stops if not ev < 0]:
        raise ValueError(f"stops must be below 0, got {', '.join(wrong)}")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(count), desc=f"mask scenes ({folder.name})", unit="scene"):
        scene = mask_scene(seed, index, size)
        name = f"{index:04d}.png"
        write_picture(folder / DAY / name, Picture(scene.day))
        for ev in stops:
            write_picture(folder / f"ev{ev:g}" / name, Picture(at_night(scene, ev, seed, index)))
        images.append({"id": index, "file_name": name, "width": size, "height": size})
        for mask in scene.masks:
            annotations.append(_coco_annotation(len(annotations) + 1, index, mask))
    categories = [{"id": 1, "name": "object"}]
    target = folder / ANNOTATIONS
    with atomic_write(target) as file:
        file.write(json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode())
    return target


def _coco_annotation(number: int, image: int, mask: np.ndarray) -> dict[str, Any]:
    from ..metrics.masks import encode_masks, mask_boxes

    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": mask_boxes(mask[None])[0].tolist(),
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": encode_masks(mask[None])[0],
    }


def _object(rng: np.random.Generator, longer_side: tuple[float, float]) -> CutOut:
    """Make an object with a longer side in the range; the tilt of a cut-out can lengthen it up to 1.2 times."""
    if rng.random() < _CUT_OUTS:
        known = _cut_outs()
        return vary(known[rng.integers(len(known))], rng, longer_side)
    alpha = _shape(rng, rng.uniform(*longer_side))
    return CutOut(_texture(_FILLING, alpha.shape, rng), alpha)


@lru_cache
def _cut_outs() -> list[CutOut]:
    return cut_outs()


def _shape(rng: np.random.Generator, side: float) -> np.ndarray:
    """Fill a random outline: ``(h, w)`` float32 in [0, 1] with ``max(h, w)`` equal to ``side``, rounded."""
    turn = rng.uniform(0, 2 * np.pi)
    turned = _outline(rng) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corner, extent = turned.min(axis=0), np.ptp(turned, axis=0)
    width, height = np.maximum(np.rint(extent / extent.max() * side), 4).astype(int)
    fine = np.zeros((height * _FINE, width * _FINE), np.uint8)
    points = (turned - corner) / extent * [width * _FINE - 1, height * _FINE - 1]
    cv2.fillPoly(fine, [points.round().astype(np.int32)], 255)
    return cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _outline(rng: np.random.Generator) -> np.ndarray:
    """Draw the outline, ``(n, 2)`` points, of a blob, an ellipse or a polygon around the origin. It may be concave."""
    kind = rng.choice(["blob", "ellipse", "polygon"], p=[0.4, 0.15, 0.45])
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.ones_like(angles)
    squeeze = rng.uniform(0.4, 1.0)
    if kind == "blob":
        for wave in range(2, 7):
            radii += rng.normal(0, 0.7 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
        radii = radii.clip(0.2)
    elif kind == "polygon":
        count = int(rng.integers(3, 10))
        angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
        radii = rng.uniform(0.25, 1.0, count)
    return np.stack([radii * np.cos(angles), squeeze * radii * np.sin(angles)], axis=1)


def _texture(material: Material, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Cut a random piece from one of the photographs, and mirror and tint it: ``(*shape, 3)`` uint8."""
    image = sample(str(rng.choice(material.photographs)))
    zoom = rng.uniform(*_ZOOM)
    height, width = (math.ceil(side * zoom) for side in shape)
    lacking = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
    # A small photograph is continued by its mirror image, so that the grain does not depend on the scene's size.
    image = np.pad(image, [(0, lacking[0]), (0, lacking[1]), (0, 0)], mode="symmetric") if any(lacking) else image
    top = int(rng.integers(0, image.shape[0] - height, endpoint=True))
    left = int(rng.integers(0, image.shape[1] - width, endpoint=True))
    piece = image[top : top + height, left : left + width]
    piece = cv2.resize(piece, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)[:: rng.choice([-1, 1])]
    tint = rng.uniform(*material.gain) * rng.uniform(material.least_tint, 1.0, 3)
    return (piece * tint).clip(0, 255).astype(np.uint8)


def _paste(day: np.ndarray, owner: np.ndarray, areas: list[int], cut: CutOut, rng: np.random.Generator) -> None:
    """Blend an object into ``day``, at a place where enough of the earlier objects stays visible."""
    inside = cut.alpha > 0.5
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    cropped = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, alpha = inside[cropped], cut.alpha[cropped][..., None]
    least = [max(_LEAST_PIXELS, _LEAST_VISIBLE * area) for area in areas]
    for _ in range(_TRIES):
        top = int(rng.integers(0, owner.shape[0] - inside.shape[0], endpoint=True))
        left = int(rng.integers(0, owner.shape[1] - inside.shape[1], endpoint=True))
        window = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
        hidden = np.bincount(owner[window][inside] + 1, minlength=len(areas) + 1)[1:]
        visible = np.bincount(owner.ravel() + 1, minlength=len(areas) + 1)[1:] - hidden
        if (visible >= least).all():
            day[window] += alpha * (cut.rgb[cropped] - day[window])
            owner[window][inside] = len(areas)
            areas.append(int(inside.sum()))
            return
