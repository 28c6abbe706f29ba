"""A progress bar for MMEngine's loops, because their own output goes to the log of the work folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from ..errors import needs

with needs("llie_preproc.mm.progress"):
    from mmengine.hooks import Hook, LoggerHook
    from mmengine.runner import Runner

_INTERVAL = 10


class ProgressBar(Hook):
    """A bar on standard error over the iterations of a training or test, followed by the losses.

    If standard error is not a terminal, a line is printed for each interval of MMEngine's ``LoggerHook`` instead.
    Results of validations are printed on separate lines.

    Args:
        name: Name of what is trained or tested; it may be empty if there is only one.
        shown: Whether this process shows the bar; in a distributed run only the first process does.

    Examples:
        >>> hook = ProgressBar("enhanced", shown=False)
        >>> hook.name, hook.shown
        ('enhanced', False)
    """

    def __init__(self, name: str = "", shown: bool = True) -> None:
        self.name, self.shown = name, shown

    def before_train(self, runner: Runner) -> None:
        """Open the bar at the iteration from which the run starts or resumes."""
        self._open(runner, "training", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the bar, and show the mean losses of each interval."""
        at_interval = (runner.iter + 1) % self._interval == 0 or runner.iter + 1 == runner.max_iters
        self._advance(_losses(runner, self._interval) if at_interval else None)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Print the results on a separate line."""
        if self.shown and runner.rank == 0 and metrics:
            results = ", ".join(f"{name} {_short(value)}" for name, value in metrics.items())
            tqdm.write(f"validation after iteration {runner.iter}: {results}", file=sys.stderr)

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._bar.close()

    def before_test(self, runner: Runner) -> None:
        """Open the bar."""
        self._open(runner, "evaluation", len(runner.test_dataloader))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the bar."""
        self._advance("" if (batch_idx + 1) % self._interval == 0 else None)

    def after_test(self, runner: Runner) -> None:
        """Close the bar."""
        self._bar.close()

    def _open(self, runner: Runner, kind: str, total: int, done: int = 0) -> None:
        self._interval = next((h.interval for h in runner.hooks if isinstance(h, LoggerHook)), _INTERVAL)
        self._shown_here = self.shown and runner.rank == 0
        self._begun, self._first, self._done, self._total = time.monotonic(), done, done, total
        self._name = f"{kind} ({self.name})" if self.name else kind
        off = None if self._shown_here else True
        self._bar = tqdm(total=total, initial=done, desc=self._name, unit="batch", disable=off)

    def _advance(self, beside: str | None) -> None:
        """Count an iteration; ``beside`` is the text after the count at the end of an interval, and otherwise None."""
        self._done += 1
        if beside and not self._bar.disable:
            self._bar.set_postfix_str(beside, refresh=False)
        self._bar.update()
        if beside is not None and self._shown_here and self._bar.disable:
            elapsed = time.monotonic() - self._begun
            line = tqdm.format_meter(
                self._done, self._total, elapsed, 0, self._name, unit="batch", postfix=beside, initial=self._first
            )
            print(line, file=sys.stderr, flush=True)


def _losses(runner: Runner, window: int) -> str:
    """Means of the losses over the last ``window`` iterations, as MMEngine logs them."""
    scalars = {name.removeprefix("train/"): buffer for name, buffer in runner.message_hub.log_scalars.items()}
    means = {name: buffer.mean(window) for name, buffer in scalars.items() if "loss" in name}
    return ", ".join(f"{name}={_short(value)}" for name, value in means.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
