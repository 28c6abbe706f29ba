"""Giving the configs of our wrappers an attribute ``backbone``, because functions of MMDetection read it.

This module runs while MMEngine is being imported, so it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from .config_nodes import type_name

_SCOPE = "llie_preproc"
_WRAPPERS = ("EnhancedDetector", "BoxPromptedSAM")


def lend_backbone() -> None:
    """Let the config of a wrapper have its detector's ``backbone`` as an attribute, as the wrapper itself has.

    ``mmdet.apis.init_detector`` reads ``config.model.backbone`` to remove pretrained weights, and would raise an
    ``AttributeError`` for the config of an ``EnhancedDetector``. This function changes MMEngine's ``ConfigDict``: if
    the config of one of our wrappers has no ``backbone``, the attribute is that of its ``detector``. Importing
    ``llie_preproc`` calls this function, and the config's ``custom_imports`` import it early enough. Keys, dumps and
    all other configs are not affected.

    Examples:
        >>> from mmengine.config import Config
        >>> lend_backbone()
        >>> detector = dict(type="RetinaNet", backbone=dict(depth=18))
        >>> Config(dict(model=dict(type="EnhancedDetector", detector=detector))).model.backbone.depth
        18
    """
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
            # A SAM that is prompted with labelled boxes has no detector, and so no weights to remove.
            return ConfigDict() if detector is None else getattr(detector, name)

    lending.lends_backbone = True  # type: ignore[attr-defined]
    ConfigDict.__getattr__ = lending


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    kind = config.get("type")
    scope = kind.rpartition(".")[0] if isinstance(kind, str) else getattr(kind, "__module__", "")
    return type_name(config) in _WRAPPERS and scope.split(".")[0] in ("", _SCOPE)
