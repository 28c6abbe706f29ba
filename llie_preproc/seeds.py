"""Seeds: from the place where random numbers are drawn, not from what was drawn before."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from integers, equal on all machines; different parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed PyTorch (every device), NumPy and ``random``."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextlib.contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Inside, random numbers follow from ``seed`` alone; behind the block the caller's go on as if nothing was drawn.

    PyTorch's (every device), NumPy's and those of ``random``.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> expected = torch.rand(1, generator=torch.Generator().manual_seed(0))
    >>> with own_random_state(5):
    ...     drawn = torch.rand(1)
    >>> bool(torch.rand(1) == expected)
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
