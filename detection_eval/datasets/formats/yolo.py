"""The YOLO text format: each picture has a text file with a line ``class cx cy width height`` for each object.

Coordinates are fractions of the picture's size.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from llie_preproc.coco_json import is_whole, kind_of
from llie_preproc.errors import require
from llie_preproc.files import read_text

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
    read_lines,
    reals,
    relative_stem,
    texts_by,
)

_FIELDS = ("cx", "cy", "width", "height")
_CLASS_FILE = "classes.txt"
_LISTS, _YAML = (".txt", ".names"), (".yaml", ".yml")
_LONGEST_NAME = 200
# Programs that compute in 32 bits write fractions that are outside [0, 1] by less than this.
_ROUNDING = 1e-6


def yolo(images: str | os.PathLike[str], annotations: str | os.PathLike[str], classes: Sequence[str]) -> LabelSet:
    """The YOLO text format. A picture without a text file has no objects, as the format defines.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/1.png": "", f"{root}/1.txt": "0 0.5 0.5 0.25 0.5"})
    ...     yolo(root, root, classes=["car"]).read("1", (60, 40), Problems()).boxes[0].xywh
    (22.5, 10.0, 15.0, 20.0)

    Args:
        images: Folder of the pictures.
        annotations: Folder of the texts, with the same subfolders. A file ``classes.txt`` in it is not an annotation.
        classes: Names of the classes by number. They get the ids 1, 2, ...

    Raises:
        FileNotFoundError: A folder is missing, or there is no text.
        ValueError: Two pictures or two classes have the same name, or there is no class.
    """
    require_classes(classes, "classes")
    root, folder = Path(images).expanduser(), Path(annotations).expanduser()
    pictures = pictures_by(root, lambda path: relative_stem(path, root))
    texts = texts_by(folder, lambda path: relative_stem(path, folder))
    if _CLASS_FILE.removesuffix(".txt") not in pictures:
        texts.pop(_CLASS_FILE.removesuffix(".txt"), None)
    if not texts:
        # Without this check a wrong folder would become a set without objects.
        raise FileNotFoundError(f"there is no annotation, NAME.txt, below {folder}")

    def read(key: str, size: Size, problems: Problems) -> BoxList:
        return BoxList(read_yolo(texts[key], size, classes, problems))

    labelled = {key: Place(path) for key, path in texts.items()}
    categories = dict(enumerate(classes, start=1))
    return LabelSet("YOLO text", root, categories, pictures, labelled, read, unlabelled_is_empty=True)


@annotation_format("yolo", "YOLO text")
def _arguments(parser: argparse.ArgumentParser) -> Reader:
    add_folders(parser, "folder of the texts; a picture without one has no objects")
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="names of the classes, by number from 0; or a text file with one name in each line; or data.yaml",
    )
    return lambda args: yolo(args.images, args.annotations, class_names(args.classes))


def read_yolo(path: Path, size: tuple[int, int], classes: Sequence[str], problems: Problems) -> list[Box]:
    """Read the annotation file of a picture of ``size`` (width, height).

    Raises:
        ValueError: A line is bad; the message names the file and the line.
    """

    def parse(line: str) -> Box:
        number, *place = line.split()
        (label,) = integers([number], ["class"])
        if not 0 <= label < len(classes):
            raise ValueError(f"unknown class {label}, expected 0 to {len(classes) - 1}: {', '.join(classes)}")
        return Box((label + 1,), _in_pixels(reals(place, _FIELDS), size), 0)

    return [box._replace(line=n) for n, box in parse_rows(enumerate(read_lines(path), start=1), path, parse, problems)]


def class_names(given: Sequence[str]) -> list[str]:
    """The names of the classes, from ``given`` itself or from the file that it names.

    A single name that looks like a file is read as a file. A YAML file holds ``names``, a list or a mapping from number
    to name. A text file holds one name in each line.

    >>> class_names(["car", "bus"])
    ['car', 'bus']

    Raises:
        FileNotFoundError: A single name looks like a file, and there is no such file.
        ValueError: The suffix of the file is unknown, or the file holds no names or a name twice.
        MissingExtraError: The file is YAML, and PyYAML is not installed.
    """
    path = Path(given[0]).expanduser()
    if len(given) > 1 or not (path.suffix in {*_LISTS, *_YAML} or path.exists() or path.name != given[0]):
        return list(given)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}, which should hold the names of the classes")
    if path.suffix not in {*_LISTS, *_YAML}:
        raise ValueError(f"{path}: a file with names of classes must end in one of {', '.join([*_LISTS, *_YAML])}")
    names = _yaml_names(path) if path.suffix in _YAML else [line for line in read_lines(path) if line]
    require_classes(names, str(path))
    return names


def require_classes(names: Sequence[str], source: str) -> None:
    """Raise ``ValueError`` if there are no names, a name is given twice, or one is too long or not printable."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice or not names:
        raise ValueError(
            f"{source}: {f'class {twice[0]!r} is given twice' if twice else 'there are no names of classes'}"
        )
    if odd := next((name for name in names if not name.isprintable() or len(name) > _LONGEST_NAME), None):
        raise ValueError(
            f"{source}: the name of a class must be printable and have at most {_LONGEST_NAME} characters, got "
            f"{odd[:40]!r}"
        )


def _yaml_names(path: Path) -> list[str]:
    require("yaml", f"reading the names of {path}", "mm")
    yaml = import_module("yaml")
    try:
        content: Any = yaml.safe_load(read_text(path))
    # PyYAML also raises errors of other types: for impossible values, such as a 13th month, and for deeply nested
    # lists.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, Mapping) and all(is_whole(n) for n in names) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        # The message does not show the value, which YAML's aliases can make endless.
        raise ValueError(
            f"{path}: 'names' must be a list of names, or a mapping from 0, 1, ... to them, got {kind_of(names)}"
        )
    return names


def _in_pixels(place: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    for name, value in zip(_FIELDS, place, strict=True):
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise ValueError(f"{name} must be a fraction of the picture's size, from 0 to 1, got {value:g}")
    cx, cy, width, height = place
    return (cx - width / 2) * size[0], (cy - height / 2) * size[1], width * size[0], height * size[1]
