"""``StagedTraining`` keeps the enhancer bit-identical in the first stage and trains it in the second."""

import uuid
from itertools import pairwise
from types import SimpleNamespace

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from tests.support.mmdet_models import build, mmdet_config, raw_batch
from tests.support.tiny_detection import CLASSES, write_config, write_set
from training.joint.staged_training import StagedTraining


class Watch(Hook):
    """Hook that records the weights, their average and the optimiser's state before training and after iterations."""

    priority = "VERY_LOW"

    def __init__(self):
        self.seen, self.losses = [], []

    def before_train(self, runner):
        self._look(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(set(outputs))
        self._look(runner)

    def _look(self, runner):
        copies = {n: t.clone() for n, t in runner.model.state_dict().items()}
        states = runner.optim_wrapper.optimizer.state
        momentum = sum(p in states for p in runner.model.enhancer.parameters())
        (ema,) = (h.ema_model.module for h in runner.hooks if type(h).__name__ == "EMAHook")
        average = {n: t.clone() for n, t in ema.state_dict().items()}
        self.seen.append(SimpleNamespace(model=copies, average=average, momentum=momentum, mode=runner.model.training))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("staged")
    write_config(root / "tiny.py")
    write_set(root / "train", 4, 0)
    return root


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """A function that trains a tiny detector behind Zero-DCE, two iterations an epoch, and returns a ``Watch``."""

    def go(hook, resume=None, **changes):
        cfg = Config.fromfile(folder / "tiny.py")
        plain, pipeline = cfg.model, cfg.train_pipeline
        for key in ("val_dataloader", "test_dataloader", "test_cfg", "test_evaluator", "custom_hooks"):
            cfg.pop(key, None)
        cfg.model = dict(
            type="llie_preproc.EnhancedDetector",
            detector=plain,
            enhancer=dict(type="ZeroDCE", channels=4, iterations=2),
            checkpoint=None,
            losses=dict(exposure=dict(type="llie_preproc.ExposureLoss")),
            trainable=True,
        )
        cfg.train_dataloader = dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=True),
            dataset=dict(
                type="CocoDataset",
                metainfo=dict(classes=CLASSES),
                ann_file=str(folder / "train.json"),
                data_prefix=dict(img=str(folder / "train")),
                pipeline=pipeline,
            ),
        )
        cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3)
        cfg.optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.1))
        cfg.param_scheduler = None
        cfg.default_hooks = dict(
            checkpoint=dict(type="llie_preproc.AtomicCheckpointHook", interval=1),
            ema=dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.0002),
            staged=dict(type="llie_preproc.StagedTraining", **hook),
        )
        watch = Watch()
        cfg.work_dir, cfg.experiment_name, cfg.log_level = str(tmp_path / "run"), uuid.uuid4().hex, "ERROR"
        cfg.load_from, cfg.resume = str(resume) if resume else None, bool(resume)
        # A loop of another type replaces the old one, because it has other arguments.
        for key in set(changes) & set(cfg):
            cfg[key] = changes.pop(key)
        cfg.merge_from_dict(changes)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(watch)
        runner.train()
        return watch

    return go


KINDS = ("model", "average")


def moved(before, after, part):
    names = [name for name in before.model if name.startswith(part)]
    return any(not torch.equal(getattr(before, kind)[n], getattr(after, kind)[n]) for n in names for kind in KINDS)


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    ("hook", "still"), [(dict(begin=2), 4), (dict(begin=3, by_epoch=False), 3)], ids=["epochs", "iterations"]
)
def test_the_enhancer_is_trained_from_begin_on(hook, still, run):
    watch = run(hook)
    assert len(watch.seen) == 7
    for number, (before, after) in enumerate(pairwise(watch.seen), 1):
        assert moved(before, after, "enhancer.") == (number > still)
        assert moved(before, after, "detector.")
        assert (after.momentum > 0) == (number > still)
        assert after.mode
    assert ["loss_exposure" in losses for losses in watch.losses] == [number > still for number in range(1, 7)]


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    ("after", "stages"), [(1, [False, False, True, True]), (2, [True, True])], ids=["detector alone", "both"]
)
def test_a_resumed_run_continues_in_its_stage(after, stages, run, tmp_path):
    """Only the third of three epochs, with two iterations each, trains both parts."""
    run(dict(begin=2))
    watch = run(dict(begin=2), resume=tmp_path / "run" / f"epoch_{after}.pth")
    assert [moved(a, b, "enhancer.") for a, b in pairwise(watch.seen)] == stages
    assert all(moved(a, b, "detector.") for a, b in pairwise(watch.seen))


@pytest.mark.examples(2)
@pytest.mark.parametrize(
    ("hook", "changes", "match"),
    [
        (dict(begin=3), {}, "begins after 3 epochs, but training ends after 3"),
        (dict(begin=9, by_epoch=False), {}, "begins after 9 iterations, but training ends after 6"),
        (dict(begin=2), dict(train_cfg=dict(type="IterBasedTrainLoop", max_iters=6)), "by_epoch=False"),
        (dict(begin=2), {"model.trainable": False}, "trainable=True"),
        (dict(begin=2), {"model.train_detector": False}, "train_detector=True"),
    ],
)
def test_runs_that_cannot_be_staged_are_refused(hook, changes, match, run):
    with pytest.raises(ValueError, match=match):
        run(hook, **changes)


def test_a_plain_detector_is_refused():
    runner = SimpleNamespace(model=build(mmdet_config("retinanet").model), epoch=0, max_epochs=3)
    with pytest.raises(ValueError, match="EnhancedDetector, but the model is a RetinaNet"):
        StagedTraining(2).before_train(runner)


@pytest.mark.parametrize(
    ("begin", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_invalid_values_of_begin_are_refused(begin, error):
    with pytest.raises(error, match=f"begin must be .*{begin!r}"):
        StagedTraining(begin)


def test_both_stages_run_in_distributed_training(tmp_path):
    """One process is enough for MMEngine's wrapper, which looks for parameters without a gradient."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        enhancer = dict(type="ZeroDCE", channels=4, iterations=2)
        model = dict(type="llie_preproc.EnhancedDetector", enhancer=enhancer, checkpoint=None, trainable=True)
        model = build(dict(model, detector=mmdet_config("retinanet").model)).train()
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=True)
        optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1))
        runner = SimpleNamespace(model=wrapped, epoch=0, max_epochs=2, logger=MMLogger.get_instance("staged"))
        hook = StagedTraining(1)
        hook.before_train(runner)
        changed = []
        for runner.epoch in range(2):
            hook.before_train_epoch(runner)
            before = [p.clone() for p in model.enhancer.parameters()]
            wrapped.train_step(raw_batch(), optimiser)
            changed.append([not torch.equal(a, b) for a, b in zip(before, model.enhancer.parameters(), strict=True)])
        assert not any(changed[0])
        assert all(changed[1])
    finally:
        torch.distributed.destroy_process_group()
