"""Reading COCO's annotation and result files, by the same rule for every command and data set.

The rule is that values have the types of JSON. A coordinate, an area or a score is a finite number, not a text and not
``true``. An id is a whole number or a text. ``iscrowd`` and ``ignore`` are 0, 1, ``false`` or ``true``. A file that
breaks the rule is refused, and the message names the file, the entry and the field: ``set.json: annotations[3]: ...``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from .files import read_bytes

_SHOWN = 80
# pycocotools and PyTorch keep ids as 64-bit integers.
_LARGEST_ID = 1 << 63
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FLAGS = (0, 1, False, True)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, or it has a key twice in an object, half of a surrogate pair in a text, a
            number with thousands of digits, or values that are nested too deeply; the message names the file.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text('{"images": []}')
        >>> read_json(path)
        {'images': []}
    """
    data = read_bytes(path)
    try:
        text = data.decode(json.detect_encoding(data))
        value = json.loads(text, object_pairs_hook=_distinct_keys)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (RecursionError, MemoryError):
        raise ValueError(f"{path} cannot be read as JSON: its values are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {' '.join(str(error).split())}") from error
    return value


def read_annotations(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a COCO annotation file.

    Returns:
        The content of the file, which :func:`check_annotations` has checked.

    Raises:
        OSError: The file cannot be read.
        ValueError: :func:`read_json` or :func:`check_annotations` refuses the file.
    """
    truth = read_json(path)
    check_annotations(truth, str(path))
    return truth


def check_annotations(truth: Any, source: str = "annotations") -> None:
    """Check ``images`` (``id``), ``categories`` (``id``, ``name``) and ``annotations``.

    An annotation needs ``id``, ``image_id``, ``category_id``, ``bbox`` and ``area``; ``iscrowd`` and ``ignore`` are
    optional.

    Args:
        truth: COCO annotations.
        source: Name of the annotations in messages.

    Raises:
        ValueError: A field is missing or breaks the rule of this module, an id or the name of a category occurs twice,
            an annotation's image or category does not exist, or a size is negative.

    Examples:
        >>> check_annotations(dict(images=[], categories=[dict(id=1, name="car")], annotations=[]))
        >>> check_annotations(dict(images=[dict(id=1.5)], categories=[], annotations=[]), "set.json")
        Traceback (most recent call last):
        ValueError: set.json: images[0]: id 1.5 is neither a whole number nor a name
    """
    if not isinstance(truth, Mapping):
        raise ValueError(f"{source} holds {kind_of(truth)}, expected COCO annotations: an object with 'images'")
    for field in ("images", "categories", "annotations"):
        if not isinstance(truth.get(field), list):
            raise ValueError(f"{source}: '{field}' is {kind_of(truth.get(field))}, expected a list")
        _require_distinct(column(truth[field], "id", f"{source}: {field}"), "id", f"{source}: {field}")
    names = column(truth["categories"], "name", f"{source}: categories")
    for at, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{source}: categories[{at}]: name {_short(name)} must be a text that is not empty")
    _require_distinct(names, "name", f"{source}: categories")
    entries, where = truth["annotations"], f"{source}: annotations"
    indices(entries, "image_id", [image["id"] for image in truth["images"]], where)
    indices(entries, "category_id", [category["id"] for category in truth["categories"]], where)
    boxes(entries, where)
    finite(column(entries, "area", where), where, "area", least=0)
    for field in ("iscrowd", "ignore"):
        flags(entries, field, where)


def require_pictures(truth: Mapping[str, Any], source: str, sizes: bool = True) -> None:
    """Check the fields that locate the pictures of checked annotations: ``file_name``, ``width`` and ``height``.

    Args:
        truth: COCO annotations.
        source: Name of the annotations in messages.
        sizes: Whether ``width`` and ``height`` are needed.

    Raises:
        ValueError: A field is missing or has a wrong value, or a name leads out of the folder of the pictures or occurs
            twice.

    Examples:
        >>> require_pictures(dict(images=[dict(file_name="a.png", width=64, height=48)]), "set.json")
    """
    where = f"{source}: images"
    names = column(truth["images"], "file_name", where)
    for at, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{where}[{at}]: file_name {_short(name)} is not a text")
        require_inside(name, f"{where}[{at}]: file_name")
    # If a file had two ids, each id would have only some of the picture's objects.
    _require_distinct(names, "file_name", where)
    for field in ("width", "height") if sizes else ():
        for at, value in enumerate(column(truth["images"], field, where)):
            if not is_whole(value) or value < 1:
                raise ValueError(f"{where}[{at}]: {field} {_short(value)}, expected a whole number of pixels")


def require_inside(name: str, what: str) -> None:
    """Raise ``ValueError`` if a name in an annotation file does not lead to a file below the folder of the pictures.

    Args:
        name: Path relative to that folder, with slashes.
        what: Description of the name's place in messages.

    Examples:
        >>> require_inside("val/0001.jpg", "file_name")
        >>> require_inside("../0001.jpg", "file_name")
        Traceback (most recent call last):
        ValueError: file_name '../0001.jpg' leads out of the folder of the pictures
    """
    # A backslash separates folders on Windows, and is a part of a name elsewhere.
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    anchored = windows.drive or windows.root or posix.root
    if anchored or ".." in (*windows.parts, *posix.parts):
        raise ValueError(f"{what} {_short(name)} leads out of the folder of the pictures")
    if not posix.name or "\0" in name:
        raise ValueError(f"{what} {_short(name)} is not the name of a file")


def column(entries: Sequence[Any], field: str, source: str) -> list[Any]:
    """The values of a field in all entries.

    Raises:
        ValueError: An entry is not an object, or has no such field.

    Examples:
        >>> column([dict(id=1), dict(id=2)], "id", "set.json: images")
        [1, 2]
    """
    try:
        if all(isinstance(entry, Mapping) for entry in entries):
            return [entry[field] for entry in entries]
    except KeyError:
        pass
    at = next(i for i, entry in enumerate(entries) if not isinstance(entry, Mapping) or field not in entry)
    raise ValueError(f"{source}[{at}] has no field '{field}': {_short(entries[at])}")


def indices(entries: Sequence[Any], field: str, known: Sequence[Any], source: str) -> np.ndarray:
    """Positions ``(N,)``, int64, of the entries' ids in ``known``.

    Raises:
        ValueError: An id is missing, has a wrong type, or is not in ``known``.

    Examples:
        >>> indices([dict(image_id=7), dict(image_id=5)], "image_id", [5, 7], "set.json: annotations").tolist()
        [1, 0]
    """
    index = {each: at for at, each in enumerate(known)}
    values = column(entries, field, source)
    for at, value in enumerate(values):
        # Without a check of the type, 1.0 and True would be found as 1.
        if not is_id(value) or value not in index:
            raise ValueError(f"{source}[{at}]: {field} {_short(value)} is not in the annotation file")
    return np.array([index[value] for value in values], dtype=np.int64)


def boxes(entries: Sequence[Any], source: str) -> np.ndarray:
    """Left, top, width and height ``(N, 4)``, float64, of the entries' ``bbox``.

    Raises:
        ValueError: A box is missing, or it has another length, a value that is not a finite number, or a negative size.

    Examples:
        >>> boxes([dict(bbox=[8, 8, 16, 4])], "set.json: annotations").tolist()
        [[8.0, 8.0, 16.0, 4.0]]
    """
    given = column(entries, "bbox", source)
    for at, each in enumerate(given):
        if not isinstance(each, Sequence) or isinstance(each, str) or len(each) != 4:
            raise ValueError(f"{source}[{at}]: bbox {_short(each)}, expected [left, top, width, height]")
    flat = list(itertools.chain.from_iterable(given))
    values = _converted(flat)
    if values is None:
        at = next(i for i, value in enumerate(flat) if not is_number(value)) // 4
        raise ValueError(f"{source}[{at}]: bbox {_short(given[at])} is not numeric")
    table = values.reshape(-1, 4)
    good = np.isfinite(table).all(axis=1) & (table[:, 2:] >= 0).all(axis=1)
    _require(good, given, source, "bbox", ", no negative size")
    return table


def finite(values: Sequence[Any], source: str, field: str, least: float = -math.inf) -> np.ndarray:
    """Convert values to finite numbers ``(N,)``, float64, of at least ``least``.

    Raises:
        ValueError: A value is not a number, not finite, or less than ``least``.

    Examples:
        >>> finite([1, 0.5], "set.json: annotations", "area", least=0).tolist()
        [1.0, 0.5]
    """
    table = _converted(values)
    if table is None:
        at = next(i for i, value in enumerate(values) if not is_number(value))
        raise ValueError(f"{source}[{at}]: {field} {_short(values[at])} is not numeric")
    wanted = "" if math.isinf(least) else ", no negative size"
    _require(np.isfinite(table) & (table >= least), values, source, field, wanted)
    return table


def flags(entries: Sequence[Any], field: str, source: str) -> np.ndarray:
    """The values ``(N,)``, bool, of a field that is 0, 1, ``false`` or ``true``; a missing field counts as 0.

    Raises:
        ValueError: An entry has another value.

    Examples:
        >>> flags([dict(iscrowd=1), dict()], "iscrowd", "set.json: annotations").tolist()
        [True, False]
    """
    values = [entry.get(field, 0) for entry in entries]
    for at, value in enumerate(values):
        if not isinstance(value, (bool, Integral)) or value not in _FLAGS:
            raise ValueError(f"{source}[{at}]: {field} {_short(value)}, expected 0 or 1")
    return np.array(values, dtype=bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number (not a text or a bool) that a 64-bit float can hold, including nan and infinity.

    Examples:
        >>> is_number(0.5), is_number(True), is_number("1")
        (True, False, False)
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of 64 bits, and not a text, a bool or a float.

    Examples:
        >>> is_whole(1), is_whole(1.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and -_LARGEST_ID <= int(value) < _LARGEST_ID


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a whole number of 64 bits, or a text.

    Examples:
        >>> is_id(7), is_id("a7"), is_id(0.5)
        (True, True, False)
    """
    return isinstance(value, str) or is_whole(value)


def kind_of(value: Any) -> str:
    """The type of a value, for messages.

    Examples:
        >>> kind_of([]), kind_of(None)
        ('a list', 'nothing')
    """
    return "nothing" if value is None else f"a {type(value).__name__}"


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _converted(values: Sequence[Any]) -> np.ndarray | None:
    """The values as float64, or None if one is not a number; NumPy alone would convert texts and bools too."""
    if not all(issubclass(kind, Real) and kind is not bool for kind in set(map(type, values))):
        return None
    try:
        return np.array(values, dtype=np.float64).reshape(len(values))
    except OverflowError:
        return None


def _require(good: np.ndarray, given: Sequence[Any], source: str, field: str, wanted: str) -> None:
    rows = np.flatnonzero(~good)
    if rows.size:
        raise ValueError(f"{source}[{rows[0]}]: {field} {_short(given[rows[0]])}, expected finite numbers{wanted}")


def _require_distinct(values: Iterable[Any], field: str, source: str) -> None:
    seen: dict[Any, int] = {}
    for at, value in enumerate(values):
        if not is_id(value):
            raise ValueError(f"{source}[{at}]: {field} {_short(value)} is neither a whole number nor a name")
        if isinstance(value, str) != isinstance(next(iter(seen), value), str):
            raise ValueError(f"{source}[{at}]: {field} {_short(value)}: some are whole numbers and some names")
        if value in seen:
            raise ValueError(f"{source}[{at}]: {field} {_short(value)} stands at [{seen[value]}] already")
        seen[value] = at


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python refuses to print whole numbers of more than 4300 digits.
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
