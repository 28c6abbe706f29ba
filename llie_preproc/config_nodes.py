"""The nodes of MMEngine's configs: how to go through them, and what they name.

Apart from the other modules about configs, because :mod:`llie_preproc.lent_backbone` uses this while MMEngine is being
imported: it imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def type_name(config: Any) -> str:
    """What a config's ``type`` names, a string or a class, without its scope; empty where there is none.

    >>> type_name(dict(type="mmdet.RetinaNet")), type_name(dict(type=dict)), type_name([])
    ('RetinaNet', 'dict', '')
    """
    kind = (config.get("type") if isinstance(config, Mapping) else None) or ""
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).split(".")[-1]


def walk(config: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a config, with the keys that lead to it; what holds others comes before what it holds.

    Whoever changes a dict or a list when it comes is given what it holds then.

    >>> for path, value in walk(dict(model=dict(type="RetinaNet", depths=[18, 34]))):
    ...     print(".".join(path) or "all", value)
    all {'model': {'type': 'RetinaNet', 'depths': [18, 34]}}
    model {'type': 'RetinaNet', 'depths': [18, 34]}
    model.type RetinaNet
    model.depths [18, 34]
    model.depths.0 18
    model.depths.1 34

    Args:
        config: An MMEngine config, or a part of one: dicts, lists and tuples, however deep, and what they hold.
    """
    yield from _walk(getattr(config, "_cfg_dict", config), ())


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, value
    if isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _walk(inner, (*path, str(key)))


def nodes(config: Any) -> Iterator[Any]:
    """Every dict of a config: what :func:`walk` gives, without lists, leaves and paths.

    >>> [type_name(node) for node in nodes([dict(type="Resize"), dict(type="Pad", size=(8, 8))])]
    ['Resize', 'Pad']
    """
    return (value for _, value in walk(config) if isinstance(value, Mapping))
