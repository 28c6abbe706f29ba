"""Generated scenes with detections, and their scores by pycocotools."""

from __future__ import annotations

import copy

import numpy as np

VISDRONE = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor"
)  # fmt: skip


def made_scene(seed, images=4, classes=3, objects=6, found=12, crowd=0.15, distinct=False, gap=1):
    """COCO annotations of random boxes, and detections, most of them near an annotated box.

    Coordinates are whole pixels, so that some overlaps are equal.
    """
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": gap * i + 3, "width": 300, "height": 200, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(classes)],
        "annotations": [],
    }
    detections = []
    for image in truth["images"]:
        boxes = random_boxes(rng, int(rng.integers(0, objects + 1)))
        labels = rng.integers(1, classes + 1, len(boxes))
        for box, label in zip(boxes, labels, strict=True):
            truth["annotations"].append(
                dict(
                    id=len(truth["annotations"]) + 1,
                    image_id=image["id"],
                    category_id=int(label),
                    bbox=box.tolist(),
                    area=float(box[2] * box[3]),
                    iscrowd=int(rng.random() < crowd),
                )
            )
        for _ in range(int(rng.integers(0, found + 1))):
            near = len(boxes) and rng.random() < 0.7
            at = int(rng.integers(len(boxes))) if near else 0
            box = boxes[at] + rng.integers(-4, 5, 4) * (rng.random() < 0.7) if near else random_boxes(rng, 1)[0]
            label = labels[at] if near and rng.random() < 0.9 else rng.integers(1, classes + 1)
            score = rng.random() if distinct else rng.integers(0, 8) / 8
            box = np.maximum(box, [-5.0, -5.0, 0.0, 0.0])
            detections.append(dict(image_id=image["id"], category_id=int(label), bbox=box.tolist(), score=float(score)))
    return truth, detections


def random_boxes(rng, count):
    """``(count, 4)`` left, top, width and height of boxes of many sizes."""
    sides = np.round(np.exp(rng.uniform(np.log(6), np.log(150), (count, 1))) * np.exp(rng.normal(0, 0.2, (count, 2))))
    return np.concatenate([np.round(rng.uniform(0, [200, 120], (count, 2))), np.maximum(sides, 1)], axis=1)


def pycocotools_eval(truth, detections, limits=(100, 300, 1000), **params):
    """``COCOeval`` of the detections after evaluation and accumulation."""
    from mmdet.datasets.api_wrappers import COCO, COCOeval

    coco, found = COCO(), COCO()
    coco.dataset = copy.deepcopy(truth)
    coco.createIndex()
    if detections:
        found = coco.loadRes(copy.deepcopy(detections))
    else:
        found.dataset = {"images": truth["images"], "annotations": [], "categories": truth["categories"]}
        found.createIndex()
    evaluation = COCOeval(coco, found, "bbox")
    evaluation.params.maxDets = list(limits)
    for name, value in params.items():
        setattr(evaluation.params, name, value)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def pycocotools_stats(truth, detections):
    """The first six numbers of pycocotools' summary, with nan in place of -1."""
    evaluation = pycocotools_eval(truth, detections)
    evaluation.summarize()
    return np.where(evaluation.stats[:6] < 0, np.nan, evaluation.stats[:6])


def repeated(truth, detections, weights):
    """The scene with ``weights[i]`` adjacent copies of image ``i``."""
    images, annotations, found = [], [], []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(int(weight)):
            new = len(images) + 1
            images.append(image | {"id": new})
            own = [each | {"image_id": new} for each in truth["annotations"] if each["image_id"] == image["id"]]
            annotations += [each | {"id": len(annotations) + 1 + i} for i, each in enumerate(own)]
            found += [each | {"image_id": new} for each in detections if each["image_id"] == image["id"]]
    return truth | {"images": images, "annotations": annotations}, found


def with_rows(truth):
    """The scene as a converted VisDrone set has it: crowds are rows of score 0, categories have VisDrone's names."""
    for image in truth["images"]:
        own = [each for each in truth["annotations"] if each["image_id"] == image["id"]]
        image["visdrone_rows"] = [[*a["bbox"], 1 - a["iscrowd"], a["category_id"], 0, 0] for a in own]
    for category in truth["categories"]:
        category["name"] = VISDRONE[category["id"] - 1]
    return truth
