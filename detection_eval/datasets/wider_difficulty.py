"""WIDER FACE's lists of easy, medium and hard faces, and the prediction files of its tool and of DARK FACE's tool."""

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
    """Read ``wider_{easy,medium,hard}_val.mat`` of a folder, by difficulty.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: :func:`read_difficulty` refuses one of the files.
    """
    return {name: read_difficulty(Path(folder) / f"wider_{name}_val.mat") for name in DIFFICULTIES}


def read_difficulty(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read which faces of each picture belong to a difficulty. Detections of other faces are neither right nor false.

    Args:
        path: Path of a MATLAB file with the cells ``event_list``, ``file_list`` (for each event, the names of the
            pictures without suffix) and ``gt_list`` (for each event and picture, the indices of the faces, from 1, in
            the order of the annotations).

    Returns:
        The indices of the faces, from 0, int64, by ``event/name``.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file has another content; the message names the file and the field.
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
    """Read detections as DARK FACE's tool reads them: a text for each picture with lines ``x1 y1 x2 y2 score``.

    >>> import tempfile
    >>> faces = Faces(np.array([[10.0, 20, 19, 29]], np.float32), np.array([0.5], np.float32))
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_darkface_predictions(root, {"1": faces})
    ...     read_darkface_predictions(root)["1"].boxes.tolist()
    [[10.0, 20.0, 19.0, 29.0]]

    Returns:
        The faces by the path of the file below ``folder``, without suffix. An empty file stands for a picture in which
        nothing was found.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: A line is bad; the message names the file and the line.
    """
    return {key: _faces(_rows(path, _CORNERS)) for key, path in _texts(folder).items()}


def write_darkface_predictions(folder: str | os.PathLike[str], found: Mapping[str, Faces]) -> None:
    """Write files that :func:`read_darkface_predictions` reads; faces are sorted by falling score."""
    for name, faces in found.items():
        rows = (" ".join(_line(values)) for values in _by_score(faces))
        _write(Path(folder) / f"{name}.txt", rows)


def read_wider_predictions(folder: str | os.PathLike[str]) -> dict[str, Faces]:
    """Read detections as WIDER FACE's tool reads them.

    Each event has a folder with a text for each picture. The text holds the name of the picture, the number of faces,
    and a line ``x y width height score`` for each face. The right edge is ``x + width``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_wider_predictions(root, {"0--Parade/0_Parade_1": Faces.none()})
    ...     list(read_wider_predictions(root))
    ['0--Parade/0_Parade_1']

    Returns:
        The faces by ``event/name``, without suffix.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: A line is bad, the number of lines differs from the number of faces, or the text names another
            picture than its file; the message names the file and the line.
    """
    return {key: _wider_faces(path) for key, path in _texts(folder).items()}


def write_wider_predictions(folder: str | os.PathLike[str], found: Mapping[str, Faces]) -> None:
    """Write files that :func:`read_wider_predictions` reads; faces are sorted by falling score.

    The names of pictures are ``event/name``.
    """
    for name, faces in found.items():
        rows = [" ".join(_line([x1, y1, x2 - x1, y2 - y1, score])) for x1, y1, x2, y2, score in _by_score(faces)]
        _write(Path(folder) / f"{name}.txt", [PurePosixPath(name).name, str(len(rows)), *rows])


def _load(path: Path) -> dict[str, Any]:
    require("scipy", "reading WIDER FACE's difficulties")
    from scipy.io import loadmat

    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; such files come with WIDER FACE's tool")
    data = read_bytes(path)
    try:
        content = loadmat(io.BytesIO(data))
    # SciPy raises different errors, depending on where the file is damaged; for MATLAB's newer format it raises
    # NotImplementedError.
    except Exception as error:
        raise ValueError(f"{path} is not a MATLAB file that SciPy can read: {error}") from error
    if missing := [field for field in _FIELDS if field not in content]:
        known = ", ".join(key for key in content if not key.startswith("__"))
        raise ValueError(f"{path} must have the field {missing[0]!r}, got {known or 'none'}")
    return content


def _cell(value: Any) -> list[Any]:
    """The members of a MATLAB cell array, in its order."""
    return list(np.asarray(value, dtype=object).ravel(order="F"))


def _text(value: Any) -> str:
    """The text of a string, which MATLAB's files nest in arrays."""
    return str(value.ravel()[0]) if isinstance(value, np.ndarray) and value.size else str(value)


def _indices(faces: Any, path: str | os.PathLike[str], name: str) -> np.ndarray:
    try:
        indices = np.asarray(faces, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"{path}: gt_list of {name} must hold numbers") from None
    if (indices < 1).any() or (indices != np.floor(indices)).any():
        raise ValueError(f"{path}: gt_list of {name} must hold whole numbers from 1, got {indices.min():g}")
    return indices.astype(np.int64) - 1


def _require_equal(path: str | os.PathLike[str], files: int, kept: int, names: int, what: str) -> None:
    if not files == kept == names:
        raise ValueError(f"{path}: the lists of {what} have different lengths: {names}, {files} and {kept}")


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
        raise ValueError(f"{path}: expected the picture's name, the number of faces, and a line for each face")
    (first, name), (second, count) = lines[:2]
    # Some programs write the event before the name, or the suffix after it.
    if PurePosixPath(name).name not in (path.stem, *(f"{path.stem}{suffix}" for suffix in (".jpg", ".png"))):
        raise ValueError(f"{path}:{first}: the picture must be {path.stem!r}, as in the name of the file, got {name!r}")
    (expected,) = _located(path, second, partial(integers, [count], ["number of faces"]))
    rows = [_parsed(path, number, line, _SIDES) for number, line in lines[2:]]
    if len(rows) != expected:
        raise ValueError(f"{path}:{second}: the number of faces is {expected}, but {len(rows)} lines follow")
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
    """The values in nine digits, which are enough to tell any two float32 numbers apart."""
    return [*(f"{value:.9g}" for value in values)]


def _write(path: Path, rows: Any) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{row}\n" for row in rows).encode())
