"""WIDER FACE's lists of easy, medium and hard faces, and the prediction files of its tool and of DARK FACE's."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from llie_preproc.errors import require
from llie_preproc.faces import Faces
from llie_preproc.files import atomic_write, read_bytes

from .labels import integers, read_lines, reals, relative_stem, require_size, texts_by

DIFFICULTIES = ("easy", "medium", "hard")
_FIELDS = ("event_list", "file_list", "gt_list")
_CORNERS = ("x1", "y1", "x2", "y2", "score")
_SIDES = ("x", "y", "width", "height", "score")


def read_difficulties(folder: str | os.PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """``wider_{easy,medium,hard}_val.mat`` of a folder, by difficulty.

    Raises:
        FileNotFoundError: One is not there.
        ValueError: As :func:`read_difficulty`.
    """
    return {name: read_difficulty(Path(folder) / f"wider_{name}_val.mat") for name in DIFFICULTIES}


def read_difficulty(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read which faces of each picture a difficulty keeps; the others are neither to be found nor false.

    Args:
        path: A MATLAB file with cells ``event_list``, ``file_list`` (per event the pictures' names without suffix) and
            ``gt_list`` (per event and picture the faces' indices, from 1, in the order of the annotations).

    Returns:
        By ``event/name`` the indices from 0, int64.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file; the message names it, and the field.
        MissingExtraError: SciPy is not installed.
    """
    content = _load(Path(path))
    events, files, kept = (_cell(content[field]) for field in _FIELDS)
    _require_equal(path, len(events), len(files), len(kept), "events")
    lists: dict[str, np.ndarray] = {}
    for event, names, indices in zip(events, files, kept, strict=True):
        of_event, of_faces = _cell(names), _cell(indices)
        _require_equal(path, len(of_event), len(of_faces), len(of_event), f"pictures of {_text(event)}")
        for name, faces in zip(of_event, of_faces, strict=True):
            lists[f"{_text(event)}/{_text(name)}"] = _indices(faces, path, _text(name))
    return lists


def read_darkface_predictions(folder: str | os.PathLike[str]) -> dict[str, Faces]:
    """Read detections as DARK FACE's tool takes them: a text for each picture, ``x1 y1 x2 y2 score`` a line.

    Returns:
        By the file's path below ``folder`` without suffix; an empty file is a picture in which nothing was found.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: A bad line; the message names file and line.
    """
    return {key: _faces(_rows(path, _CORNERS)) for key, path in _texts(folder).items()}


def write_darkface_predictions(folder: str | os.PathLike[str], found: Mapping[str, Faces]) -> None:
    """Write what :func:`read_darkface_predictions` reads; by falling score."""
    for name, faces in found.items():
        rows = (" ".join(_line(values)) for values in _by_score(faces))
        _write(Path(folder) / f"{name}.txt", rows)


def read_wider_predictions(folder: str | os.PathLike[str]) -> dict[str, Faces]:
    """Read detections as WIDER FACE's tool takes them.

    A folder for each event, in it a text for each picture: its name, the number of faces, and ``x y width height
    score`` a line. The right edge is ``x + width``.

    Returns:
        By ``event/name``, without suffix.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: A bad line, another number of lines, or the name of another picture; the message names file and
            line.
    """
    return {key: _wider_faces(path) for key, path in _texts(folder).items()}


def write_wider_predictions(folder: str | os.PathLike[str], found: Mapping[str, Faces]) -> None:
    """Write what :func:`read_wider_predictions` reads; by falling score, names as ``event/name``."""
    for name, faces in found.items():
        rows = [" ".join(_line([x1, y1, x2 - x1, y2 - y1, score])) for x1, y1, x2, y2, score in _by_score(faces)]
        _write(Path(folder) / f"{name}.txt", [PurePosixPath(name).name, str(len(rows)), *rows])


def _load(path: Path) -> dict[str, Any]:
    require("scipy", "reading WIDER FACE's difficulties")
    from scipy.io import loadmat

    if not path.exists():
        raise FileNotFoundError(f"no file {path}: WIDER FACE's tool brings wider_easy_val.mat and its like")
    data = read_bytes(path)
    try:
        content = loadmat(io.BytesIO(data))
    # What SciPy raises depends on where the file is damaged; NotImplementedError: MATLAB's newer format.
    except Exception as error:
        raise ValueError(f"{path} is no MATLAB file that SciPy reads: {error}") from error
    if missing := [field for field in _FIELDS if field not in content]:
        known = ", ".join(key for key in content if not key.startswith("__"))
        raise ValueError(f"{path} has no field {missing[0]!r}, but {known or 'none'}")
    return content


def _cell(value: Any) -> list[Any]:
    """The members of a cell array, in its order."""
    return list(np.asarray(value, dtype=object).ravel(order="F"))


def _text(value: Any) -> str:
    """A string, which MATLAB's files nest."""
    return str(value.ravel()[0]) if isinstance(value, np.ndarray) and value.size else str(value)


def _indices(faces: Any, path: str | os.PathLike[str], name: str) -> np.ndarray:
    try:
        indices = np.asarray(faces, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"{path}: gt_list of {name} holds no numbers") from None
    if (indices < 1).any() or (indices != np.floor(indices)).any():
        raise ValueError(f"{path}: gt_list of {name} must hold whole numbers from 1, got {indices.min():g}")
    return indices.astype(np.int64) - 1


def _require_equal(path: str | os.PathLike[str], files: int, kept: int, names: int, what: str) -> None:
    if not files == kept == names:
        raise ValueError(f"{path}: lists of different lengths of {what}: {names}, {files} and {kept}")


def _texts(folder: str | os.PathLike[str]) -> dict[str, Path]:
    root = Path(folder)
    return texts_by(root, lambda path: relative_stem(path, root))


def _rows(path: Path, names: Sequence[str]) -> list[list[float]]:
    return [_parsed(path, number, line, names) for number, line in enumerate(read_lines(path), 1) if line]


def _parsed(path: Path, number: int, line: str, names: Sequence[str]) -> list[float]:
    return _located(path, number, partial(reals, line.split(), names))


def _located(path: Path, number: int, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}") from None


def _wider_faces(path: Path) -> Faces:
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line]
    if len(lines) < 2:
        raise ValueError(f"{path}: expected the picture's name, the number of faces, and a line for each")
    (first, name), (second, count) = lines[:2]
    # Some write the event before the name, or the suffix after it.
    if PurePosixPath(name).name not in (path.stem, *(f"{path.stem}{suffix}" for suffix in (".jpg", ".png"))):
        raise ValueError(f"{path}:{first}: is of the picture {name!r}, expected {path.stem!r}")
    (expected,) = _located(path, second, partial(integers, [count], ["number of faces"]))
    rows = [_parsed(path, number, line, _SIDES) for number, line in lines[2:]]
    if len(rows) != expected:
        raise ValueError(f"{path}:{second}: says {expected} faces, but {len(rows)} lines follow")
    for (number, _), (_, _, width, height, _) in zip(lines[2:], rows, strict=True):
        _located(path, number, partial(require_size, width, height))
    return _faces([[x, y, x + width, y + height, score] for x, y, width, height, score in rows])


def _faces(rows: Sequence[Sequence[float]]) -> Faces:
    values = np.array(rows, dtype=np.float64).reshape(-1, 5).astype(np.float32)
    return Faces(values[:, :4], values[:, 4])


def _by_score(faces: Faces) -> Iterator[list[float]]:
    for index in np.argsort(-faces.scores, kind="stable"):
        yield [*map(float, faces.boxes[index]), float(faces.scores[index])]


def _line(values: Sequence[float]) -> list[str]:
    """Coordinates as they are, and the score in as many digits as tell float32 apart."""
    return [*(f"{value:.9g}" for value in values)]


def _write(path: Path, rows: Any) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{row}\n" for row in rows).encode())
