"""The format of VisDrone-DET: a folder ``images`` with pictures, and beside it ``annotations`` with a text for each.

A line is ``left,top,width,height,score,category,truncation,occlusion``, in whole numbers; it may end in a comma.
Category 0 is a region to ignore, and 11 is "others". Score 0 marks an object that the toolkit does not evaluate.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from llie_preproc.checks import one_of

from ..annotation_formats import Reader, annotation_format
from ..labels import (
    Box,
    BoxList,
    LabelSet,
    Place,
    Problems,
    Size,
    integers,
    parse_rows,
    pictures_by,
    read_lines,
    relative_stem,
    require_size,
    texts_by,
)

CLASSES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
CATEGORIES = dict(enumerate(CLASSES, start=1))
IGNORED_REGIONS = ("crowd", "drop")
_IGNORED, _OTHERS = 0, 11
_FIELDS = ("left", "top", "width", "height", "score", "category", "truncation", "occlusion")


def visdrone(root: str | os.PathLike[str], ignored_regions: str = "crowd") -> LabelSet:
    """VisDrone-DET, one split or several.

    Boxes of score 0 become crowds, and "others" are left out. Boxes keep ``truncation`` and ``occlusion``. Every image
    also keeps its original rows in ``visdrone_rows``, for the toolkit's metric.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/images/1.jpg": "", f"{root}/annotations/1.txt": "10,20,30,15,1,4,0,0\\n"})
    ...     labels = visdrone(root)
    ...     boxes = labels.read("1", (60, 40), Problems()).boxes
    >>> labels.categories[boxes[0].categories[0]], boxes[0].xywh
    ('car', (10, 20, 30, 15))

    Args:
        root: Folder of a split, with ``images`` and ``annotations``, or a folder of such splits. The names of pictures
            are relative to ``images`` in the first case and to ``root`` in the second.
        ignored_regions: ``'crowd'`` makes each ignored region a crowd of every class, marked ``ignored_region``;
            ``'drop'`` leaves ignored regions out.

    Raises:
        FileNotFoundError: There is no split.
        ValueError: Two pictures or two annotations have the same name, or ``ignored_regions`` is unknown.
    """
    one_of("ignored_regions", ignored_regions, IGNORED_REGIONS)
    base = Path(root).expanduser()
    splits = _splits(base)
    pictures, texts = ({k: p for split in splits for k, p in kind(split, base).items()} for kind in (_pictures, _texts))

    def read(key: str, size: Size, problems: Problems) -> BoxList:
        return read_visdrone(texts[key], problems, ignored_regions)

    names_from = base if splits != [base] else base / "images"
    return LabelSet("VisDrone-DET", names_from, CATEGORIES, pictures, {k: Place(p) for k, p in texts.items()}, read)


@annotation_format("visdrone", "VisDrone-DET")
def _arguments(parser: argparse.ArgumentParser) -> Reader:
    parser.add_argument("root", metavar="ROOT", help="folder with images and annotations, or a folder of such folders")
    parser.add_argument(
        "--ignored-regions",
        choices=IGNORED_REGIONS,
        default="crowd",
        help="treatment of ignored regions: crowd makes each a crowd box of every class (default), drop leaves it out; "
        "VisDrone's own metric uses them in both cases",
    )
    return lambda args: visdrone(args.root, args.ignored_regions)


def read_visdrone(path: Path, problems: Problems, ignored_regions: str = "crowd") -> BoxList:
    """Read one annotation file; an empty one has no boxes.

    Raises:
        ValueError: A line is bad (the message names the file and the line), or ``ignored_regions`` is unknown.
    """
    one_of("ignored_regions", ignored_regions, IGNORED_REGIONS)
    rows = parse_rows(enumerate(read_lines(path), start=1), path, _parse, problems)
    return BoxList(list(_boxes(rows, problems, ignored_regions)), {"visdrone_rows": [row for _, row in rows]})


def _splits(root: Path) -> list[Path]:
    if (root / "images").is_dir():
        return [root]
    found = sorted(path.parent for path in root.glob("*/images") if (path.parent / "annotations").is_dir())
    if not found:
        raise FileNotFoundError(f"{root} must hold 'images' and 'annotations', or folders that hold them")
    return found


def _pictures(split: Path, base: Path) -> dict[str, Path]:
    return _prefixed(split, base, pictures_by(split / "images", lambda path: relative_stem(path, split / "images")))


def _texts(split: Path, base: Path) -> dict[str, Path]:
    folder = split / "annotations"
    return _prefixed(split, base, texts_by(folder, lambda path: relative_stem(path, folder)))


def _prefixed(split: Path, base: Path, files: dict[str, Path]) -> dict[str, Path]:
    return {(split.relative_to(base) / key).as_posix(): path for key, path in files.items()}


def _parse(line: str) -> tuple[int, ...]:
    fields = line.rstrip(", \t").split(",")
    row = integers(fields, _FIELDS)
    require_size(row[2], row[3])
    if row[4] not in (0, 1):
        raise ValueError(f"score must be 0 or 1 in an annotation, got {row[4]}")
    if not _IGNORED <= row[5] <= _OTHERS:
        raise ValueError(f"unknown category {row[5]}, expected {_IGNORED} to {_OTHERS}")
    # The garbage collector skips tuples of numbers, so a large set is read in half the time.
    return tuple(row)


def _boxes(rows: Sequence[tuple[int, tuple[int, ...]]], problems: Problems, ignored_regions: str) -> Iterator[Box]:
    for line, (left, top, width, height, score, category, truncation, occlusion) in rows:
        place, kept = (left, top, width, height), {"truncation": truncation, "occlusion": occlusion}
        if category == _OTHERS:
            problems.count('boxes of category 11, "others", left out')
        elif category != _IGNORED:
            yield Box((category,), place, line, crowd=score == 0, attributes=kept)
        elif ignored_regions == "crowd":
            yield Box(tuple(CATEGORIES), place, line, crowd=True, attributes={**kept, "ignored_region": True})
        else:
            problems.count("ignored regions left out")
