"""What the commands check of the networks that they run."""

from __future__ import annotations

import torch


def check_device(name: str) -> None:
    """Raise ``ValueError`` for a device that is not there."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
