"""COCO sets of dark pictures with a bright blue and a bright green rectangle, and runs of MMEngine on them."""

import json
import uuid
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner

GROUND, BRIGHT = 20, 200


def boxes_of(height: int, width: int) -> list[list[int]]:
    """The blue rectangle in a picture's left half and the green one in its right half, each x1, y1, x2, y2."""
    half, quarter = width // 2, width // 4
    return [[4, 6, half - 4, height // 2 + 2], [half + 2, quarter // 2, width - 6, height - 4]]


def picture_of(height: int, width: int) -> np.ndarray:
    """A dark ``(height, width, 3)`` BGR picture with a bright blue and a bright green rectangle."""
    picture = np.full((height, width, 3), GROUND, np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(boxes_of(height, width)):
        picture[y1:y2, x1:x2, channel] = BRIGHT
    return picture


def bright_box(picture: np.ndarray, channel: int) -> list[int]:
    """Box (x1, y1, x2, y2) of the bright part of a channel of ``(H, W, 3)``."""
    levels = picture[..., channel].astype(np.float32)
    rows, columns = np.nonzero(levels > (levels.min() + levels.max()) / 2)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def write_set(
    annotations: Path,
    pictures: Path,
    classes: tuple[str, ...],
    sizes: list[tuple[int, int]] = [(64, 96), (80, 64)],  # noqa: B006
) -> None:
    """Write a picture of each size (height, width); the blue rectangle has the first class, the green one the last."""
    pictures.mkdir(parents=True, exist_ok=True)
    annotations.parent.mkdir(parents=True, exist_ok=True)
    images, instances = [], []
    for number, (height, width) in enumerate(sizes, 1):
        name = f"{annotations.stem}_{number}.png"
        cv2.imwrite(str(pictures / name), picture_of(height, width))
        images.append(dict(id=number, file_name=name, height=height, width=width))
        for (x1, y1, x2, y2), label in zip(boxes_of(height, width), (1, len(classes)), strict=True):
            box = dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), category_id=label, iscrowd=0)
            box["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            instances.append(dict(box, id=len(instances) + 1, image_id=number))
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    annotations.write_text(json.dumps(dict(images=images, annotations=instances, categories=categories)))


def test_runner(model: dict, pipeline: list[dict], folder: Path, work_dir: Path, **more) -> Runner:
    """A Runner that validates and tests ``model`` on the set ``folder/set.json``, which is written if it is missing."""
    annotations, classes = folder / "set.json", ("blue", "green")
    if not annotations.is_file():
        write_set(annotations, folder / "pictures", classes)
    dataset = dict(
        type="CocoDataset",
        ann_file=str(annotations),
        data_prefix=dict(img=str(folder / "pictures")),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=pipeline,
    )
    sampler = dict(type="DefaultSampler", shuffle=False)
    loader = dict(batch_size=2, num_workers=0, sampler=sampler, dataset=dataset)
    metric = dict(type="CocoMetric", ann_file=str(annotations), metric="bbox", outfile_prefix=str(work_dir / "found"))
    cfg = dict(
        default_scope="mmdet",
        model=model,
        val_dataloader=loader,
        val_evaluator=metric,
        val_cfg=dict(type="ValLoop"),
        test_dataloader=loader,
        test_evaluator=metric,
        test_cfg=dict(type="TestLoop"),
        work_dir=str(work_dir),
        # MMEngine keeps visualizers and message hubs by name for the whole process.
        experiment_name=uuid.uuid4().hex,
        log_level="ERROR",
        **more,
    )
    return Runner.from_cfg(Config(cfg))


test_runner.__test__ = False
