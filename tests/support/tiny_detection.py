"""A detector and a set that train in seconds: coloured rectangles on a dark background."""

import json
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("red", "green")
_COLOURS = {"red": (20, 20, 90), "green": (20, 90, 20)}
SIDE = 64

# This is the demo's detector, made narrower.
_CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=20)),
)
train_cfg = dict(max_iters=4)
train_dataloader = dict(batch_size=2, batch_sampler=dict(type="AspectRatioBatchSampler"))
test_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""


def write_config(path: Path) -> Path:
    """Write the config file of the tiny detector, whose sets come from ``--train`` and ``--test``."""
    base = str(files("mm_configs") / "demo" / "faster_rcnn_r18_night.py")
    path.write_text(_CONFIG.format(base=base))
    return path


def write_set(folder: Path, images: int, seed: int) -> list[str]:
    """Write a COCO set; returns the annotation file and the folder of its pictures."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    entries, annotations = [], []
    for number in range(images):
        picture = rng.integers(0, 12, (SIDE, SIDE, 3), np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            width, height = (int(n) for n in rng.integers(14, 30, 2))
            left, top = int(rng.integers(0, SIDE - width)), int(rng.integers(0, SIDE - height))
            label = int(rng.integers(0, 2))
            picture[top : top + height, left : left + width] = _COLOURS[CLASSES[label]]
            box = dict(bbox=[left, top, width, height], area=width * height, category_id=label + 1, iscrowd=0)
            annotations.append(dict(box, image_id=number, id=len(annotations) + 1))
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), picture)
        entries.append(dict(id=number, file_name=name, width=SIDE, height=SIDE))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(dict(images=entries, annotations=annotations, categories=categories)))
    return [str(path), str(folder)]


def arguments(folder: Path, out: str = "out") -> list[str]:
    """The command line of a comparison of the tiny detector, without ``--enhancer`` and ``--modes``."""
    config = write_config(folder / "tiny.py")
    train, test = write_set(folder / "train", 6, 0), write_set(folder / "test", 5, 1)
    common = ["--resamples", "50", "--out", str(folder / out)]
    return ["compare", "--detector", str(config), "--train", *train, "--test", *test, *common]
