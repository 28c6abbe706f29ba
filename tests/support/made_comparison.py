"""A comparison folder as ``llie compare`` leaves it, with detections made from the ground truth instead of by a
detector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("car", "person", "<b>dog & cat</b>")
SEEDS = (0, 1)
WIDTH, HEIGHT = 160, 120
# Probability that an annotated object is detected, and mean number of false detections in a picture.
_SKILL = {
    "raw": (0.5, 1.0),
    "gamma-zero-shot": (0.3, 1.5),
    "gamma-retrained": (0.8, 0.5),
    "upscale-retrained": (0.6, 1.0),
}
ROWS = (("none", "raw"), ("gamma", "zero-shot"), ("gamma", "retrained"), ("upscale", "retrained"))
ENHANCERS = {
    "gamma": {"type": "GammaCorrection", "gamma": 0.5, "checkpoint": "default"},
    "upscale": {"type": "Upscale", "scale": 2, "checkpoint": "default"},
}


def write_comparison(
    folder: Path, images: int = 20, seed: int = 0, light: dict | None = None, lights: Sequence[float] = ()
) -> Path:
    """Write pictures, plan, truth and finished cells, but no table; returns the comparison folder.

    Args:
        folder: Folder to write into.
        images: Number of pictures.
        seed: Seed of the pictures and of the detections.
        light: Axis of light of the plan.
        lights: Places on the axis, each with cells of its own.
    """
    rng = np.random.default_rng(seed)
    truth = _write_pictures(folder / "pictures", images, rng)
    out = folder / "out"
    write_cells(out, folder / "pictures", truth, CLASSES, rng, light, lights)
    return out


def write_cells(
    out: Path,
    pictures: Path,
    truth: dict,
    classes: tuple[str, ...],
    rng: np.random.Generator,
    light: dict | None = None,
    lights: Sequence[float] = (),
) -> None:
    """Write the plan, the truth and a finished cell for each row, seed and light, with detections from ``truth``."""
    places = [[each] for each in lights] or [[]]
    cells = [[enhancer, mode, seed, *place] for place in places for enhancer, mode in ROWS for seed in SEEDS]
    plan = dict(
        config="detector.py",
        image_root=str(pictures),
        classes=list(classes),
        enhancers=ENHANCERS,
        light=light,
        modes=["raw", "zero-shot", "retrained"],
        seeds=list(SEEDS),
        budget=dict(train_cfg=dict(max_epochs=12), batch_size=8),
        metrics=["coco"],
        resamples=50,
        bootstrap_seed=0,
        cells=cells,
        command="llie compare detector.py",
        versions=dict(torch="2.0", llie_preproc="0.1"),
        device="cpu",
    )
    write(out / "truth.json", truth)
    write(out / "comparison.json", plan)
    for enhancer, mode, seed, *place in cells:
        name = mode if enhancer == "none" else f"{enhancer}-{mode}"
        cell = out / "cells" / "-light".join([f"{name}-seed{seed}", *(f"{each:g}" for each in place)])
        write(cell / "detections.bbox.json", detections(truth, *_SKILL[name], rng))
        timing = dict(enhancer_ms=None if enhancer == "none" else 3.25, detector_ms=41.5, train_seconds=None)
        write(cell / "result.json", dict(timing=timing, checkpoint=None))


def detections(truth: dict, skill: float, false: float, rng: np.random.Generator) -> list[dict]:
    """Annotated boxes, each found with probability ``skill`` and moved a little, and random boxes.

    ``false`` is the mean number of random boxes in a picture.
    """
    found = []
    categories = [category["id"] for category in truth["categories"]]
    for box in truth["annotations"]:
        if rng.random() < skill:
            moved = np.array(box["bbox"]) * rng.normal(1, 0.04, 4)
            found.append(_detection(box["image_id"], box["category_id"], moved, rng.uniform(0.3, 1)))
    for image in truth["images"]:
        for _ in range(rng.poisson(false)):
            size = rng.uniform(0.1, 0.3, 2) * [image["width"], image["height"]]
            start = rng.uniform(0, 0.7, 2) * [image["width"], image["height"]]
            label = int(rng.choice(categories))
            found.append(_detection(image["id"], label, np.concatenate([start, size]), rng.uniform(0, 0.7)))
    return found


def write(path: Path, value: object) -> None:
    """Write a value as JSON; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _detection(image: int, category: int, box: np.ndarray, score: float) -> dict:
    return dict(image_id=image, category_id=category, bbox=box.tolist(), score=float(score))


def _write_pictures(folder: Path, count: int, rng: np.random.Generator) -> dict:
    """Write dark pictures with a rectangle for each object, none large by COCO's bounds; returns the truth."""
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        picture = rng.integers(0, int(rng.integers(8, 90)), (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for _ in range(int(rng.integers(1, 6))):
            width, height = (int(n) for n in rng.integers(16, 60, 2))
            left, top = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
            label = int(rng.integers(0, len(CLASSES)))
            picture[top : top + height, left : left + width] //= 2
            picture[top : top + height, left : left + width, label] += 60
            box = dict(bbox=[left, top, width, height], area=width * height, category_id=label + 1, iscrowd=0)
            annotations.append(dict(box, image_id=number, id=len(annotations) + 1))
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        images.append(dict(id=number, file_name=f"{number}.png", width=WIDTH, height=HEIGHT))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)
