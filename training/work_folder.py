"""The folder that a run writes into, which a run that is refused leaves as it was."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from llie_preproc.commands.program import REFUSED
from llie_preproc.files import atomic_write

# What MMEngine keeps by name for the whole process: another run of that name would write to what was removed.
_KEPT = (MessageHub, MMLogger, Visualizer)


@contextlib.contextmanager
def unchanged_when_refused(folder: Path, config: str) -> Iterator[None]:
    """Inside, whatever is refused leaves the work folder as it was: no new folder, no log, and the config of before.

    Args:
        folder: Work folder, which need not exist.
        config: Name of the file that the run writes its config to.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    logs, written = _logs(folder), folder / config
    before = written.read_bytes() if written.is_file() else None
    kept = {kind: set(kind._instance_dict) for kind in _KEPT}
    try:
        yield
    except REFUSED:
        if is_main_process():
            for each in _logs(folder) - logs:
                shutil.rmtree(each, ignore_errors=True)
            _put_back(written, before)
            _remove_empty(missing)
        for kind, names in kept.items():
            for name in set(kind._instance_dict) - names:
                del kind._instance_dict[name]
        raise


def _logs(folder: Path) -> set[Path]:
    """The folders that MMEngine names by the time when a run began."""
    return {each for each in folder.glob("*_*") if re.fullmatch(r"\d{8}_\d{6}", each.name)}


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != content:
        with atomic_write(path) as file:
            file.write(content)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the inner ones first, up to one that holds something."""
    with contextlib.suppress(OSError):
        for each in folders:
            each.rmdir()
