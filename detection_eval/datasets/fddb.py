"""FDDB: ellipses of the faces in ten fold files, and detections as its own program takes them.

``FDDB-fold-XX-ellipseList.txt`` has for each picture its name (without ``.jpg``), the number of faces, and a line
``major_radius minor_radius angle center_x center_y 1`` for each: radii in pixels, the angle of the major axis in
radians, positive clockwise on the screen. Detections stand in the same order of lines, ``left top width height score``
or an ellipse with the score in the last place. Source: V. Jain, E. Learned-Miller, "FDDB: A benchmark for face
detection in unconstrained settings", UM-CS-2010-009.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from llie_preproc.faces import Faces
from llie_preproc.files import atomic_write
from llie_preproc.pictures import picture_files, picture_size

from .labels import Size, integers, read_lines, reals, require_size

FOLDS = tuple(range(1, 11))
_ELLIPSE = ("major_radius", "minor_radius", "angle", "center_x", "center_y")
_RECTANGLE = ("left", "top", "width", "height")
_KINDS = {len(_RECTANGLE): _RECTANGLE, len(_ELLIPSE): _ELLIPSE}
_COLUMNS = ["image", "width", "height"]
_SHOWN = 3
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class FddbTruth:
    """The annotated faces, in the order of the fold files.

    Attributes:
        ellipses: ``(n, 5)`` float64 by the picture's name: major radius, minor radius, angle in radians, centre x, y.
        folds: The fold of each picture, 1 to 10.

    Raises:
        ValueError: The two have other names, an array has another shape, a value is not finite, a radius is negative.
    """

    ellipses: Mapping[str, np.ndarray]
    folds: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.ellipses.keys() != self.folds.keys():
            raise ValueError(f"{_some(self.ellipses.keys() ^ self.folds.keys())}: in one of ellipses and folds alone")
        for name, ellipses in self.ellipses.items():
            if ellipses.ndim != 2 or ellipses.shape[1] != len(_ELLIPSE):
                raise ValueError(f"{name}: ellipses must be (n, 5), got {ellipses.shape}")
            _check_shapes(ellipses, name)

    def __len__(self) -> int:
        return len(self.ellipses)

    @property
    def faces(self) -> int:
        """How many are annotated."""
        return sum(map(len, self.ellipses.values()))

    def only(self, folds: Sequence[int]) -> FddbTruth:
        """The pictures of these folds.

        Raises:
            ValueError: One of them has no picture here.
        """
        absent = sorted(set(folds) - set(self.folds.values()))
        if absent or not folds:
            raise ValueError(f"no pictures of fold {', '.join(map(str, absent)) or '(none given)'}")
        kept = {name: fold for name, fold in self.folds.items() if fold in folds}
        return FddbTruth({name: self.ellipses[name] for name in kept}, kept)


@dataclass(frozen=True)
class FddbDetections:
    """What a detector found in one picture, in its pixels.

    Attributes:
        shapes: ``(n, 4)`` left, top, width, height, or ``(n, 5)`` ellipses as :class:`FddbTruth` has them.
        scores: ``(n,)``, of any range; the higher the surer.

    Raises:
        ValueError: Another shape, a value that is not finite, a negative width, height or radius.
    """

    shapes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        shapes, scores = (np.asarray(each, dtype=np.float64) for each in (self.shapes, self.scores))
        if scores.ndim != 1 or shapes.ndim != 2 or len(shapes) != len(scores) or shapes.shape[1] not in _KINDS:
            raise ValueError(f"shapes must be (n, 4) or (n, 5) and scores (n,), got {shapes.shape} and {scores.shape}")
        _check_shapes(shapes, "detections")
        wrong = np.flatnonzero(~np.isfinite(scores))
        if wrong.size:
            raise ValueError(f"detections[{wrong[0]}]: score must be finite, got {scores[wrong[0]]}")
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def elliptic(self) -> bool:
        """Whether they are ellipses."""
        return self.shapes.shape[1] == len(_ELLIPSE)

    @classmethod
    def none(cls) -> FddbDetections:
        """Nothing was found."""
        return cls(np.zeros((0, 4)), np.zeros(0))


def from_faces(faces: Faces) -> FddbDetections:
    """The boxes of any face detector as left, top, width, height.

    Raises:
        ValueError: A value is not finite, or x2 or y2 is less than x1 or y1.
    """
    corners = np.asarray(faces.boxes, dtype=np.float64).reshape(-1, 4)
    return FddbDetections(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), faces.scores)


def read_fddb(folder: str | os.PathLike[str], folds: Sequence[int] | None = None) -> FddbTruth:
    """Read the annotations.

    Args:
        folder: Holds ``FDDB-fold-01-ellipseList.txt`` to ``FDDB-fold-10-ellipseList.txt``.
        folds: Those to read, of 1 to 10; by default all ten.

    Raises:
        FileNotFoundError: The file of a fold is not there.
        ValueError: No such fold; a line is bad, a number of faces is not that of the lines, a picture is listed twice;
            the message names file and line.
    """
    root = Path(folder).expanduser()
    wanted = FOLDS if folds is None else sorted(set(folds))
    unknown = [fold for fold in wanted if fold not in FOLDS]
    if unknown or not wanted:
        raise ValueError(f"folds must be some of 1 to 10, got {list(folds or [])}")
    ellipses: dict[str, np.ndarray] = {}
    of_fold: dict[str, int] = {}
    places: dict[str, str] = {}
    for fold in wanted:
        for block in _blocks(root / f"FDDB-fold-{fold:02d}-ellipseList.txt", _annotation, places):
            ellipses[block.name] = np.array(block.rows, dtype=np.float64).reshape(-1, len(_ELLIPSE))
            of_fold[block.name] = fold
    return FddbTruth(ellipses, of_fold)


def read_detections(path: str | os.PathLike[str]) -> dict[str, FddbDetections]:
    """Read detections in FDDB's layout.

    Args:
        path: One file, or a folder with ``fold-XX-out.txt`` for some or all of the folds.

    Returns:
        By the picture's name, in the order of the files; one without detections has none of them.

    Raises:
        FileNotFoundError: No such file, or no such files in the folder.
        ValueError: A line is bad, a number of detections is not that of the lines, rectangles and ellipses are mixed in
            one picture, a picture is listed twice; the message names file and line.
    """
    source = Path(path).expanduser()
    files = sorted(source.glob("fold-[0-9][0-9]-out.txt")) if source.is_dir() else [source]
    if not files:
        raise FileNotFoundError(f"{source} holds no detections: fold-01-out.txt to fold-10-out.txt")
    found: dict[str, FddbDetections] = {}
    places: dict[str, str] = {}
    for file in files:
        for block in _blocks(file, _detection, places):
            found[block.name] = _found(block, file)
    return found


def write_detections(path: str | os.PathLike[str], detections: Mapping[str, Faces]) -> None:
    """Write one file in FDDB's layout: for each picture its name, the number, ``left top width height score`` lines.

    All digits are kept: :func:`read_detections` gives what :func:`from_faces` gives, and the order is that of the
    mapping, which for FDDB's own program must be that of the fold files.

    Raises:
        ValueError: See :func:`from_faces`; also a name with white space in it. The message names the picture.
    """
    lines: list[str] = []
    for name, faces in detections.items():
        try:
            found = from_faces(faces)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if len(name.split()) != 1 or name != name.strip():
            raise ValueError(f"a name in FDDB's files has no white space, got {name!r}")
        rows = np.concatenate([found.shapes, found.scores[:, None]], axis=1).tolist()
        lines += [name, str(len(rows)), *(" ".join(map(repr, row)) for row in rows)]
    with atomic_write(Path(path).expanduser()) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def read_sizes(path: str | os.PathLike[str]) -> dict[str, Size]:
    """Read a table of sizes: a head ``image,width,height``, then a line for each picture.

    Returns:
        ``(width, height)`` in pixels by the picture's name.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another head, a bad line, a size below 1, a picture listed twice; the message names file and line.
    """
    source = Path(path).expanduser()
    try:
        rows = list(csv.reader(read_lines(source)))
    except csv.Error as error:
        raise ValueError(f"{source}: no table of sizes ({error})") from error
    if not rows or rows[0] != _COLUMNS:
        raise ValueError(f"{source}:1: expected the head {','.join(_COLUMNS)}, got {','.join(rows[0] if rows else [])}")
    sizes: dict[str, Size] = {}
    for number, fields in enumerate(rows[1:], start=2):
        if not fields:
            continue
        name, size = _at(source, number, _sized, fields)
        if name in sizes:
            raise ValueError(f"{source}:{number}: {name} is listed a second time")
        sizes[name] = size
    return sizes


def picture_sizes(
    truth: FddbTruth, images: str | os.PathLike[str] | None = None, table: str | os.PathLike[str] | None = None
) -> dict[str, Size]:
    """What is known of the pictures' sizes: of picture files, and of a table for those that have none.

    Args:
        truth: The annotations, which name the pictures.
        images: Folder of the pictures, ``NAME.jpg`` below it; some may be missing.
        table: What :func:`read_sizes` reads; it may have fewer pictures, or more.

    Returns:
        ``(width, height)`` in pixels by name; pictures of unknown size are left out.

    Raises:
        FileNotFoundError: No such folder or file, or none of the pictures is in the folder.
        ValueError: See :func:`read_sizes`; a picture has another size than the table says.
    """
    listed = {} if table is None else read_sizes(table)
    sizes = {name: listed[name] for name in truth.ellipses if name in listed}
    if images is None:
        return sizes
    there = find_pictures(truth, images)
    for name, file in there.items():
        size = picture_size(file)
        if sizes.setdefault(name, size) != size:
            raise ValueError(
                f"{file} is {size[0]}x{size[1]}, but {table} says {sizes[name][0]}x{sizes[name][1]}: FDDB's faces and "
                "the detections are in pixels of the original picture"
            )
    return sizes


def find_pictures(truth: FddbTruth, images: str | os.PathLike[str]) -> dict[str, Path]:
    """The picture files that are there, by name.

    Names are looked up among the pictures below the folder, as those of all other sets are: none leads out of it.

    Args:
        truth: The annotations, which name the pictures.
        images: Folder of the pictures, ``NAME.jpg`` below it.

    Raises:
        FileNotFoundError: No such folder, or none of the pictures is in it.
    """
    root = Path(images).expanduser()
    files = {path.relative_to(root).as_posix(): path for path in picture_files(root)}
    there = {name: files[f"{name}.jpg"] for name in truth.ellipses if f"{name}.jpg" in files}
    if not there:
        first = next(iter(truth.ellipses), "-")
        raise FileNotFoundError(f"{root} holds none of the {len(truth)} pictures, such as {first}.jpg")
    return there


class _Block(NamedTuple):
    name: str
    line: int
    rows: list[list[float]]


def _blocks(path: Path, parse: Callable[[str], list[float]], places: dict[str, str]) -> Iterator[_Block]:
    """The pictures of a file; ``places`` has where each was listed so far."""
    lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
    position = 0
    while position < len(lines):
        number, name = lines[position]
        _require_name(name, path, number)
        if name in places:
            raise ValueError(f"{path}:{number}: {name} is listed a second time, after {places[name]}")
        places[name] = f"{path}:{number}"
        count = _count(lines[position + 1 : position + 2], path, number, name)
        rows = lines[position + 2 : position + 2 + count]
        _require_rows(rows, count, path, number + 1, name)
        yield _Block(name, number, [_at(path, at, parse, row) for at, row in rows])
        position += 2 + count


def _at(path: Path, line: int, parse: Callable[[S], T], value: S) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{path}:{line}: {error}") from None


def _require_name(name: str, path: Path, number: int) -> None:
    if len(name.split()) != 1:
        raise ValueError(
            f"{path}:{number}: expected the name of a picture, got {name!r}; if that is a face, the number before the "
            "faces of the picture above is too small"
        )


def _count(lines: Sequence[tuple[int, str]], path: Path, number: int, name: str) -> int:
    at, text = lines[0] if lines else (number + 1, "the end of the file")
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{path}:{at}: expected the number of faces of {name}, got {text!r}")
    return int(text)


def _require_rows(rows: Sequence[tuple[int, str]], count: int, path: Path, number: int, name: str) -> None:
    # A name is one word; a face has several numbers.
    strange = next((at for at, line in rows if len(line.split()) == 1), None)
    if strange is not None or len(rows) < count:
        where = strange or number + len(rows) + 1
        raise ValueError(f"{path}:{where}: fewer lines than the {count} faces that {name} has by line {number}")


def _annotation(line: str) -> list[float]:
    *ellipse, label = reals(line.split(), (*_ELLIPSE, "label"))
    if label != 1:
        raise ValueError(f"the label at the end of an annotation is 1, got {label:g}")
    _check_row(ellipse)
    return ellipse


def _detection(line: str) -> list[float]:
    fields = line.split()
    names = _KINDS.get(len(fields) - 1)
    if names is None:
        wanted = " or ".join(f"{len(kind) + 1} ({' '.join(kind)} score)" for kind in _KINDS.values())
        raise ValueError(f"expected {wanted} values, got {len(fields)}")
    values = reals(fields, (*names, "score"))
    _check_row(values[:-1])
    return values


def _check_row(shape: Sequence[float]) -> None:
    if len(shape) == len(_RECTANGLE):
        require_size(*shape[2:])
    elif min(shape[:2]) < 0:
        raise ValueError(f"radii must not be negative, got {shape[0]} and {shape[1]}")


def _found(block: _Block, path: Path) -> FddbDetections:
    if not block.rows:
        return FddbDetections.none()
    if len({len(row) for row in block.rows}) > 1:
        raise ValueError(f"{path}:{block.line}: {block.name} has rectangles and ellipses; expected one kind")
    values = np.array(block.rows)
    return FddbDetections(values[:, :-1], values[:, -1])


def _check_shapes(shapes: np.ndarray, what: str) -> None:
    sides = shapes[:, :2] if shapes.shape[1] == len(_ELLIPSE) else shapes[:, 2:]
    wrong = np.flatnonzero(~(np.isfinite(shapes).all(axis=1) & (sides >= 0).all(axis=1)))
    if wrong.size:
        wanted = "finite, its width, height or radii not negative"
        raise ValueError(f"{what}[{wrong[0]}]: a shape must be {wanted}, got {shapes[wrong[0]].tolist()}")


def _sized(fields: Sequence[str]) -> tuple[str, Size]:
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"expected {len(_COLUMNS)} values ({','.join(_COLUMNS)}), got {len(fields)}")
    width, height = integers(fields[1:], _COLUMNS[1:])
    if min(width, height) < 1:
        raise ValueError(f"width and height must be at least 1, got {width} and {height}")
    return fields[0], (width, height)


def _some(names: Sequence[str] | set[str]) -> str:
    named = sorted(names)
    return ", ".join(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")
