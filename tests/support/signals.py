"""Signals that the tests send to their own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

SIGNALS = [signal.SIGINT, signal.SIGTERM]
"""Those that interrupt a program."""


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt: a shell's background job, as which tests may run, ignores it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
