"""Files of mappings from a detector's classes to those of a set, which users write or this package ships."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .coco_json import kind_of, read_json
from .errors import one_line, require
from .files import read_text

MAPPINGS = Path(__file__).parent / "class_mappings"
"""Folder of the shipped mappings, each a file ``DETECTOR-SET.json``."""

Mapped = Mapping[str, "str | Sequence[str] | None"]
"""Mapping from a detector's class to a class of the set, to several that are measured as one, or to None (left out)."""

_TITLES = {"coco": "COCO", "exdark": "ExDark", "visdrone": "VisDrone"}


def shipped_mappings() -> dict[str, Path]:
    """Files of the shipped mappings by their names.

    Examples:
        >>> list(shipped_mappings())
        ['coco-exdark', 'coco-visdrone']
    """
    return {path.stem: path for path in sorted(MAPPINGS.glob("*.json"))}


def shipped_like(mapping: Mapped) -> str:
    """Sentence that says what the shipped mapping with the same content is for; empty if there is none.

    Examples:
        >>> shipped_like(read_mapping("coco-exdark"))
        'coco-exdark is for a detector of COCO and the set ExDark'
    """
    for name, path in shipped_mappings().items():
        if read_json(path) == mapping:
            detector, annotated = (_TITLES.get(part, part) for part in name.split("-", 1))
            return f"{name} is for a detector of {detector} and the set {annotated}"
    return ""


def read_mapping(given: str | os.PathLike[str] | Mapped | None) -> dict[str, Any]:
    """Read a mapping from a detector's classes to those of a set.

    Args:
        given: Name of a shipped mapping, JSON or YAML file with an object, or a mapping; None for an empty one.

    Returns:
        Names of the set's class, or classes, by the detector's class; None for a class whose detections do not count.

    Raises:
        FileNotFoundError: There is neither a shipped mapping of this name nor such a file.
        MissingExtraError: The file is YAML, and PyYAML is not installed.
        ValueError: The file is damaged, or holds something else.

    Examples:
        >>> read_mapping("coco-visdrone")["person"]
        ['pedestrian', 'people']
    """
    if given is None or isinstance(given, Mapping):
        content, source = given or {}, "classes"
    elif isinstance(given, str | os.PathLike):
        content, source = _read(given), str(given)
    else:
        raise ValueError(f"classes is {kind_of(given)}, expected a mapping from the detector's classes, or its file")
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds {kind_of(content)}, expected an object with the detector's classes as keys")
    return {name: _target(name, target, source) for name, target in content.items()}


def _target(name: Any, target: Any, source: str) -> Any:
    names = [] if target is None else [target] if isinstance(target, str) else target
    good = target is None or (isinstance(names, Sequence) and names)
    if not good or not all(isinstance(each, str) for each in (name, *names)):
        raise ValueError(f"{source}: {name!r}: {target!r}, expected a name, a list of names, or null")
    return target if target is None or isinstance(target, str) else list(target)


def _read(given: str | os.PathLike[str]) -> Any:
    shipped = shipped_mappings()
    path = Path(given)
    hidden = str(given) in shipped and not path.is_file()
    if not path.exists() and not hidden:
        raise FileNotFoundError(f"no mapping of classes {given}: expected a file, or one of {', '.join(shipped)}")
    path = shipped[str(given)] if hidden else path
    if path.suffix.lower() not in (".yaml", ".yml"):
        return read_json(path)
    require("yaml", f"{path}, a mapping in YAML,", "mm")
    import yaml

    try:
        text = read_text(path)
        node = yaml.compose(text, yaml.SafeLoader)
        keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"it has the key {twice[0]!r} twice")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} is not YAML: {one_line(error)}") from error
