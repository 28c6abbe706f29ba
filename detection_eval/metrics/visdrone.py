"""The official scores of VisDrone-DET, computed in the steps of its toolkit, for any weighting of the images.

Most of the steps differ from COCO's:

1. Rows of category 0 are ignored regions. They are painted on a mask, including the first and the last row and column
   of each box.
2. In an image with such regions, a box of the ground truth or of a detection is dropped if the regions cover half of
   its area or more.
3. Ground truth of score 0 is ignored. It can absorb any number of detections; the overlap is the share of the detection
   that lies inside it.
4. Classes 1 to 10 are scored. "Others" (11) are objects of no class: a car found on one is a false positive.
5. The first 1, 10, 100 or 500 detections of an image count, in the order of the file and over all classes together.
6. Detections are matched as in COCO, at IoU 0.5, 0.55 ... 0.95.
7. Recall is measured over all ground truth, including what is ignored. AP is the area under the envelope of all points
   of the curve.
8. In the mean over the classes, a class is weighted by the number of images that show it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from llie_preproc import files
from llie_preproc.class_names import merged_names
from llie_preproc.coco_json import is_number, is_whole
from llie_preproc.pictures import picture_files, picture_size

from ..datasets.formats.visdrone import CLASSES
from .detection_table import detection_metric
from .detections import Boxes, detection_boxes, image_ids
from .matches import (
    IOUS,
    RECALLS,
    TRUE,
    ImageScores,
    Ranking,
    area_under,
    at_recalls,
    least_found,
    match,
    position,
    rank,
)

MODES = ("toolkit", "coco")
_REGION, _CLASSES, _CATEGORIES = 0, tuple(range(1, 11)), tuple(range(12))
# The toolkit's files use all of these categories, converted annotations only those of CLASSES.
_NUMBERS = dict(zip(("ignored regions", *CLASSES, "others"), _CATEGORIES, strict=True))
_LIMITS = (1, 10, 100, 500)
_AT_50, _AT_75 = 0, 5
# The toolkit reads left, top, width, height, score and category, and nothing after these.
_READ = 6


@detection_metric("visdrone", "VisDrone, official")
class VisDroneScores(ImageScores):
    """``AP``, ``AP50``, ``AP75`` and ``AR1``, ``AR10``, ``AR100``, ``AR500`` of VisDrone-DET.

    ``mode='toolkit'`` follows the official program, whose steps are listed above. The detections of an image must then
    be in order of falling score, as in the toolkit's files. They are not sorted here.

    ``mode='coco'`` has the toolkit's boxes and matches (steps 1 to 4 and 6) with COCO's summary. The limits take the
    best detections of an image, over all classes together, not the first. Recall is measured over the ground truth that
    is not ignored. Precision is read at 101 recalls. All classes that have such ground truth weigh the same in the
    mean.

    >>> image = dict(id=1, width=100, height=80, visdrone_rows=[[10, 20, 40, 50, 1, 4, 0, 0]])
    >>> truth = dict(images=[image], categories=[dict(id=4, name="car")], annotations=[])
    >>> found = [dict(image_id=1, category_id=4, bbox=[10, 20, 40, 50], score=0.9)]
    >>> VisDroneScores(truth, found).values()["AP50"]
    1.0

    Args:
        truth: COCO annotations whose images have ``width``, ``height`` and ``visdrone_rows``, as ``llie annotations
            visdrone`` writes them. Categories are recognised by their names, whatever their ids. Objects whose class is
            missing from the categories count as objects of no class, like "others". A category that this project has
            merged (:meth:`llie_preproc.class_names.ClassMatch.truth`) has the objects of all its classes.
        detections: COCO results of the images of ``truth``.
        mode: One of :data:`MODES`.

    Raises:
        ValueError: A field of an entry is missing or wrong, a class is not VisDrone's or belongs to two categories,
            ignored regions are merged with objects, or ``mode`` is unknown.
    """

    names = ("AP", "AP50", "AP75", *(f"AR{limit}" for limit in _LIMITS))

    def __init__(
        self, truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], mode: str = "toolkit"
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        super().__init__(image_ids(truth))
        self.mode = mode
        numbers = _numbers(truth["categories"])
        images = {image["id"]: image for image in truth["images"]}
        counted_as = _counted_as(truth["categories"], numbers)
        rows = [_rows(images[each], counted_as) for each in self.image_ids]
        regions = [each[each[:, 5] == _REGION, :4] for each in rows]
        sizes = [_size(images[each]) for each in self.image_ids]

        objects, ignored = _objects(rows)
        kept = ~_covered(objects, regions, sizes)
        objects, ignored = objects[kept], ignored[kept]
        found = detection_boxes(detections, self.image_ids, list(numbers))
        found = replace(found, category=np.array(list(numbers.values()), dtype=np.int64)[found.category])
        before = -found.score if mode == "coco" else np.zeros(len(found))
        found = found[np.lexsort((before, found.image))]
        found = found[~_covered(found, regions, sizes)]

        self._present = _counts(objects, len(self.image_ids)) > 0
        counted = ~ignored if mode == "coco" else np.ones(len(ignored), dtype=bool)
        self._objects = _counts(objects[counted], len(self.image_ids))
        self._recalled = np.empty((len(_LIMITS), len(_CLASSES), len(IOUS), len(self.image_ids)), dtype=np.int64)
        place = position(found.image)
        for recalled, limit in zip(self._recalled, _LIMITS, strict=True):
            chosen = found[(place < limit) & np.isin(found.category, _CLASSES)]
            chosen = chosen[rank(chosen)[0]]
            outcome = match(chosen, objects, ignored, ignored[None])[0]
            for t, each in enumerate(outcome):
                recalled[:, t] = _counts(chosen[each == TRUE], len(self.image_ids))
        # AP counts the detections up to the last limit.
        self._rankings = _rankings(chosen, outcome)

    @classmethod
    def from_text(
        cls,
        annotations: str | os.PathLike[str],
        detections: str | os.PathLike[str],
        images: str | os.PathLike[str] | Mapping[str, tuple[int, int]],
        mode: str = "toolkit",
    ) -> VisDroneScores:
        """The scores of the toolkit's own files.

        Args:
            annotations: Folder of files ``NAME.txt`` with lines
                ``left,top,width,height,score,category,truncation,occlusion``.
            detections: Folder of files with the same names and lines ``left,top,width,height,score,category,-1,-1``. A
                file may be empty.
            images: Folder of the pictures, whose sizes are read, or ``(width, height)`` in pixels by name.
            mode: One of :data:`MODES`.

        Returns:
            Scores whose ``image_ids`` are the names.

        Raises:
            FileNotFoundError: There are no annotations, or a file of detections or a picture is missing.
            ValueError: A line is bad; the message names the file and the line.
        """
        texts = {path.stem: path for path in sorted(Path(annotations).glob("*.txt"))}
        if not texts:
            raise FileNotFoundError(f"{annotations} holds no annotations: NAME.txt")
        sizes = images if isinstance(images, Mapping) else _sizes(Path(images), texts)
        truth: dict[str, Any] = {
            "images": [],
            "categories": [{"id": number, "name": name} for name, number in _NUMBERS.items()],
            "annotations": [],
        }
        found = []
        for name, path in texts.items():
            if name not in sizes:
                raise FileNotFoundError(f"{path} has no picture in {images}")
            width, height = sizes[name]
            truth["images"].append(dict(id=name, width=width, height=height, visdrone_rows=read_text(path)))
            for row in read_text(Path(detections) / path.name):
                found.append(dict(image_id=name, bbox=row[:4], score=row[4], category_id=int(row[5])))
        return cls(truth, found, mode)

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        objects = weights @ self._objects.T
        precision = np.empty((len(IOUS), *objects.shape))
        for k, ranking in enumerate(self._rankings):
            needed = least_found(objects[:, k])
            for t, curve in enumerate(ranking.curves(weights, range(len(IOUS)))):
                precision[t, :, k] = self._average(*curve, objects[:, k], needed)
        recalled = (self._recalled @ weights.T).mean(axis=2).swapaxes(1, 2)
        recall = np.divide(recalled, objects, out=np.full(recalled.shape, np.nan), where=objects > 0)
        tables = [precision.mean(axis=0), precision[_AT_50], precision[_AT_75], *recall]
        share = objects > 0 if self.mode == "coco" else weights @ self._present.T
        return np.stack([_mean(table, share) for table in tables])

    def _average(self, reached: np.ndarray, counted: np.ndarray, objects: np.ndarray, needed: np.ndarray) -> np.ndarray:
        if self.mode == "coco":
            return at_recalls(reached, counted, objects, needed).sum(axis=1) / len(RECALLS)
        return area_under(reached, counted, objects)


detection_metric("visdrone-coco", "VisDrone's regions, COCO's averaging")(partial(VisDroneScores, mode="coco"))


def read_text(path: str | os.PathLike[str]) -> list[list[float]]:
    """The first six values of each line of a file of the toolkit. Empty lines and trailing commas are ignored.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A line has fewer values, a value is not a finite number, a size is negative, or a category is not
            one of 0 to 11; the message names the file and the line.
    """
    rows = []
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        if text := line.strip().rstrip(", \t"):
            try:
                rows.append(_parse(text.split(",")))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}: {line.strip()!r}") from None
    return rows


def covered_share(boxes: np.ndarray, regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The share of each box that lies in ignored regions, as the toolkit counts it.

    All values, including widths and heights, are raised to at least 1 and rounded, halves up. Counting begins one row
    and one column after a box's first pixel, and stops at the end of the box or of the image. The count is divided by
    the whole area of the box, including the part beyond the image.

    Args:
        boxes: Boxes ``(N, 4)``, left, top, width, height in pixels.
        regions: Ignored regions ``(R, 4)``, likewise.
        size: Width and height of the image.

    Returns:
        The shares, ``(N,)``.
    """
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    for left, top, across, down in _whole(regions):
        mask[top - 1 : top + down, left - 1 : left + across] = 1
    painted = cv2.integral(mask)
    left, top, across, down = _whole(boxes).T
    first_x, last_x = np.minimum(left, width), np.minimum(left + across, width)
    first_y, last_y = np.minimum(top, height), np.minimum(top + down, height)
    inside = painted[last_y, last_x] + painted[first_y, first_x] - painted[first_y, last_x] - painted[last_y, first_x]
    return inside / (across * down)


def _whole(boxes: np.ndarray) -> np.ndarray:
    # The clip keeps boxes of absurd size within the range of whole numbers.
    return np.floor(np.clip(boxes, 1, 1e6) + 0.5).astype(np.int64)


def _covered(boxes: Boxes, regions: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Whether each box is dropped by step 2, ``(N,)`` bool."""
    covered = np.zeros(len(boxes), dtype=bool)
    by_image = np.argsort(boxes.image, kind="stable")
    ends = np.searchsorted(boxes.image[by_image], np.arange(len(regions) + 1))
    for i, (painted, size) in enumerate(zip(regions, sizes, strict=True)):
        if len(painted):
            rows = by_image[ends[i] : ends[i + 1]]
            covered[rows] = covered_share(boxes.box[rows], painted, size) >= 0.5
    return covered


def _objects(rows: Sequence[np.ndarray]) -> tuple[Boxes, np.ndarray]:
    """The boxes of classes 1 to 10, and ``(G,)`` whether each is ignored."""
    image = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    table = np.concatenate([np.zeros((0, _READ)), *rows])
    scored = np.isin(table[:, 5], _CLASSES)
    image, table = image[scored], table[scored]
    boxes = Boxes(image, table[:, 5].astype(np.int64), table[:, :4], np.zeros(len(table)))
    return boxes, table[:, 4] == 0


def _counts(boxes: Boxes, images: int) -> np.ndarray:
    """The number of boxes of each class in each image, ``(10, images)`` int64."""
    counts = np.zeros((len(_CLASSES), images), dtype=np.int64)
    np.add.at(counts, (boxes.category - _CLASSES[0], boxes.image), 1)
    return counts


def _rankings(found: Boxes, outcome: np.ndarray) -> list[Ranking]:
    by_score = np.argsort(-found.score, kind="stable")
    of_class = [by_score[found.category[by_score] == k] for k in _CLASSES]
    return [Ranking(found.image[rows], np.ones(len(rows), dtype=bool), outcome[:, rows]) for rows in of_class]


def _mean(table: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean ``(B,)`` of ``(B, classes)`` weighted by ``share``; nan where no class has a share."""
    total = share.sum(axis=1)
    weighted = np.where(share > 0, table * share, 0).sum(axis=1)
    return np.divide(weighted, total, out=np.full(len(total), np.nan), where=total > 0)


def _numbers(categories: Sequence[Mapping[str, Any]]) -> dict[Any, int]:
    """VisDrone's numbers by the ids of categories."""
    names = [name for category in categories for name in merged_names(category)]
    if unknown := [name for name in names if name not in _NUMBERS]:
        raise ValueError(
            f"the categories {', '.join(map(repr, unknown))} are none of VisDrone's ({', '.join(CLASSES)}): convert "
            "the annotations with 'llie annotations visdrone'"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two categories have objects of the class {twice[0]!r}: each class belongs to one category")
    return {category["id"]: _number(category) for category in categories}


def _number(category: Mapping[str, Any]) -> int:
    """VisDrone's number of a category; that of a merged one is its first class that is scored, or else "others"."""
    numbers = sorted(_NUMBERS[name] for name in merged_names(category))
    if len(numbers) > 1 and _REGION in numbers:
        raise ValueError(f"the category {category['name']!r} joins ignored regions with objects: leave the regions out")
    return numbers[0]


def _counted_as(categories: Sequence[Mapping[str, Any]], numbers: Mapping[Any, int]) -> np.ndarray:
    """The number that each of VisDrone's 12 categories counts as, ``(12,)``. A class that is missing is "others"."""
    table = np.array(_CATEGORIES)
    table[list(_CLASSES)] = _NUMBERS["others"]
    for category in categories:
        table[[_NUMBERS[name] for name in merged_names(category)]] = numbers[category["id"]]
    return table


def _rows(image: Mapping[str, Any], counted_as: np.ndarray) -> np.ndarray:
    name = image.get("file_name", image["id"])
    if not isinstance(image.get("visdrone_rows"), list):
        raise ValueError(
            f"image {name} has no 'visdrone_rows': convert the annotations with 'llie annotations visdrone'"
        )
    rows = []
    for i, row in enumerate(image["visdrone_rows"]):
        try:
            if not isinstance(row, Sequence) or isinstance(row, str) or not all(map(is_number, row)):
                raise ValueError("expected a list of numbers")
            rows.append(_parse(row))
        except ValueError as error:
            raise ValueError(f"image {name}: visdrone_rows[{i}]: {error}: {row!r}") from None
    table = np.array(rows, dtype=np.float64).reshape(-1, _READ)
    table[:, 5] = counted_as[table[:, 5].astype(np.int64)]
    return table


def _parse(fields: Sequence[Any]) -> list[float]:
    if len(fields) < _READ:
        raise ValueError(f"expected at least 6 values (left,top,width,height,score,category), got {len(fields)}")
    row = [float(each) for each in fields[:_READ]]
    if not np.isfinite(row).all():
        raise ValueError("values must be finite")
    if min(row[2:4]) < 0:
        raise ValueError("width and height must not be negative")
    if row[5] not in _CATEGORIES:
        raise ValueError(f"category must be from 0 to 11, got {row[5]:g}")
    return row


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    size = image.get("width", 0), image.get("height", 0)
    if not all(is_whole(each) and each > 0 for each in size):
        name = image.get("file_name", image["id"])
        raise ValueError(f"image {name}: width and height must be whole numbers of pixels above 0, got {size}")
    return size


def _sizes(folder: Path, names: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    pictures: dict[str, Path] = {}
    for path in picture_files(folder):
        if path.stem in names and (other := pictures.setdefault(path.stem, path)) != path:
            raise ValueError(
                f"{other} and {path} have the same name: rename one, because {names[path.stem]} could belong to either"
            )
    return {name: picture_size(path) for name, path in pictures.items()}
