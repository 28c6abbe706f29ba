"""Building named losses with weights from their configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .checks import within
from .registry import MODELS


def build_losses(configs: Mapping[str, Mapping[str, Any] | None]) -> tuple[nn.ModuleDict, dict[str, float]]:
    """Build losses from their configs, and return them with their weights, by name.

    Args:
        configs: Configs of registered modules by name, each with an optional ``loss_weight`` (1 by default); entries
            that are None are left out.

    Raises:
        ValueError: A ``loss_weight`` is not a number of at least 0.

    Examples:
        >>> modules, weights = build_losses(dict(own=dict(type="llie_preproc.Identity", loss_weight=0.5), other=None))
        >>> list(modules), weights
        (['own'], {'own': 0.5})
    """
    chosen = {name: dict(config) for name, config in configs.items() if config is not None}
    weights = {name: config.pop("loss_weight", 1.0) for name, config in chosen.items()}
    for name, weight in weights.items():
        within(f"loss_weight of {name!r}", weight, 0)
    return nn.ModuleDict({name: MODELS.build(config) for name, config in chosen.items()}), weights
