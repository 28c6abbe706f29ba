"""``NumberedDraws`` and ``SeededDraws`` make data depend only on the number of the draw, not on workers or resuming."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator

from llie_preproc.numbered_draws import Draw, NumberedDraws, SeededDraws, seed_draws

ITEMS, BATCH = 7, 2


@DATASETS.register_module()
class RandomItems:
    """A dataset whose items are random numbers of every kind that pipelines draw."""

    def __init__(self, length: int = ITEMS) -> None:
        self.length, self.scale, self.metainfo = length, 1.0, {"classes": ("a",)}

    def __len__(self) -> int:
        return self.length

    def get_data_info(self, index: int) -> dict[str, int]:
        """The size of a picture; every third picture is upright."""
        return dict(width=1, height=2) if index % 3 == 0 else dict(width=2, height=1)

    def __getitem__(self, index: int) -> torch.Tensor:
        drawn = [float(torch.rand(())), float(np.random.rand()), random.random()]
        return self.scale * torch.tensor([index, *drawn], dtype=torch.float64)


def loader(sampler: str, workers: int, batch_sampler: str | None = None) -> Any:
    cfg = Config(
        dict(
            train_dataloader=dict(
                batch_size=BATCH,
                num_workers=workers,
                sampler=dict(type=sampler, shuffle=True),
                dataset=dict(type="RandomItems"),
                collate_fn=dict(type="default_collate"),
                batch_sampler=batch_sampler and dict(type=batch_sampler),
            )
        )
    )
    seed_draws(cfg)
    assert [hook["type"] for hook in cfg.custom_hooks] == ["llie_preproc.StepSeed"]
    return Runner.build_dataloader(cfg.train_dataloader, seed=3)


def batches(sampler: str, workers: int = 0, skip: int = 0, batch_sampler: str | None = None) -> Iterator[torch.Tensor]:
    """Batches that a training loop gets after it skips some, while other code draws random numbers too."""
    iterator = _InfiniteDataloaderIterator(loader(sampler, workers, batch_sampler))
    iterator.skip_iter(skip)
    for batch in iterator:
        torch.rand(3)
        random.random()
        yield batch


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pause that MMEngine makes at the end of a round."""
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)


@pytest.mark.examples(3)
@pytest.mark.parametrize("sampler", ["InfiniteSampler", "DefaultSampler"])
@pytest.mark.parametrize(("workers", "skip"), [(0, 0), (0, 5), (2, 0), (2, 5)])
def test_batches_are_those_of_an_uninterrupted_run(sampler, workers, skip):
    expected = list(islice(batches(sampler), 9))
    random.seed(99)
    found = list(islice(batches(sampler, workers, skip), 9 - skip))
    assert all(torch.equal(a, b) for a, b in zip(found, expected[skip:], strict=True))
    # No two items are equal, in one epoch or in several.
    drawn = torch.cat(expected)[:, 1:]
    assert len(drawn.unique(dim=0)) == len(drawn)


@pytest.mark.parametrize("sampler", ["InfiniteSampler", "DefaultSampler"])
@pytest.mark.parametrize(("workers", "skip"), [(0, 5), (2, 5)])
def test_batches_of_one_aspect_ratio_are_those_of_an_uninterrupted_run(sampler, workers, skip):
    """MMDetection's configs of two-stage detectors group pictures by aspect ratio."""
    pytest.importorskip("mmdet.datasets", reason="needs the extra 'mm'")
    expected = list(islice(batches(sampler, batch_sampler="mmdet.AspectRatioBatchSampler"), 12))
    random.seed(99)
    found = list(islice(batches(sampler, workers, skip, "mmdet.AspectRatioBatchSampler"), 12 - skip))
    assert all(torch.equal(a, b) for a, b in zip(found, expected[skip:], strict=True))
    drawn = torch.cat(expected)
    assert len(drawn[:, 1:].unique(dim=0)) == len(drawn)
    # The last batch of a finite round holds what is left of both kinds.
    if sampler == "InfiniteSampler":
        assert all(len({int(index) % 3 == 0 for index in batch[:, 0]}) == 1 for batch in expected)


def test_epochs_differ_and_can_be_repeated():
    made = loader("DefaultSampler", 0)

    def epoch(number: int) -> torch.Tensor:
        made.sampler.set_epoch(number)
        return torch.cat(list(made))

    first, second = epoch(0), epoch(1)
    assert not torch.equal(first, second)
    assert torch.equal(epoch(1), second)
    assert torch.equal(epoch(0), first)


def test_the_wrapper_behaves_like_its_dataset():
    dataset = SeededDraws(dict(type="RandomItems", length=4))
    assert (len(dataset), dataset.metainfo) == (4, {"classes": ("a",)})
    # Hooks that switch pipelines set attributes like this.
    dataset.scale = 0.0
    assert dataset.dataset.scale == 0.0
    assert float(dataset[Draw(3, 1)].sum()) == 0
    copied = pickle.loads(pickle.dumps(dataset))
    assert (len(copied), copied.scale) == (4, 0.0)
    assert not hasattr(dataset, "absent")
    with pytest.raises(AttributeError):
        _ = dataset.__getitems__


def test_a_sampler_can_skip_if_the_inner_one_can():
    dataset = SeededDraws(dict(type="RandomItems"))
    endless = NumberedDraws(dict(type="InfiniteSampler"), dataset, seed=1)
    finite = NumberedDraws(dict(type="DefaultSampler"), dataset, seed=1)
    assert hasattr(endless, "skip")
    assert not hasattr(finite, "skip")
    assert len(finite) == ITEMS
    assert len({draw.seed for draw in finite}) == ITEMS
