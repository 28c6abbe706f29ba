"""The format of WIDER FACE: a list ``wider_face_{train,val}_bbx_gt.txt`` for all pictures of a part.

For each picture it holds the name, the number of faces, and a line ``x y width height blur expression illumination
invalid occlusion pose`` for each face. Even if the number is 0, one line follows; it has only zeros.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from llie_preproc.pictures import picture_files

from ..annotation_formats import Reader, add_folders, annotation_format
from ..labels import (
    Box,
    BoxList,
    LabelSet,
    Place,
    Problems,
    Size,
    by_key,
    integers,
    parse_rows,
    read_lines,
    require_size,
)

CATEGORIES = {1: "face"}
_FIELDS = ("x", "y", "width", "height", "blur", "expression", "illumination", "invalid", "occlusion", "pose")
_ATTRIBUTES = _FIELDS[4:]
Numbered = list[tuple[int, str]]


def wider_face(images: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> LabelSet:
    """WIDER FACE. Faces that are marked invalid become crowds. Boxes keep their six attributes.

    Width and height stay as they are. (The benchmark's own tool adds a pixel when it computes overlaps.)

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> text = "0--Parade/1.jpg\\n1\\n10 20 9 12 0 0 0 0 0 0\\n"
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/0--Parade/1.jpg": "", f"{root}/list.txt": text})
    ...     labels = wider_face(root, f"{root}/list.txt")
    >>> labels.read("0--Parade/1.jpg", (60, 40), Problems()).boxes[0].xywh
    (10, 20, 9, 12)

    Args:
        images: Folder of the pictures, ``WIDER_train/images`` or ``WIDER_val/images``.
        annotations: Path of the list.

    Raises:
        FileNotFoundError: The folder or the list is missing.
        ValueError: The list does not have this format, or it names a picture twice.
    """
    root, source = Path(images).expanduser(), Path(annotations).expanduser()
    pictures = by_key(picture_files(root), lambda path: path.relative_to(root).as_posix())
    blocks = {name: (number, rows) for number, name, rows in _blocks(source)}

    def read(key: str, size: Size, problems: Problems) -> BoxList:
        return BoxList([box._replace(line=n) for n, box in parse_rows(blocks[key][1], source, _parse, problems)])

    labelled = {name: Place(source, number) for name, (number, _) in blocks.items()}
    return LabelSet("WIDER FACE", root, CATEGORIES, pictures, labelled, read)


@annotation_format("wider-face", "WIDER FACE")
def _arguments(parser: argparse.ArgumentParser) -> Reader:
    add_folders(parser, "file wider_face_train_bbx_gt.txt or wider_face_val_bbx_gt.txt")
    return lambda args: wider_face(args.images, args.annotations)


def _blocks(path: Path) -> Iterator[tuple[int, str, Numbered]]:
    """The pictures of the list: the number of the name's line, the name, and the lines of the faces."""
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
    seen: dict[str, int] = {}
    position = 0
    while position < len(lines):
        number, name = lines[position]
        if name in seen:
            raise ValueError(f"{path}:{number}: {name} is listed a second time, after line {seen[name]}")
        seen[name] = number
        count = _count(lines[position + 1 : position + 2], path, number, name)
        rows = lines[position + 2 : position + 2 + count]
        _require_rows(rows, count, path, number, name)
        yield number, name, rows
        position += 2 + count
        if count == 0 and _is_zero(lines[position : position + 1]):
            position += 1


def _count(lines: Sequence[tuple[int, str]], path: Path, number: int, name: str) -> int:
    if not lines or not lines[0][1].isdecimal():
        got = repr(lines[0][1]) if lines else "the end of the file"
        raise ValueError(f"{path}:{number + 1}: expected the number of faces of {name}, got {got}")
    return int(lines[0][1])


def _require_rows(rows: Numbered, count: int, path: Path, number: int, name: str) -> None:
    # A name has a slash and a face has none, so a line with a slash begins the next picture.
    strange = next((each for each, line in rows if "/" in line), None)
    if strange is not None or len(rows) < count:
        where = strange if strange is not None else number + len(rows) + 2
        raise ValueError(
            f"{path}:{where}: {name} has {count} faces by the number in line {number + 1}, but fewer lines follow"
        )


def _is_zero(lines: Numbered) -> bool:
    return bool(lines) and lines[0][1].split() == ["0"] * len(_FIELDS)


def _parse(line: str) -> Box:
    values = integers(line.split(), _FIELDS)
    x, y, width, height = values[:4]
    require_size(width, height)
    attributes = dict(zip(_ATTRIBUTES, values[4:], strict=True))
    return Box((1,), (x, y, width, height), 0, crowd=attributes["invalid"] != 0, attributes=attributes)
