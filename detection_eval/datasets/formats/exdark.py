"""The format of ExDark: a ``bbGt`` text for each photograph, and a list of classes, light and parts.

A text begins with ``% bbGt version=3``. Each further line is ``Class left top width height``, followed by seven more
numbers of Piotr Dollar's toolbox: occluded; left, top, width and height of the visible part; ignore; angle.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from ..annotation_formats import Reader, add_folders, annotation_format
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
    plain_stem,
    read_lines,
    reals,
    require_size,
    texts_by,
)

CLASSES = ("Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table")
CATEGORIES = dict(enumerate(CLASSES, start=1))
LIGHTS = ("Low", "Ambient", "Object", "Single", "Weak", "Strong", "Screen", "Window", "Shadow", "Twilight")
PLACES = ("Indoor", "Outdoor")
PARTS = ("train", "val", "test")

_IDS = {name: number for number, name in CATEGORIES.items()}
_HEADER = "% bbGt version=3"
_FIELDS = ("left", "top", "width", "height", "occluded", "vleft", "vtop", "vwidth", "vheight", "ignore", "angle")
_IGNORE = _FIELDS.index("ignore")
_LIST_FIELDS = ("Class", "Light", "In/Out", "Train/Val/Test")


def exdark(
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    class_list: str | os.PathLike[str] | None = None,
    part: str = "all",
) -> LabelSet:
    """ExDark, with all pictures in one folder or in a folder for each class.

    Annotations have names like ``2015_00001.png.txt`` or ``2015_00001.txt``. Boxes whose ``ignore`` is set become
    crowds. With ``class_list``, images have ``light`` (:data:`LIGHTS`), ``place`` (:data:`PLACES`) and ``part``
    (:data:`PARTS`).

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> text = "% bbGt version=3\\nBicycle 10 20 30 15 0 0 0 0 0 0 0\\n"
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/2015_00001.png": "", f"{root}/2015_00001.png.txt": text})
    ...     labels = exdark(root, root)
    ...     boxes = labels.read("2015_00001", (60, 40), Problems()).boxes
    >>> labels.categories[boxes[0].categories[0]], boxes[0].xywh
    ('Bicycle', (10, 20, 30, 15))

    Args:
        images: Folder of the pictures.
        annotations: Folder of the texts.
        class_list: Path of ``imageclasslist.txt``. Its names are matched without suffix. A picture that it does not
            list is an error.
        part: Part of the set to read: one of :data:`PARTS`, which ``class_list`` defines, or ``'all'``.

    Raises:
        FileNotFoundError: A folder or file is missing.
        ValueError: Two files have the same name, a line of ``class_list`` is bad, ``part`` is unknown, or ``part`` is
            given without ``class_list``.
    """
    if part not in (*PARTS, "all"):
        raise ValueError(f"part must be one of {', '.join(PARTS)}, all; got {part!r}")
    if part != "all" and class_list is None:
        raise ValueError(f"part {part!r} needs the list of the parts, imageclasslist.txt, as class_list")
    root = Path(images).expanduser()
    pictures = pictures_by(root, lambda path: plain_stem(path.name))
    texts = texts_by(Path(annotations).expanduser(), lambda path: plain_stem(path.stem))
    listed = None if class_list is None else read_class_list(Path(class_list).expanduser())

    def read(key: str, size: Size, problems: Problems) -> BoxList:
        if listed is not None and key not in listed:
            raise ValueError(f"{pictures[key]}: the picture is not listed in {class_list}")
        return BoxList(read_exdark(texts[key], problems), listed[key] if listed else {})

    found = LabelSet("ExDark", root, CATEGORIES, pictures, {key: Place(path) for key, path in texts.items()}, read)
    if part == "all" or listed is None:
        return found
    return found.only([key for key, attributes in listed.items() if attributes["part"] == part])


@annotation_format("exdark", "ExDark")
def _arguments(parser: argparse.ArgumentParser) -> Reader:
    add_folders(parser, "folder of bbGt texts")
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="file imageclasslist.txt, with the light, the place (indoor or outdoor) and the part of each picture",
    )
    parser.add_argument(
        "--part", choices=(*PARTS, "all"), default="all", help="part of the set, by --list (default: all)"
    )
    return lambda args: exdark(args.images, args.annotations, args.list, args.part)


def read_exdark(path: Path, problems: Problems) -> list[Box]:
    """Read one ``bbGt`` text.

    Raises:
        ValueError: The header is missing or a line is bad; the message names the file and the line.
    """
    lines = read_lines(path)
    if not lines or lines[0] != _HEADER:
        raise ValueError(f"{path}:1: expected {_HEADER!r}, got {lines[0] if lines else 'an empty file'!r}")
    rows = parse_rows(enumerate(lines[1:], start=2), path, _parse, problems)
    return [box._replace(line=line) for line, box in rows]


def read_class_list(path: Path) -> dict[str, Mapping[str, str]]:
    """Read ``light``, ``place`` and ``part`` of each picture, by its name without suffix.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A line is bad, or a picture is listed twice; the message names the file and the line.
    """
    found: dict[str, Mapping[str, str]] = {}
    for number, (stem, attributes) in parse_rows(
        list(enumerate(read_lines(path), start=1))[1:], path, _parse_listed, Problems()
    ):
        if stem in found:
            raise ValueError(f"{path}:{number}: {stem} is listed a second time")
        found[stem] = attributes
    return found


def _parse(line: str) -> Box:
    name, *numbers = line.split()
    if name not in _IDS:
        raise ValueError(f"unknown class {name!r}, expected one of {', '.join(CLASSES)}")
    values = reals(numbers, _FIELDS)
    left, top, width, height = (int(v) if v.is_integer() else v for v in values[:4])
    require_size(width, height)
    return Box((_IDS[name],), (left, top, width, height), 0, crowd=values[_IGNORE] != 0)


def _parse_listed(line: str) -> tuple[str, Mapping[str, str]]:
    name, *codes = line.split()
    _, light, place, part = integers(codes, _LIST_FIELDS)
    return plain_stem(name), {
        "light": _named(light, LIGHTS, "Light"),
        "place": _named(place, PLACES, "In/Out"),
        "part": _named(part, PARTS, "Train/Val/Test"),
    }


def _named(code: int, names: tuple[str, ...], field: str) -> str:
    if not 1 <= code <= len(names):
        raise ValueError(f"{field} must be from 1 to {len(names)}, got {code}")
    return names[code - 1]
