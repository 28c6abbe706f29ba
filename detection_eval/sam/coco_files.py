"""Files of the masks of a measurement in COCO's formats.

pycocotools reads them: ``COCO(f"{task}.json").loadRes(f"{task}/{label}.json")``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from llie_preproc.files import write_text
from llie_preproc.pictures import picture_size

from ..metrics.masks import Rle
from ..shared.enhancers import NONE
from .measure_masks import AUTOMATIC, REFERENCE, Request, Result, Stage

CATEGORIES = [dict(id=1, name="object")]


def write_coco(request: Request, result: Result) -> None:
    """Write ``masks/TASK.json``, the annotations of a task, and ``masks/TASK/LABEL.json``, the masks of each row.

    For automatic masks the annotations are the masks of the reference pictures; for box prompts they are the prompts
    with their annotated masks. All are in the raw frame and have one category. The score of a mask is SAM's predicted
    IoU.
    """
    ids = {name: number for number, name in enumerate(result.names, 1)}
    images = [_image(request, name, number) for name, number in ids.items()]
    for task in request.tasks:
        asked = [each for name, number in ids.items() for each in _asked(request, result, task, name, number)]
        annotations = [dict(each, id=number, iscrowd=0) for number, each in enumerate(asked, 1)]
        truth = dict(images=images, categories=CATEGORIES, annotations=annotations)
        write_text(request.folder / "masks" / f"{task}.json", json.dumps(truth))
        for label in request.enhancers:
            found = result.found[Stage(task, label)]
            entries = [each for name, number in ids.items() for each in found[name].coco(number)]
            write_text(request.folder / "masks" / task / f"{label}.json", json.dumps(entries))


def _image(request: Request, name: str, number: int) -> dict[str, Any]:
    width, height = picture_size(request.pictures.files[name])
    return dict(id=number, file_name=name, width=width, height=height)


def _asked(request: Request, result: Result, task: str, name: str, number: int) -> list[dict[str, Any]]:
    if task == AUTOMATIC:
        entries = result.found[Stage(REFERENCE, NONE)][name].coco(number)
        return [dict(each, area=float(coco_masks.area(each["segmentation"]))) for each in entries]
    prompts = (request.pictures.prompts or {})[name]
    return [
        _prompt(box, None if prompts.masks is None else prompts.masks[at], number)
        for at, box in enumerate(prompts.boxes)
    ]


def _prompt(box: np.ndarray, mask: Mapping[str, Any] | Rle | None, number: int) -> dict[str, Any]:
    left, top, width, height = box.tolist()
    entry = dict(image_id=number, category_id=1, bbox=[left, top, width, height], area=width * height)
    return entry if mask is None else dict(entry, segmentation=dict(mask), area=float(coco_masks.area(mask)))
