"""Seeds that follow from the place where random numbers are drawn, not from what was drawn before."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(*parts: int) -> int:
    """Derive a 63-bit seed from integers; it is equal on all machines, and different parts give unrelated seeds.

    Examples:
        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
        (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed PyTorch (on every device), NumPy and ``random``.

    Examples:
        >>> with own_random_state(0):
        ...     seed_everything(7)
        ...     first = torch.rand(1)
        ...     seed_everything(7)
        ...     bool(first == torch.rand(1))
        True
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextlib.contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Let random numbers of a block follow only from ``seed``, and restore the caller's state after it.

    This holds for PyTorch (on every device), NumPy and ``random``.

    Examples:
        >>> with own_random_state(0):
        ...     expected = torch.rand(1)
        >>> with own_random_state(0):
        ...     with own_random_state(5):
        ...         drawn = torch.rand(1)
        ...     bool(torch.rand(1) == expected)
        True
    """
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed_everything(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
