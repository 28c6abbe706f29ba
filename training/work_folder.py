"""The folder that a run writes into, which a refused run leaves unchanged."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from llie_preproc.commands.program import REFUSED
from llie_preproc.files import real_path, write_text
from llie_preproc.safe_loading import SafeRunner

# MMEngine keeps objects of these classes by name for the whole process. Another run with the same name would use
# them, and write to files that were removed.
_KEPT = (MessageHub, MMLogger, Visualizer)


class InterruptedTraining(KeyboardInterrupt):
    """An interrupt of a training after its first step, which keeps what it wrote."""


class TrainingRunner(SafeRunner):
    """A Runner that reads every checkpoint safely, and lets :class:`WriteConfig` write its config.

    Attributes:
        begun: Log folders of all runs of this process, in the order of their start.
    """

    begun: ClassVar[list[Path]] = []

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the logger, and note the log folder of this run."""
        self.begun.append(real_path(self.log_dir))
        return super().build_logger(*args, **kwargs)

    def dump_config(self) -> None:
        """Write nothing, because the run may still be refused."""


class WriteConfig(Hook):
    """A hook that writes the config of a run into its work folder after the first step.

    Args:
        name: Name of the file.
        text: Content of the file.
    """

    priority = "VERY_HIGH"

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._written = False

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write the file after the first step."""
        if not self._written and is_main_process():
            write_text(Path(runner.work_dir, self._name), self._text)
        self._written = True


@contextlib.contextmanager
def unchanged_when_refused(folder: Path) -> Iterator[None]:
    """Restore the work folder if the block is refused or interrupted: no new folder and no log of this run remain.

    A training that was interrupted after its first step (:class:`InterruptedTraining`) keeps what it wrote.

    Args:
        folder: Work folder, which need not exist. Other processes may write into it at the same time.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> with unchanged_when_refused(folder):
        ...     folder.mkdir()
        ...     raise ValueError("a wrong option")
        Traceback (most recent call last):
        ValueError: a wrong option
        >>> folder.exists()
        False
    """
    folder = real_path(folder)
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    there = set(folder.iterdir()) if folder.is_dir() else set()
    kept = {kind: set(kind._instance_dict) for kind in _KEPT}
    before = len(TrainingRunner.begun)
    try:
        yield
    except InterruptedTraining:
        raise
    except (*REFUSED, KeyboardInterrupt):
        _end_new_objects(kept)
        if is_main_process():
            for logs in TrainingRunner.begun[before:]:
                if logs.parent == folder and logs not in there:
                    shutil.rmtree(logs, ignore_errors=True)
            _remove_empty(missing)
        raise


def _end_new_objects(kept: Mapping[Any, set[str]]) -> None:
    """Remove the objects that MMEngine keeps, except for the given names; visualizers end their threads before."""
    for kind, names in kept.items():
        for name in set(kind._instance_dict) - names:
            ended = kind._instance_dict.pop(name)
            # TensorBoard's thread would fail, with a traceback, when it writes into a folder that has been removed.
            with contextlib.suppress(OSError):
                if isinstance(ended, Visualizer):
                    ended.close()


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the inner ones first, until one is not empty."""
    with contextlib.suppress(OSError):
        for each in folders:
            each.rmdir()
