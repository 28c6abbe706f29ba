"""Signals that the tests send to their own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

SIGNALS = [signal.SIGINT, signal.SIGTERM]
"""Signals that interrupt a program."""


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Make SIGINT raise KeyboardInterrupt: tests may run as a shell's background job, which ignores the signal."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
