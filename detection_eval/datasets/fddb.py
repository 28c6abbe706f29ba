"""The formats of FDDB: ellipses of the faces in ten fold files, and detections as FDDB's own program reads them.

``FDDB-fold-XX-ellipseList.txt`` holds for each picture its name (without ``.jpg``), the number of faces, and a line
``major_radius minor_radius angle center_x center_y 1`` for each face. Radii are in pixels. The angle is that of the
major axis in radians, positive clockwise on the screen. Files of detections have the same lines, but each face is
``left top width height score``, or an ellipse with the score in the last place. Source: V. Jain, E. Learned-Miller,
"FDDB: A benchmark for face detection in unconstrained settings", UM-CS-2010-009.
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

    >>> truth = FddbTruth({"a": np.array([[20.0, 15.0, 0.1, 50.0, 60.0]])}, {"a": 1})
    >>> len(truth), truth.faces
    (1, 1)

    Attributes:
        ellipses: Ellipses ``(n, 5)`` float64 by the picture's name: major radius, minor radius, angle in radians,
            centre x, centre y.
        folds: Fold of each picture, 1 to 10, by the picture's name.

    Raises:
        ValueError: ``ellipses`` and ``folds`` do not name the same pictures, an array has another shape, a value is not
            finite, or a radius is negative.
    """

    ellipses: Mapping[str, np.ndarray]
    folds: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.ellipses.keys() != self.folds.keys():
            raise ValueError(
                f"{_some(self.ellipses.keys() ^ self.folds.keys())}: each picture must be both in ellipses and in folds"
            )
        for name, ellipses in self.ellipses.items():
            if ellipses.ndim != 2 or ellipses.shape[1] != len(_ELLIPSE):
                raise ValueError(f"{name}: ellipses must be (n, 5), got {ellipses.shape}")
            _check_shapes(ellipses, name)

    def __len__(self) -> int:
        return len(self.ellipses)

    @property
    def faces(self) -> int:
        """The number of annotated faces."""
        return sum(map(len, self.ellipses.values()))

    def only(self, folds: Sequence[int]) -> FddbTruth:
        """The pictures of these folds.

        Raises:
            ValueError: A fold has no picture here, or no fold is given.
        """
        absent = sorted(set(folds) - set(self.folds.values()))
        if absent or not folds:
            raise ValueError(f"there are no pictures of fold {', '.join(map(str, absent)) or '(none given)'}")
        kept = {name: fold for name, fold in self.folds.items() if fold in folds}
        return FddbTruth({name: self.ellipses[name] for name in kept}, kept)


@dataclass(frozen=True)
class FddbDetections:
    """The detections in one picture, in its pixels.

    >>> found = FddbDetections([[30, 45, 40, 30]], [0.9])
    >>> len(found), found.elliptic
    (1, False)

    Attributes:
        shapes: Rectangles ``(n, 4)`` left, top, width, height, or ellipses ``(n, 5)`` as in :class:`FddbTruth`.
        scores: Scores ``(n,)`` of any range; a higher score means a more certain detection.

    Raises:
        ValueError: An array has another shape, a value is not finite, or a width, height or radius is negative.
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
        """Whether the shapes are ellipses."""
        return self.shapes.shape[1] == len(_ELLIPSE)

    @classmethod
    def none(cls) -> FddbDetections:
        """The detections of a picture in which nothing was found."""
        return cls(np.zeros((0, 4)), np.zeros(0))


def from_faces(faces: Faces) -> FddbDetections:
    """The boxes of any face detector, converted to left, top, width and height.

    >>> faces = Faces(np.array([[30.0, 45, 70, 75]], np.float32), np.array([0.9], np.float32))
    >>> from_faces(faces).shapes.tolist()
    [[30.0, 45.0, 40.0, 30.0]]

    Raises:
        ValueError: A value is not finite, x2 is less than x1, or y2 is less than y1.
    """
    corners = np.asarray(faces.boxes, dtype=np.float64).reshape(-1, 4)
    return FddbDetections(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), faces.scores)


def read_fddb(folder: str | os.PathLike[str], folds: Sequence[int] | None = None) -> FddbTruth:
    """Read FDDB's annotations.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     text = "2002/08/11/big/img_591\\n1\\n123.5 85.5 1.27 269.7 161.8  1\\n"
    ...     _ = Path(root, "FDDB-fold-01-ellipseList.txt").write_text(text)
    ...     truth = read_fddb(root, folds=[1])
    >>> truth.ellipses["2002/08/11/big/img_591"].shape
    (1, 5)

    Args:
        folder: Folder with ``FDDB-fold-01-ellipseList.txt`` to ``FDDB-fold-10-ellipseList.txt``.
        folds: Folds to read, of 1 to 10; by default all ten.

    Raises:
        FileNotFoundError: The file of a fold is missing.
        ValueError: A fold is unknown, a line is bad, a number of faces differs from the number of lines, or a picture
            is listed twice; the message names the file and the line.
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
        path: Path of one file, or of a folder with ``fold-XX-out.txt`` for some or all of the folds.

    Returns:
        The detections by the picture's name, in the order of the files. A picture in which nothing was found has an
        empty :class:`FddbDetections`.

    Raises:
        FileNotFoundError: The file is missing, or the folder holds no such files.
        ValueError: A line is bad, a number of detections differs from the number of lines, one picture has both
            rectangles and ellipses, or a picture is listed twice; the message names the file and the line.
    """
    source = Path(path).expanduser()
    files = sorted(source.glob("fold-[0-9][0-9]-out.txt")) if source.is_dir() else [source]
    if not files:
        raise FileNotFoundError(f"{source} holds no detections, fold-01-out.txt to fold-10-out.txt")
    found: dict[str, FddbDetections] = {}
    places: dict[str, str] = {}
    for file in files:
        for block in _blocks(file, _detection, places):
            found[block.name] = _found(block, file)
    return found


def write_detections(path: str | os.PathLike[str], detections: Mapping[str, Faces]) -> None:
    """Write one file in FDDB's layout.

    For each picture it holds the name, the number of faces, and a line ``left top width height score`` for each face.
    All digits are kept, so that :func:`read_detections` returns what :func:`from_faces` returns. Pictures come in the
    order of the mapping; FDDB's own program needs the order of the fold files.

    >>> import tempfile
    >>> faces = Faces(np.array([[30.0, 45, 70, 75]], np.float32), np.array([0.5], np.float32))
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_detections(f"{root}/fold-01-out.txt", {"img_591": faces})
    ...     read_detections(root)["img_591"].shapes.tolist()
    [[30.0, 45.0, 40.0, 30.0]]

    Raises:
        ValueError: :func:`from_faces` refuses the faces, or a name has white space in it. The message names the
            picture.
    """
    lines: list[str] = []
    for name, faces in detections.items():
        try:
            found = from_faces(faces)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if len(name.split()) != 1 or name != name.strip():
            raise ValueError(f"a name in FDDB's files must have no white space, got {name!r}")
        rows = np.concatenate([found.shapes, found.scores[:, None]], axis=1).tolist()
        lines += [name, str(len(rows)), *(" ".join(map(repr, row)) for row in rows)]
    with atomic_write(Path(path).expanduser()) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def read_sizes(path: str | os.PathLike[str]) -> dict[str, Size]:
    """Read a CSV table of sizes: the line ``image,width,height``, then a line for each picture.

    Returns:
        ``(width, height)`` in pixels by the picture's name.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The first line is not ``image,width,height``, a line is bad, a size is below 1, or a picture is
            listed twice; the message names the file and the line.
    """
    source = Path(path).expanduser()
    try:
        rows = list(csv.reader(read_lines(source)))
    except csv.Error as error:
        raise ValueError(f"{source} is not a table of sizes ({error})") from error
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
    """The known sizes of the pictures: from the picture files, or from a table for pictures without a file.

    Args:
        truth: Annotations, which name the pictures.
        images: Folder of the pictures, which are ``NAME.jpg`` below it; some may be missing.
        table: Path of a table for :func:`read_sizes`; it may list fewer pictures, or more.

    Returns:
        ``(width, height)`` in pixels by the picture's name; pictures of unknown size are left out.

    Raises:
        FileNotFoundError: A folder or file is missing, or the folder holds none of the pictures.
        ValueError: :func:`read_sizes` refuses the table, or a picture does not have the size that the table gives.
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
    """The picture files that exist, by the picture's name.

    A name is looked up only among the pictures below the folder, so a name such as ``../x`` does not lead out of it.

    Args:
        truth: Annotations, which name the pictures.
        images: Folder of the pictures, which are ``NAME.jpg`` below it.

    Raises:
        FileNotFoundError: The folder is missing or holds none of the pictures.
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
    """The pictures of a fold file. ``places`` collects where each is listed, to find one that is listed twice."""
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
            f"{path}:{number}: expected the name of a picture, got {name!r}; if this is a face, the number of faces of "
            "the picture above is too small"
        )


def _count(lines: Sequence[tuple[int, str]], path: Path, number: int, name: str) -> int:
    at, text = lines[0] if lines else (number + 1, "the end of the file")
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{path}:{at}: expected the number of faces of {name}, got {text!r}")
    return int(text)


def _require_rows(rows: Sequence[tuple[int, str]], count: int, path: Path, number: int, name: str) -> None:
    # A name is a single word, and a face has several numbers, so a line of one word begins the next picture.
    strange = next((at for at, line in rows if len(line.split()) == 1), None)
    if strange is not None or len(rows) < count:
        where = strange or number + len(rows) + 1
        raise ValueError(
            f"{path}:{where}: {name} has {count} faces by the number in line {number}, but fewer lines follow"
        )


def _annotation(line: str) -> list[float]:
    *ellipse, label = reals(line.split(), (*_ELLIPSE, "label"))
    if label != 1:
        raise ValueError(f"the label at the end of an annotation must be 1, got {label:g}")
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
        raise ValueError(f"{path}:{block.line}: {block.name} has both rectangles and ellipses, expected one kind")
    values = np.array(block.rows)
    return FddbDetections(values[:, :-1], values[:, -1])


def _check_shapes(shapes: np.ndarray, what: str) -> None:
    sides = shapes[:, :2] if shapes.shape[1] == len(_ELLIPSE) else shapes[:, 2:]
    wrong = np.flatnonzero(~(np.isfinite(shapes).all(axis=1) & (sides >= 0).all(axis=1)))
    if wrong.size:
        wanted = "be finite and have no negative width, height or radius"
        raise ValueError(f"{what}[{wrong[0]}]: a shape must {wanted}, got {shapes[wrong[0]].tolist()}")


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
