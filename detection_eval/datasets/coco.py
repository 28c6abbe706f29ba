"""Annotations of any format to COCO's, checked against the pictures."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llie_preproc.errors import one_line
from llie_preproc.files import atomic_write
from llie_preproc.pictures import picture_size

from .labels import Box, BoxList, LabelSet, Problems

BOUNDS = ("clip", "keep", "error")
EMPTY, OUTSIDE = "boxes of no size left out", "boxes wholly outside the picture left out"
CLIPPED, KEPT = "boxes clipped to the picture", "boxes that leave the picture kept as they are"
# Less than any whole pixel: what rounding leaves where coordinates are fractions of the picture's size.
_ROUNDING = 0.5
XYWH = tuple[float, float, float, float]


def to_coco(labels: LabelSet, problems: Problems, out_of_bounds: str = "clip") -> dict[str, Any]:
    """Read pictures' headers and annotations, and check them.

    The frame is that of MMDetection's ``LoadImageFromFile`` (``cv2``): EXIF orientation applied. A box that leaves the
    picture by no more than half a pixel left it by rounding: it is clipped (or kept) and counts as inside.

    Args:
        labels: Pictures and annotations.
        problems: Takes what is bad, and counts what is left out or changed.
        out_of_bounds: Boxes that leave the picture are clipped to it, those wholly outside left out (``'clip'``); all
            are kept as they are (``'keep'``); or they are bad (``'error'``).

    Returns:
        ``info``, ``images``, ``annotations``, ``categories`` of COCO's annotation format. Images are numbered from 1 by
        name, annotations from 1 in that order; ``bbox`` is left, top, width, height in pixels, a tuple.

    Raises:
        ValueError: Something is bad, and is not to be skipped; or no picture is left.
    """
    if out_of_bounds not in BOUNDS:
        raise ValueError(f"out_of_bounds must be one of {', '.join(BOUNDS)}, got {out_of_bounds!r}")
    labels = labels.complete(problems)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for key in sorted(labels.pictures, key=labels.name):
        try:
            width, height = picture_size(labels.pictures[key])
            found = labels.read(key, (width, height), problems) if key in labels.labelled else BoxList()
        except (OSError, ValueError) as error:
            problems.bad(one_line(error))
            continue
        image = len(images) + 1
        described = {"id": image, "file_name": labels.name(key), "width": width, "height": height}
        images.append({**described, **found.attributes})
        source = labels.labelled[key].file if found.boxes else Path()
        for box, xywh in _checked(found.boxes, (width, height), source, problems, out_of_bounds):
            annotations += _annotations(box, xywh, image, len(annotations) + 1)
    if not images:
        raise ValueError(f"no picture below {labels.root} is left to convert{problems.in_short()}")
    return {
        "info": {"description": f"{labels.format}, converted"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in sorted(labels.categories.items())],
    }


def images_of(truth: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The part of a COCO dict that belongs to the images of these names; all ids stay."""
    wanted = set(names)
    images = [image for image in truth["images"] if image["file_name"] in wanted]
    ids = {image["id"] for image in images}
    annotations = [each for each in truth["annotations"] if each["image_id"] in ids]
    return {**truth, "images": images, "annotations": annotations}


def write_coco(path: str | os.PathLike[str], truth: Mapping[str, Any]) -> None:
    """Write a COCO dict, atomically."""
    with atomic_write(path) as file:
        # Indentation takes the encoder that is written in Python, ten times as slow.
        file.write(json.dumps(truth).encode() + b"\n")


def summary(truth: Mapping[str, Any]) -> str:
    """Images, boxes and crowd boxes, then the boxes of each class, by one line each."""
    names = {each["id"]: each["name"] for each in truth["categories"]}
    boxes = Counter(names[each["category_id"]] for each in truth["annotations"] if not each["iscrowd"])
    crowds = sum(each["iscrowd"] for each in truth["annotations"])
    first = f"{len(truth['images'])} images, {boxes.total()} boxes, {crowds} crowd boxes"
    return "\n".join([first, *(f"  {name}: {boxes[name]}" for name in names.values())])


def _checked(
    boxes: Iterable[Box], size: tuple[int, int], source: Path, problems: Problems, out_of_bounds: str
) -> Iterator[tuple[Box, XYWH]]:
    """The boxes that stay, and their place in the picture."""
    for box in boxes:
        x, y, width, height = box.xywh
        if width == 0 or height == 0:
            problems.count(EMPTY)
        elif x >= 0 and y >= 0 and x + width <= size[0] and y + height <= size[1]:
            yield box, box.xywh
        elif (place := _placed(box, size, source, problems, out_of_bounds)) is not None:
            yield box, place


def _placed(box: Box, size: tuple[int, int], source: Path, problems: Problems, out_of_bounds: str) -> XYWH | None:
    """Where a box that leaves the picture is kept, if it is."""
    inside = _clip(box.xywh, size)
    leaves = max(abs(new - old) for new, old in zip(_corners(inside), _corners(box.xywh), strict=True)) > _ROUNDING
    if leaves and out_of_bounds == "error":
        place = " ".join(f"{value:g}" for value in box.xywh)
        problems.bad(f"{source}:{box.line}: box {place} leaves the picture of {size[0]}x{size[1]}")
        return None
    if out_of_bounds == "keep":
        problems.count(KEPT, leaves)
        return box.xywh
    if min(inside[2:]) <= 0:
        problems.count(OUTSIDE)
        return None
    problems.count(CLIPPED, leaves)
    return inside


def _clip(xywh: XYWH, size: tuple[int, int]) -> XYWH:
    x1, y1, x2, y2 = _corners(xywh)
    x1, x2 = (min(max(x, 0), size[0]) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), size[1]) for y in (y1, y2))
    return x1, y1, x2 - x1, y2 - y1


def _corners(xywh: XYWH) -> XYWH:
    x, y, width, height = xywh
    return x, y, x + width, y + height


def _annotations(box: Box, xywh: XYWH, image: int, number: int) -> Iterator[dict[str, Any]]:
    area = xywh[2] * xywh[3]
    for each, category in enumerate(box.categories, start=number):
        yield {
            "id": each,
            "image_id": image,
            "category_id": category,
            "bbox": xywh,
            "area": area,
            "iscrowd": int(box.crowd),
            **box.attributes,
        }
