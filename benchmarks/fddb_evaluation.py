"""The time of this package's FDDB evaluation, against a plain evaluation that draws masks of whole pictures.

``python -m benchmarks.fddb_evaluation [--fddb DIR] [--boxes 2 50 200] [--plain 50] [--json FILE]``

Faces, picture sizes and detections are generated. There are as many faces and pictures as in FDDB. ``--fddb`` uses the
real annotations instead (``FDDB-folds`` and ``image_sizes.csv`` below DIR). ``--detections`` adds a row for saved
detections.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.fddb_evaluation")

import argparse
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from detection_eval.datasets.fddb import FddbDetections, FddbTruth, picture_sizes, read_detections, read_fddb
from detection_eval.metrics.fddb import fddb_roc

from .timing import machine, report, timed

_PICTURES, _FACES = 2845, 5171
Sizes = Mapping[str, tuple[int, int]]


def scene(seed: int = 0) -> tuple[FddbTruth, Sizes]:
    """Generated faces, and the sizes of their pictures: as many, as large and as crowded as in FDDB."""
    rng = np.random.default_rng(seed)
    of_picture = np.append(np.arange(_PICTURES), rng.integers(_PICTURES, size=_FACES - _PICTURES))
    names = [f"made/img_{at}" for at in range(_PICTURES)]
    sizes = {name: (450, 300) if rng.random() < 0.5 else (300, 450) for name in names}
    ellipses = {}
    for name, count in zip(names, np.bincount(of_picture).tolist(), strict=True):
        minor = np.exp(rng.normal(3.6, 0.5, count)).clip(8, 150)
        tilt = np.pi / 2 + rng.normal(0, 0.2, count)
        ellipses[name] = np.column_stack([1.45 * minor, minor, tilt, rng.random((count, 2)) * np.array(sizes[name])])
    return FddbTruth(ellipses, {name: 1 + at % 10 for at, name in enumerate(names)}), sizes


def found_in(truth: FddbTruth, boxes: int, seed: int = 1) -> dict[str, FddbDetections]:
    """``boxes`` rectangles in each picture with distinct scores; half of them lie near a face."""
    rng = np.random.default_rng(seed)
    return {name: _around(rng, faces, boxes) for name, faces in truth.ellipses.items()}


def _around(rng: np.random.Generator, faces: np.ndarray, boxes: int) -> FddbDetections:
    near = faces[rng.integers(len(faces), size=(boxes + 1) // 2)]
    sides = 2 * near[:, 1::-1] * rng.uniform(0.7, 1.4, (len(near), 2))
    centres = near[:, 3:] + rng.normal(0, 0.3, (len(near), 2)) * near[:, :1]
    far = rng.uniform(0, [400, 400, 150, 150], (boxes - len(near), 4))
    return FddbDetections(np.vstack([np.hstack([centres - sides / 2, sides]), far]), rng.random(boxes))


def plain(truth: FddbTruth, found: Mapping[str, FddbDetections], sizes: Sizes) -> float:
    """The total overlap, computed plainly: masks of picture size, and a new assignment for each score."""
    total = 0.0
    for name, faces in truth.ellipses.items():
        one, other = _masks(faces, sizes[name])[:, None], _masks(found[name].shapes, sizes[name])[None]
        iou = np.array([[(a & b).sum() / (a | b).sum() for b in other[0]] for a in one[:, 0]])
        for score in np.unique(found[name].scores)[::-1]:
            valid = iou[:, found[name].scores >= score]
            overlap = valid[linear_sum_assignment(valid, maximize=True)].sum()
        total += overlap
    return total


def _masks(shapes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(shapes), size[1], size[0]), np.uint8)
    for mask, shape in zip(masks, shapes, strict=True):
        if len(shape) == 4:
            left, top, right, bottom = np.rint([*shape[:2], *(shape[:2] + shape[2:])]).astype(int).tolist()
            cv2.rectangle(mask, (left, top), (right, bottom), 1, -1)
        else:
            centre = np.rint(shape[3:]).astype(int).tolist()
            cv2.ellipse(mask, centre, (int(shape[0]), int(shape[1])), float(np.rad2deg(shape[2])), 0, 360, 1, -1)
    return masks


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fddb", type=Path, metavar="DIR", help="folder of the real annotations")
    parser.add_argument("--detections", type=Path, metavar="PATH", help="saved detections in the pictures of --fddb")
    parser.add_argument(
        "--boxes", type=int, nargs="+", default=[2, 50, 200], help="numbers of generated detections in a picture"
    )
    parser.add_argument(
        "--plain", type=int, default=50, metavar="N", help="number of pictures for the plain evaluation"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    truth, sizes = scene() if args.fddb is None else _real(args.fddb)
    rows = [(f"made, {boxes} boxes a picture", found_in(truth, boxes)) for boxes in args.boxes]
    if args.detections is not None:
        rows.insert(0, ("saved detections", read_detections(args.detections)))
    result = {
        "what": f"{len(truth)} pictures, {truth.faces} faces; discrete and continuous ROC, one thread",
        "machine": machine(torch.device("cpu")),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "rows": [_row(title, truth, found, sizes, args.plain) for title, found in rows],
    }
    report(result, args.json)


def _real(folder: Path) -> tuple[FddbTruth, Sizes]:
    truth = read_fddb(folder / "FDDB-folds")
    return truth, picture_sizes(truth, table=folder / "image_sizes.csv")


def _row(
    title: str, truth: FddbTruth, found: Mapping[str, FddbDetections], sizes: Sizes, pictures: int
) -> dict[str, Any]:
    roc, elapsed = timed(lambda: fddb_roc(truth, found, sizes))
    names = [name for name in truth.ellipses if len(found[name])][:pictures]
    some = FddbTruth({name: truth.ellipses[name] for name in names}, {name: truth.folds[name] for name in names})
    few = {name: found[name] for name in names}
    own, ours = timed(lambda: fddb_roc(some, few, sizes))
    total, theirs = timed(lambda: plain(some, few, sizes))
    return {
        "detections": title,
        "number": int(roc.true_positives[0] + roc.false_positives[0]),
        "points": len(roc.thresholds),
        "seconds": round(elapsed, 2),
        f"plain_seconds_of_{len(names)}_pictures": round(theirs, 2),
        f"seconds_of_{len(names)}_pictures": round(ours, 3),
        "ratio": round(theirs / ours, 1),
        "difference_of_the_sums_of_overlaps": float(abs(total - own.overlap[0])),
    }
