"""A progress bar for MMEngine's loops, whose own output goes to the log of the work folder."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm


class ProgressBar(Hook):
    """A tqdm bar over the iterations of a training or test, on the first process.

    Args:
        name: What is trained or tested.
        shown: Whether to show it at all.
    """

    def __init__(self, name: str, shown: bool = True) -> None:
        self.name, self.shown = name, shown

    def before_train(self, runner: Runner) -> None:
        """Open the bar, where a resumed run goes on."""
        self._open(runner, "training", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, and show the loss."""
        self.bar.set_postfix(loss=f"{float(outputs['loss'].detach()):.2f}", refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self.bar.close()

    def before_test(self, runner: Runner) -> None:
        """Open the bar."""
        self._open(runner, "evaluation", len(runner.test_dataloader))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance."""
        self.bar.update()

    def after_test(self, runner: Runner) -> None:
        """Close the bar."""
        self.bar.close()

    def _open(self, runner: Runner, kind: str, total: int, done: int = 0) -> None:
        name = f"{kind} ({self.name})"
        self.bar = tqdm(total=total, initial=done, desc=name, unit="batch", disable=not self.shown or runner.rank != 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what MMEngine and pycocotools print to the console away from it; the same stands in the log."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
