"""The time of this package's detection scores and intervals, beside the time of pycocotools on the same data.

``python -m benchmarks.detection_scores [--images 548] [--boxes 500] [--objects 70] [--resamples 1000] [--json FILE]``
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.detection_scores")

import argparse
import contextlib
import io
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import torch

from detection_eval.metrics.bootstrap import intervals
from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.visdrone import VisDroneScores

from .timing import machine, report, timed

# These are roughly the shares of VisDrone's ten classes in its annotations.
_SHARES = np.array([0.23, 0.08, 0.03, 0.42, 0.07, 0.04, 0.014, 0.009, 0.017, 0.09])
_SIZE = np.array([1360, 765])
_FOUND = 0.3


def scene(images: int, objects: int, boxes: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random annotations with ``visdrone_rows``, and ``boxes`` random detections in each image, best first.

    Three in ten detections lie near an object. Their scores tend to be higher.
    """
    rng = np.random.default_rng(seed)
    shares = _SHARES / _SHARES.sum()
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 11)],
    }
    detections = []
    for image in range(1, images + 1):
        there, labels = _boxes(rng, objects), rng.choice(10, objects, p=shares) + 1
        evaluated = rng.random(objects) > 0.03
        for box, label, counts in zip(there.tolist(), labels.tolist(), evaluated.tolist(), strict=True):
            entry = dict(id=len(truth["annotations"]) + 1, image_id=image, category_id=label, bbox=box)
            truth["annotations"].append(entry | {"area": box[2] * box[3], "iscrowd": int(not counts)})
        rows = [[*box, int(e), k, 0, 0] for box, e, k in zip(there.tolist(), evaluated, labels.tolist(), strict=True)]
        rows.append([50.0, 50.0, 200.0, 80.0, 0, 0, 0, 0])
        truth["images"].append(dict(id=image, width=int(_SIZE[0]), height=int(_SIZE[1]), visdrone_rows=rows))

        near = rng.integers(objects, size=int(_FOUND * boxes))
        moved = there[near] + rng.normal(0, 0.1, (len(near), 4)) * there[near][:, [2, 3, 2, 3]]
        moved[:, 2:] = np.maximum(moved[:, 2:], 1)
        far = boxes - len(near)
        found = np.concatenate([moved, _boxes(rng, far)])
        kinds = np.concatenate([labels[near], rng.choice(10, far, p=shares) + 1])
        scores = np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1.2, 5, far)])
        for at in np.argsort(-scores):
            entry = dict(image_id=image, category_id=int(kinds[at]), bbox=found[at].tolist())
            detections.append(entry | {"score": float(scores[at])})
    return truth, detections


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sides = np.exp(rng.normal(3.4, 0.7, (count, 1))) * np.exp(rng.normal(0, 0.3, (count, 2)))
    return np.concatenate([rng.uniform(0, 1, (count, 2)) * (_SIZE - 50), sides], axis=1)


def peer(truth: dict[str, Any], detections: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, float]]:
    """The first six numbers of pycocotools with MMDetection's settings, and the seconds of its steps."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = pycocotools.coco.COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = pycocotools.cocoeval.COCOeval(coco, coco.loadRes([dict(each) for each in detections]), "bbox")
        evaluation.params.maxDets = [100, 300, 1000]
        steps = {name: timed(getattr(evaluation, name))[1] for name in ("evaluate", "accumulate", "summarize")}
    return evaluation.stats[:6], steps


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=548)
    parser.add_argument("--boxes", type=int, default=500)
    parser.add_argument("--objects", type=int, default=70)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    truth, detections = scene(args.images, args.objects, args.boxes)

    ours: dict[str, float] = {}
    coco, ours["coco_match"] = timed(lambda: CocoScores(truth, detections))
    values, ours["coco_values"] = timed(coco.values)
    visdrone, ours["visdrone_match"] = timed(lambda: VisDroneScores(truth, detections))
    _, ours["visdrone_values"] = timed(visdrone.values)
    _, ours["coco_interval"] = timed(lambda: intervals([coco], args.resamples))
    _, ours["visdrone_interval"] = timed(lambda: intervals([visdrone], args.resamples))
    expected, steps = peer(truth, detections)
    added, theirs = sum(ours.values()), sum(steps.values())
    result = {
        "what": f"{args.images} images, {args.objects} objects and {args.boxes} detections each, 10 classes; "
        f"{args.resamples} resamples",
        "machine": machine(torch.device("cpu")),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pycocotools_seconds": {name: round(each, 2) for name, each in steps.items()},
        "ours_seconds": {name: round(each, 2) for name, each in ours.items()},
        "pycocotools_total": round(theirs, 2),
        "ours_total": round(added, 2),
        "added_share_of_pycocotools": round(added / theirs, 3),
        "largest_difference_of_ap": float(np.abs(np.array(list(values.values())) - expected).max()),
    }
    report(result, args.json)
