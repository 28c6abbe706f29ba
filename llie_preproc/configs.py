"""What parts of MMEngine's configs name: the types of this package among them, by whatever spelling."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import wraps
from typing import Any

from .enhancers import Enhancer
from .registry import MODELS, TRANSFORMS, enhancer_classes, mmengine_registry

_SCOPE = "llie_preproc"
_DOORS = ("Enhance", "EnhancedDetector", "EnhancedDetDataPreprocessor")
_WRAPPERS = ("EnhancedDetector", "BoxPromptedSAM")


def type_name(config: Any) -> str:
    """What a config's ``type`` names, a string or a class, without its scope; empty where there is none.

    >>> type_name(dict(type="mmdet.RetinaNet")), type_name(dict(type=dict)), type_name([])
    ('RetinaNet', 'dict', '')
    """
    kind = (config.get("type") if isinstance(config, Mapping) else None) or ""
    return (kind if isinstance(kind, str) else kind.__name__).split(".")[-1]


def find_enhancement(config: Any) -> str:
    """The first part of a config that enhances pictures, and where it stands; empty where there is none.

    A part is an ``Enhance`` transform, an enhancer as a transform, an ``EnhancedDetector`` or an
    ``EnhancedDetDataPreprocessor``: by its name with or without the scope, by its path, as a class, as one derived from
    it that is registered, or as an object; in pipelines of every kind (test-time augmentation, mixed and repeated
    sets, branches), in models, and in models inside others.

    >>> find_enhancement(dict(test_pipeline=[dict(type="LoadImageFromFile"), dict(type="llie_preproc.PSENet")]))
    'llie_preproc.PSENet at test_pipeline.1'
    >>> find_enhancement(dict(model=dict(type="RetinaNet")))
    ''

    Args:
        config: An MMEngine config, or a part of one.
    """
    found = next(_enhancing(getattr(config, "_cfg_dict", config), ()), None)
    if found is None:
        return ""
    kind, path = found
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    return f"{name} at {'.'.join(path)}" if path else name


def _enhancing(node: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The types that enhance, each with the keys that lead to it."""
    if isinstance(node, Mapping):
        kind = node.get("type")
        if kind is not None and _enhances(kind, path):
            yield kind, path
        for key, value in node.items():
            yield from _enhancing(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _enhancing(value, (*path, str(index)))
    elif _is_ours(type(node)):
        yield type(node), path


def _enhances(kind: Any, path: tuple[str, ...]) -> bool:
    if not isinstance(kind, str):
        return _is_ours(kind)
    scope, _, name = kind.rpartition(".")
    if scope.split(".")[0] not in ("", _SCOPE):
        return any(_is_ours(registered) for registered in _registered(scope, name))
    # Models have layers of such names (Identity); in a pipeline they are ours.
    a_transform = bool(path) and path[-1].isdecimal() and "model" not in path
    named = name in _DOORS or (name in enhancer_classes() and (bool(scope) or a_transform))
    return named or any(_is_ours(registered) for registered in _registered(scope, name) if not _is_network(registered))


def _registered(scope: str, name: str) -> Iterator[Any]:
    """What is registered by a name, here or in MMDetection, where that is loaded."""
    mmdet = sys.modules.get("mmdet.registry")
    ours = (MODELS, TRANSFORMS) if scope in ("", _SCOPE) else ()
    theirs = (mmdet.MODELS, mmdet.TRANSFORMS) if mmdet is not None and scope in ("", "mmdet") else ()
    for registry in (*ours, *theirs):
        if name in registry._module_dict:
            yield registry._module_dict[name]


def _is_network(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enhancer)


def _is_ours(kind: Any) -> bool:
    """Whether a class is one of the doors, an enhancer, or derived from one, or a function that builds a door."""
    if not isinstance(kind, type):
        # What the transforms' registry has for the name of an enhancer.
        module, name = getattr(kind, "__module__", None) or "", getattr(kind, "__name__", None)
        return module.startswith(f"{_SCOPE}.detection") and name in enhancer_classes()
    if _is_network(kind):
        return True
    return any(base.__name__ in _DOORS and base.__module__.startswith(f"{_SCOPE}.") for base in kind.__mro__)


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    kind = config.get("type")
    scope = kind.rpartition(".")[0] if isinstance(kind, str) else getattr(kind, "__module__", "")
    return type_name(config) in _WRAPPERS and scope.split(".")[0] in ("", _SCOPE)


def lend_backbone() -> None:
    """Let the config of a wrapper lend the ``backbone`` of the detector inside, as the wrapper itself does.

    ``mmdet.apis.init_detector`` reads ``config.model.backbone`` to leave out pretrained weights, and would end in an
    ``AttributeError`` for a model that is an ``EnhancedDetector``. ``import llie_preproc``, which the config's
    ``custom_imports`` does in time, adds this to MMEngine's ``ConfigDict``: where a config of one of our wrappers has
    no ``backbone`` of its own, the attribute is that of its ``detector``. Keys, dumps and every other config stay what
    they are. Without MMEngine this does nothing.
    """
    if mmengine_registry is None:
        return
    from mmengine.config import ConfigDict

    plain = ConfigDict.__getattr__
    if getattr(plain, "lends_backbone", False):
        return

    @wraps(plain)
    def lending(self: Any, name: str) -> Any:
        try:
            return plain(self, name)
        except AttributeError:
            if name != "backbone" or not _is_wrapper(self):
                raise
            detector = self.get("detector")
            # A SAM that is asked with the boxes of labels has no detector, and nothing to leave out.
            return ConfigDict() if detector is None else getattr(detector, name)

    lending.lends_backbone = True  # type: ignore[attr-defined]
    ConfigDict.__getattr__ = lending
