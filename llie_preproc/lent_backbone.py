"""Configs of models round a detector lend its backbone: MMDetection's own functions take them for a detector's.

This runs while MMEngine is being imported, and imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from .config_nodes import type_name

_SCOPE = "llie_preproc"
_WRAPPERS = ("EnhancedDetector", "BoxPromptedSAM")


def lend_backbone() -> None:
    """Let the config of a wrapper lend the ``backbone`` of the detector inside, as the wrapper itself does.

    ``mmdet.apis.init_detector`` reads ``config.model.backbone`` to leave out pretrained weights, and would end in an
    ``AttributeError`` for a model that is an ``EnhancedDetector``. ``import llie_preproc``, which the config's
    ``custom_imports`` does in time, adds this to MMEngine's ``ConfigDict``: where a config of one of our wrappers has
    no ``backbone`` of its own, the attribute is that of its ``detector``. Keys, dumps and every other config stay what
    they are.
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
            # A SAM that is asked with the boxes of labels has no detector, and nothing to leave out.
            return ConfigDict() if detector is None else getattr(detector, name)

    lending.lends_backbone = True  # type: ignore[attr-defined]
    ConfigDict.__getattr__ = lending


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    kind = config.get("type")
    scope = kind.rpartition(".")[0] if isinstance(kind, str) else getattr(kind, "__module__", "")
    return type_name(config) in _WRAPPERS and scope.split(".")[0] in ("", _SCOPE)
