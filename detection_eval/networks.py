"""Enhancers as the commands name them: by a registered name, with weights or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import default_weights
from llie_preproc.enhancers import Cascade, Enhancer
from llie_preproc.inference import DEFAULT_WEIGHTS


def trained_enhancer(config: str | Mapping[str, Any], checkpoint: str, device: str, flag: str) -> Enhancer:
    """Build an enhancer that has weights, or needs none.

    Args:
        config: As for :func:`llie_preproc.build_enhancer`.
        checkpoint: Likewise.
        device: Where to put it.
        flag: The option that names weights, for the message.

    Raises:
        ValueError: It would start with random weights.
    """
    enhancer = build_enhancer(config, checkpoint, device=device)
    shipped = default_weights(type(enhancer).__name__) is not None and (isinstance(config, str) or len(config) == 1)
    # A cascade's members have their own weights.
    needed = next(enhancer.parameters(), None) is not None and not isinstance(enhancer, Cascade)
    if checkpoint == DEFAULT_WEIGHTS and needed and not shipped:
        raise ValueError(f"{type(enhancer).__name__} has no shipped weights like that: name some with {flag}")
    return enhancer


def check_device(name: str) -> None:
    """Raise ``ValueError`` for a device that is not there."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
