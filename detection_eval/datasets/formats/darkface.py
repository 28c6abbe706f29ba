"""DARK FACE: ``N.png`` and ``N.txt``, a line with the number of faces, then ``x1 y1 x2 y2`` a line.

The corners are pixels of the face, both included, as the benchmark's own tool counts them: its areas are
``(x2 - x1 + 1) (y2 - y1 + 1)``. Boxes therefore have the width ``x2 - x1 + 1`` and the height ``y2 - y1 + 1``, and
their areas and overlaps are the tool's.
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
    """DARK FACE with its annotations, or with pseudo-labels as HLA-Face lists them.

    Args:
        images: Folder of the pictures.
        annotations: Folder of the texts; or a list with a line for each picture: its path, of which the name alone
            counts, the number of faces, and for each ``x y width height 1``. Those boxes are marked ``pseudo_label``.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: Two files of one name, a picture listed twice.
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
        ValueError: The number of faces is not that of the lines, or a line is bad; the message names file and line.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
    first = lines[0] if lines else (1, "")
    try:
        (count,) = integers(first[1].split(), ["number of faces"])
    except ValueError as error:
        raise ValueError(f"{path}:{first[0]}: {error}") from None
    if count != len(lines) - 1:
        raise ValueError(f"{path}:{first[0]}: says {count} faces, but {len(lines) - 1} lines follow")
    return BoxList([Box((1,), xywh, number) for number, xywh in parse_rows(lines[1:], path, _parse, problems)])


def read_pseudo_labels(path: Path, number: int, values: list[str], problems: Problems) -> BoxList:
    """Read a picture's part of line ``number`` of a list: the count, and five values for each face.

    Raises:
        ValueError: The number of faces is not that of the values, or a value is bad; the message names file and line.
    """
    groups = [" ".join(values[i : i + len(_PSEUDO)]) for i in range(1, len(values), len(_PSEUDO))]
    if values[:1] != [str(len(groups))]:
        raise ValueError(f"{path}:{number}: says {' '.join(values[:1]) or 'no number of'} faces, has {len(groups)}")
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
