"""Finding the doors in MMEngine's configs: the parts that enhance pictures, in any spelling and at any place."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .config_nodes import walk
from .enhancers import Enhancer
from .enhancers.names import enhancer_class, enhancer_classes
from .registry import MODELS, TRANSFORMS

_SCOPE = "llie_preproc"
_DOORS = ("Enhance", "EnhancedDetector", "EnhancedDetDataPreprocessor")


def find_enhancement(config: Any) -> str:
    """Describe the first part of a config that enhances pictures, with its place; empty if there is none.

    Such a part is an ``Enhance`` transform, an enhancer as a transform, an ``EnhancedDetector`` or an
    ``EnhancedDetDataPreprocessor``. The config may give it as a name with or without the scope, an import path, a
    class, a registered subclass, or an object. It may be in a pipeline of any kind (test-time augmentation, mixed and
    repeated sets, branches), in a model, or in a model inside another one.

    Args:
        config: MMEngine config, or a part of one.

    Examples:
        >>> find_enhancement(dict(test_pipeline=[dict(type="LoadImageFromFile"), dict(type="llie_preproc.PSENet")]))
        'llie_preproc.PSENet at test_pipeline.1'
        >>> find_enhancement(dict(model=dict(type="RetinaNet")))
        ''
    """
    return next((_described(*door) for door in _doors(config)), "")


def refuse_second_door(config: Any, name: str) -> None:
    """Refuse a config in which two doors of different kinds would enhance a picture twice.

    The kinds are transforms (several pipelines may have one each), the data preprocessor, and the wrapper. Only the
    model, the data loaders and the pipeline of test-time augmentation are examined; a run does not use other variables.

    Args:
        config: MMEngine config.
        name: Name of the config, for the message.

    Raises:
        ValueError: There are two such doors; the message names both, with their places.

    Examples:
        >>> test = dict(dataset=dict(pipeline=[dict(type="Enhance")]))
        >>> refuse_second_door(dict(model=dict(type="EnhancedDetector"), test_dataloader=test), "night.py")
        Traceback (most recent call last):
        ValueError: night.py enhances twice, by EnhancedDetector at model and by Enhance at test_dataloader.dataset...
    """
    first: dict[str, str] = {}
    for kind, path in _doors(config):
        # A network that is the argument "enhancer" of a door is part of that door, not a second one.
        if _is_used(path) and "enhancer" not in path:
            first.setdefault(_place(path), _described(kind, path))
    if len(first) > 1:
        raise ValueError(f"{name} enhances twice, by {' and by '.join(first.values())}: remove one")


def _is_used(path: tuple[str, ...]) -> bool:
    """Whether a path leads to a part of a config that is used in a run."""
    return bool(path) and (path[0] in ("model", "tta_pipeline") or path[0].endswith("_dataloader"))


def _place(path: tuple[str, ...]) -> str:
    if path[-1:] == ("data_preprocessor",):
        return "preprocessor"
    return "pipeline" if path and path[-1].isdecimal() else "model"


def _described(kind: Any, path: tuple[str, ...]) -> str:
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    return f"{name} at {'.'.join(path)}" if path else name


def _doors(config: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield each type that enhances, and the keys that lead to it."""
    for path, node in walk(config):
        kind = node.get("type") if isinstance(node, Mapping) else type(node)
        if kind is not None and _enhances(kind, path):
            yield kind, path


def _enhances(kind: Any, path: tuple[str, ...]) -> bool:
    if not isinstance(kind, str):
        return _is_ours(kind)
    scope, _, name = kind.rpartition(".")
    if scope.split(".")[0] not in ("", _SCOPE):
        named_by_path = getattr(sys.modules.get(scope), name, None)
        return any(_is_ours(each) for each in (*_registered(scope, name), named_by_path) if each is not None)
    # A name without scope may be a layer in a model (Identity); in a pipeline, it is one of our networks.
    a_transform = bool(path) and path[-1].isdecimal() and "model" not in path
    named = name in _DOORS or (bool(scope) and _spells_enhancer(name)) or (a_transform and name in enhancer_classes())
    return named or any(_is_ours(registered) for registered in _registered(scope, name) if not _is_network(registered))


def _spells_enhancer(name: str) -> bool:
    """Whether this name, given with its scope, means an enhancer. The registry of transforms accepts any spelling."""
    try:
        return bool(enhancer_class(name))
    except KeyError:
        return False


def _registered(scope: str, name: str) -> Iterator[Any]:
    """Yield what this package and MMDetection (if it is loaded) have registered under a name."""
    mmdet = sys.modules.get("mmdet.registry")
    ours = (MODELS, TRANSFORMS) if scope in ("", _SCOPE) else ()
    theirs = (mmdet.MODELS, mmdet.TRANSFORMS) if mmdet is not None and scope in ("", "mmdet") else ()
    for registry in (*ours, *theirs):
        if name in registry._module_dict:
            yield registry._module_dict[name]


def _is_network(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enhancer)


def _is_ours(kind: Any) -> bool:
    """Whether ``kind`` is a door or an enhancer, a subclass of one, or a function that builds a door."""
    if not isinstance(kind, type):
        # The registry of transforms has such functions for the names of enhancers.
        module, name = getattr(kind, "__module__", None) or "", getattr(kind, "__name__", None)
        return module.startswith(f"{_SCOPE}.detection") and name in enhancer_classes()
    if _is_network(kind):
        return True
    return any(base.__name__ in _DOORS and base.__module__.startswith(f"{_SCOPE}.") for base in kind.__mro__)
