"""Conversion of annotations of any format to COCO's format, with a check against the pictures."""

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
CLIPPED, KEPT = "boxes clipped to the picture", "boxes kept although they leave the picture"
# Some formats have fractions of the picture's size. Their rounding may push a box this many pixels out.
_ROUNDING = 0.5
XYWH = tuple[float, float, float, float]


def to_coco(labels: LabelSet, problems: Problems, out_of_bounds: str = "clip") -> dict[str, Any]:
    """Read the headers of the pictures and their annotations, check them, and convert them to COCO's format.

    Coordinates belong to the picture as MMDetection's ``LoadImageFromFile`` (``cv2``) loads it, with the EXIF
    orientation applied. A box that leaves the picture by at most half a pixel counts as inside, because rounding can
    cause this. It is clipped or kept.

    >>> import tempfile
    >>> import numpy as np
    >>> from detection_eval.datasets.formats.yolo import yolo
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/1.png", Picture(np.zeros((40, 60, 3), np.uint8)))
    ...     _ = Path(root, "1.txt").write_text("0 0.5 0.5 0.25 0.5")
    ...     truth = to_coco(yolo(root, root, classes=["car"]), Problems())
    >>> [each["bbox"] for each in truth["annotations"]]
    [(22.5, 10.0, 15.0, 20.0)]

    Args:
        labels: Pictures and annotations.
        problems: Collector of errors, and of the counts of what is left out or changed.
        out_of_bounds: Treatment of boxes that leave the picture. ``'clip'`` clips them to the picture, and leaves out
            those wholly outside. ``'keep'`` keeps all of them as they are. ``'error'`` reports them as errors.

    Returns:
        A dict with ``info``, ``images``, ``annotations`` and ``categories`` of COCO's annotation format. Images are
        numbered from 1 in the order of their names, annotations from 1 in the order of the images. ``bbox`` is a tuple
        (left, top, width, height) in pixels.

    Raises:
        ValueError: There is an error that ``problems`` does not skip, no picture is left, or ``out_of_bounds`` is
            unknown.
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
    """The part of a COCO dict that belongs to the images with these names. All ids stay as they are.

    >>> truth = dict(images=[dict(id=1, file_name="a.png"), dict(id=2, file_name="b.png")], annotations=[])
    >>> images_of(truth, ["b.png"])
    {'images': [{'id': 2, 'file_name': 'b.png'}], 'annotations': []}
    """
    wanted = set(names)
    images = [image for image in truth["images"] if image["file_name"] in wanted]
    ids = {image["id"] for image in images}
    annotations = [each for each in truth["annotations"] if each["image_id"] in ids]
    return {**truth, "images": images, "annotations": annotations}


def write_coco(path: str | os.PathLike[str], truth: Mapping[str, Any]) -> None:
    """Write a COCO dict, atomically."""
    with atomic_write(path) as file:
        # With an indentation, json would use its encoder in Python, which is ten times slower than the one in C.
        file.write(json.dumps(truth).encode() + b"\n")


def summary(truth: Mapping[str, Any]) -> str:
    """One line with the numbers of images, boxes and crowd boxes, then for each class a line with its boxes."""
    names = {each["id"]: each["name"] for each in truth["categories"]}
    boxes = Counter(names[each["category_id"]] for each in truth["annotations"] if not each["iscrowd"])
    crowds = sum(each["iscrowd"] for each in truth["annotations"])
    first = f"{len(truth['images'])} images, {boxes.total()} boxes, {crowds} crowd boxes"
    return "\n".join([first, *(f"  {name}: {boxes[name]}" for name in names.values())])


def _checked(
    boxes: Iterable[Box], size: tuple[int, int], source: Path, problems: Problems, out_of_bounds: str
) -> Iterator[tuple[Box, XYWH]]:
    """The boxes that stay, each with its place in the picture."""
    for box in boxes:
        x, y, width, height = box.xywh
        if width == 0 or height == 0:
            problems.count(EMPTY)
        elif x >= 0 and y >= 0 and x + width <= size[0] and y + height <= size[1]:
            yield box, box.xywh
        elif (place := _placed(box, size, source, problems, out_of_bounds)) is not None:
            yield box, place


def _placed(box: Box, size: tuple[int, int], source: Path, problems: Problems, out_of_bounds: str) -> XYWH | None:
    """The new place of a box that leaves the picture, or None if the box is left out."""
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
