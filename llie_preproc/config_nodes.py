"""Walking through the nodes of MMEngine's configs, and reading the types that they name.

This module imports nothing of this package, because :mod:`llie_preproc.lent_backbone` uses it while MMEngine is being
imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def type_name(config: Any) -> str:
    """Name of a config's ``type``, which is a string or a class, without its scope; empty if there is none.

    Examples:
        >>> type_name(dict(type="mmdet.RetinaNet")), type_name(dict(type=dict)), type_name([])
        ('RetinaNet', 'dict', '')
    """
    kind = (config.get("type") if isinstance(config, Mapping) else None) or ""
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).split(".")[-1]


def walk(config: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value of a config with the keys that lead to it; a container comes before its content.

    A caller may change a dict or a list that it gets; the walk then continues with the changed content.

    Args:
        config: MMEngine config, or a part of one: dicts, lists and tuples at any depth, and their values.

    Examples:
        >>> for path, value in walk(dict(model=dict(type="RetinaNet", depths=[18, 34]))):
        ...     print(".".join(path) or "all", value)
        all {'model': {'type': 'RetinaNet', 'depths': [18, 34]}}
        model {'type': 'RetinaNet', 'depths': [18, 34]}
        model.type RetinaNet
        model.depths [18, 34]
        model.depths.0 18
        model.depths.1 34
    """
    yield from _walk(getattr(config, "_cfg_dict", config), ())


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, value
    if isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _walk(inner, (*path, str(key)))


def nodes(config: Any) -> Iterator[Any]:
    """Yield every dict of a config, in the order of :func:`walk`.

    Examples:
        >>> [type_name(node) for node in nodes([dict(type="Resize"), dict(type="Pad", size=(8, 8))])]
        ['Resize', 'Pad']
    """
    return (value for _, value in walk(config) if isinstance(value, Mapping))
