"""``SafeRunner`` ends the processes that load a run's data, whatever ends the run."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor

from llie_preproc.safe_loading import SafeRunner


class Line(BaseModel):
    """A model of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs: list[Tensor], mode: str = "tensor") -> Any:
        made = self.slope * torch.stack(inputs).sum()
        return {"loss": made} if mode == "loss" else [made.item()]


class Count(BaseMetric):
    """A metric that counts the batches."""

    default_prefix = "count"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict:
        return {"batches": len(results)}


class Workers(Hook):
    """A hook that counts the worker processes at each step, and can raise at the second step."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.seen: list[int] = []
        self._error = error

    def after_train_iter(self, runner: Any, *rest: Any, **named: Any) -> None:
        self.seen.append(len(multiprocessing.active_children()))
        if self._error and len(self.seen) == 2:
            raise self._error("in the second step")

    def after_test_iter(self, runner: Any, *rest: Any, **named: Any) -> None:
        self.seen.append(len(multiprocessing.active_children()))


def run(folder: Path, workers: Workers, by_epoch: bool) -> SafeRunner:
    items = [dict(inputs=torch.full((2,), float(number))) for number in range(8)]

    def loader(kind: str) -> dict:
        sampler = dict(type=kind, shuffle=False)
        return dict(batch_size=2, num_workers=2, persistent_workers=True, sampler=sampler, dataset=items)

    schedule = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=6)
    return SafeRunner(
        Line(),
        str(folder),
        train_dataloader=loader("DefaultSampler" if by_epoch else "InfiniteSampler"),
        train_cfg=schedule,
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        test_dataloader=loader("DefaultSampler"),
        test_cfg=dict(),
        test_evaluator=[Count()],
        custom_hooks=[workers],
        default_hooks=dict(checkpoint=None),
        experiment_name=folder.name,
    )


@pytest.mark.parametrize("by_epoch", [True, False])
def test_no_worker_outlives_a_training_or_a_test(tmp_path: Path, by_epoch: bool) -> None:
    workers = Workers()
    runner = run(tmp_path, workers, by_epoch)
    for each in (runner.train, runner.test):
        workers.seen.clear()
        each()
        assert max(workers.seen) == 2
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_no_worker_outlives_an_error(tmp_path: Path, by_epoch: bool, error: type[BaseException]) -> None:
    workers = Workers(error)
    with pytest.raises(error, match="in the second step"):
        run(tmp_path, workers, by_epoch).train()
    assert max(workers.seen) == 2
    assert multiprocessing.active_children() == []
