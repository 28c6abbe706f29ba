"""Processes that are killed in the middle of writing a file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from llie_preproc.files import atomic_write


def killed_while_writing(path: Path) -> None:
    """Start a process that writes ``path`` by :func:`atomic_write`, and kill it in the middle."""
    child = os.fork()
    if not child:
        with atomic_write(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
