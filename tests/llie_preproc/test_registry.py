"""A registry answers all threads that ask it at once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llie_preproc.registry import Registry


def test_threads_that_ask_at_once_get_the_same_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread must wait for a module that another thread is importing."""
    registry = Registry("visualizer", ["slow_to_import"])
    module = type(sys)("threads_registry")
    monkeypatch.setitem(sys.modules, "threads_registry", module)
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nimport threads_registry\n\ntime.sleep(0.3)\n"
        "threads_registry.registry.register_module(name='Late')(dict)\n"
    )
    module.registry = registry
    monkeypatch.syspath_prepend(tmp_path)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(registry.get("Late"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [dict] * 8
