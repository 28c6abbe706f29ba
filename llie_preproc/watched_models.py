"""Letting MMEngine's models rename the tensors of a checkpoint before they load it.

The renaming is in :mod:`llie_preproc.checkpoint_names`. This module is separate from that one, because it runs while
MMEngine is being imported and must import nothing else of this package.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def watch_models() -> None:
    """Let every model of MMEngine rename tensors before it loads them; a second call does nothing."""
    from mmengine.model import BaseModel

    if "_load_from_state_dict" not in vars(BaseModel):
        BaseModel._load_from_state_dict = _fit_and_load  # type: ignore[method-assign]


def _fit_and_load(self: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    from mmengine.model import BaseModel

    from .checkpoint_names import fit_names, own_names, replace_own

    replace_own(state_dict, prefix, fit_names(self, own_names(state_dict, prefix)))
    super(BaseModel, self)._load_from_state_dict(state_dict, prefix, *args)
