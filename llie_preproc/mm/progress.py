"""A progress bar for MMEngine's loops, whose own output goes to the log of the work folder."""

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
    """A bar over the iterations of a training or test on standard error, with the losses beside it.

    Where standard error is no terminal, it is a line for each interval of MMEngine's ``LoggerHook``. Results of
    validations stand on lines of their own.

    Args:
        name: Name of what is trained or tested; empty where there is but one.
        shown: Whether this process shows it; only the first of a distributed run does.
    """

    def __init__(self, name: str = "", shown: bool = True) -> None:
        self.name, self.shown = name, shown

    def before_train(self, runner: Runner) -> None:
        """Open the bar, where a resumed run goes on."""
        self._open(runner, "training", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, and show the mean losses of each interval."""
        at_interval = (runner.iter + 1) % self._interval == 0 or runner.iter + 1 == runner.max_iters
        self._advance(_losses(runner, self._interval) if at_interval else None)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Write the results on a line of their own."""
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
        """Advance."""
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
        """Count an iteration; what is to stand beside the count says, unless it is None, that an interval ends."""
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
    """The means of the losses over the last iterations, as MMEngine logs them."""
    scalars = {name.removeprefix("train/"): buffer for name, buffer in runner.message_hub.log_scalars.items()}
    means = {name: buffer.mean(window) for name, buffer in scalars.items() if "loss" in name}
    return ", ".join(f"{name}={_short(value)}" for name, value in means.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
