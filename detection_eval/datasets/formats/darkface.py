"""The format of DARK FACE.

Beside the picture ``N.png`` lies ``N.txt``: a line with the number of faces, then a line ``x1 y1 x2 y2`` for each face.
Both corners are pixels that belong to the face, so boxes get the width ``x2 - x1 + 1`` and the height ``y2 - y1 + 1``.
Their areas and overlaps are then the same as in the benchmark's own tool.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path, PurePosixPath

from ..annotation_formats import Reader, add_folders, annotation_format
from ..labels import (
    Box,
    BoxList,
    LabelSet,
    Place,
    Problems,
    integers,
    parse_rows,
    pictures_by,
    plain_stem,
    read_lines,
    require_size,
    texts_by,
)

CATEGORIES = {1: "face"}
_CORNERS = ("x1", "y1", "x2", "y2")
_PSEUDO = ("x", "y", "width", "height", "label")


def darkface(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> LabelSet:
    """DARK FACE with its annotations, or with pseudo-labels in the format of HLA-Face's list.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/1.png": "", f"{root}/1.txt": "1\\n10 20 19 29\\n"})
    ...     boxes = darkface(root, root).read("1", (60, 40), Problems()).boxes
    >>> boxes[0].xywh
    (10, 20, 10, 10)

    Args:
        images: Folder of the pictures.
        annotations: Folder of the texts, or a file of pseudo-labels. Each line of such a file has the picture's path
            (only its file name counts), the number of faces, and ``x y width height 1`` for each face. The boxes of
            pseudo-labels are marked ``pseudo_label``.

    Raises:
        FileNotFoundError: A folder or file is missing.
        ValueError: Two files have the same name, or a picture is listed twice.
    """
    root, source = Path(images).expanduser(), Path(annotations).expanduser()
    pictures = pictures_by(root, lambda path: plain_stem(path.name))
    if source.is_file():
        lines = _listed(source)
        labelled = {key: Place(source, number) for key, (number, _) in lines.items()}
        return LabelSet(
            "DARK FACE, pseudo-labels", root, CATEGORIES, pictures, labelled,
            lambda key, size, problems: read_pseudo_labels(source, *lines[key], problems),
        )  # fmt: skip
    texts = texts_by(source, lambda path: plain_stem(path.stem))
    return LabelSet(
        "DARK FACE", root, CATEGORIES, pictures, {key: Place(path) for key, path in texts.items()},
        lambda key, size, problems: read_darkface(texts[key], problems),
    )  # fmt: skip


@annotation_format("darkface", "DARK FACE")
def _arguments(parser: argparse.ArgumentParser) -> Reader:
    add_folders(parser, "folder of the texts, or HLA-Face's list of pseudo-labels")
    return lambda args: darkface(args.images, args.annotations)


def read_darkface(path: Path, problems: Problems) -> BoxList:
    """Read one annotation file.

    Raises:
        ValueError: The number of faces differs from the number of lines, or a line is bad; the message names the file
            and the line.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
    first = lines[0] if lines else (1, "")
    try:
        (count,) = integers(first[1].split(), ["number of faces"])
    except ValueError as error:
        raise ValueError(f"{path}:{first[0]}: {error}") from None
    if count != len(lines) - 1:
        raise ValueError(f"{path}:{first[0]}: the number of faces is {count}, but {len(lines) - 1} lines follow")
    return BoxList([Box((1,), xywh, number) for number, xywh in parse_rows(lines[1:], path, _parse, problems)])


def read_pseudo_labels(path: Path, number: int, values: list[str], problems: Problems) -> BoxList:
    """Read the faces from the ``values`` of line ``number``: the number of faces, and five values for each face.

    Raises:
        ValueError: The number of faces does not fit the values, or a value is bad; the message names the file and the
            line.
    """
    groups = [" ".join(values[i : i + len(_PSEUDO)]) for i in range(1, len(values), len(_PSEUDO))]
    if values[:1] != [str(len(groups))]:
        raise ValueError(
            f"{path}:{number}: the number of faces is {' '.join(values[:1]) or 'missing'}, but {len(groups)} follow"
        )
    rows = parse_rows([(number, group) for group in groups], path, _parse_pseudo, problems)
    return BoxList([Box((1,), xywh, line, attributes={"pseudo_label": True}) for line, xywh in rows])


def _listed(path: Path) -> dict[str, tuple[int, list[str]]]:
    found: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        name, *values = line.split()
        key = plain_stem(PurePosixPath(name).name)
        if key in found:
            raise ValueError(f"{path}:{number}: {name} is listed a second time, after line {found[key][0]}")
        found[key] = (number, values)
    return found


def _parse(line: str) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = integers(line.split(), _CORNERS)
    if x2 < x1 or y2 < y1:
        raise ValueError(f"x2 and y2 must not be less than x1 and y1, got {line}")
    return x1, y1, x2 - x1 + 1, y2 - y1 + 1


def _parse_pseudo(group: str) -> tuple[int, int, int, int]:
    x, y, width, height, _ = integers(group.split(), _PSEUDO)
    require_size(width, height)
    return x, y, width, height
