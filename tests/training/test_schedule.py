"""A schedule that is stretched or shortened keeps its proportions."""

from contextlib import nullcontext

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from llie_preproc.commands.llie import main
from tests.support.mmdet_models import CONFIGS
from training.config_checks import check_schedules
from training.schedule import set_epochs, shorten_warmup

RETINANET, YOLOX = (f"mmdet::{CONFIGS[name]}" for name in ("retinanet", "yolox"))


def test_a_schedule_keeps_its_proportions():
    cfg = Config.fromstring(f"_base_ = {RETINANET!r}", ".py")
    set_epochs(cfg, 6, batches=100)
    shorten_warmup(cfg, 100)
    assert cfg.train_cfg.max_epochs == 6
    warmup, steps = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 100)
    assert (steps.begin, steps.end, steps.milestones) == (0, 6, [4, 5])
    set_epochs(cfg, 24, batches=100)
    assert cfg.param_scheduler[1].milestones == [16, 20]
    # The last 15 of 300 epochs become 0.3 of 6 epochs, so YOLOX's last schedule, a constant rate, is removed.
    cfg = Config.fromstring(f"_base_ = {YOLOX!r}", ".py")
    cfg.train_cfg.dynamic_intervals = [(285, 1)]
    set_epochs(cfg, 6, batches=100)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 1)
    assert (cosine.begin, cosine.end, cosine.T_max) == (1, 6, 6)
    assert cfg.train_cfg.dynamic_intervals == [(6, 1)]


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_a_shortened_warmup_ends_at_the_whole_rate(batches):
    cfg = Config.fromstring(f"_base_ = {RETINANET!r}", ".py")
    set_epochs(cfg, 8, batches)
    shorten_warmup(cfg, batches)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in cfg.param_scheduler]
    for _ in range(batches):
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_a_schedule_in_iterations_keeps_its_proportions(tiny):
    cfg = Config.fromfile(tiny.config.with_name("tiny.py"))
    cfg.train_cfg.max_iters = 260
    set_epochs(cfg, 13, batches=40)
    assert cfg.train_cfg.max_iters == 520
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 60)
    assert (cosine.begin, cosine.end, cosine.T_max) == (60, 520, 460)
    with pytest.raises(ValueError, match="max_epochs or max_iters"):
        set_epochs(Config(dict(train_cfg=dict(type="Loop"))), 1, 1)


def stopped(scheduler, length):
    """Whether MMEngine's own scheduler refuses to go on within a training of this length."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    own = PARAM_SCHEDULERS.build({**scheduler, "optimizer": optimizer})
    try:
        for _ in range(length):
            optimizer.step()
            own.step()
    except ValueError as error:
        return "Tried to step" in str(error)
    return False


@pytest.mark.parametrize("unit", ["epochs", "iters"])
@pytest.mark.parametrize(("length", "begin", "end"), [(4, 0, 10**9), (4, 1, 10**9), (6, 0, 4), (6, 3, 5)])
def test_a_one_cycle_schedule_that_would_stop_the_training_is_refused(unit, length, begin, end):
    answers = set()
    for total in range(1, 6):
        scheduler = dict(type="OneCycleLR", eta_max=1.0, total_steps=total, begin=begin, end=end)
        scheduler["by_epoch"] = unit == "epochs"
        cfg = Config(dict(train_cfg={f"max_{unit}": length}, param_scheduler=[scheduler]))
        fails = stopped(scheduler, length)
        answers.add(fails)
        with pytest.raises(ValueError, match=f"max_{unit}={length}.*, got {total}") if fails else nullcontext():
            check_schedules(cfg)
    assert False in answers


@pytest.mark.parametrize("total", [5, 10, 20])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 1.0])
def test_a_one_cycle_schedule_without_a_rise_is_refused(total, share):
    scheduler = dict(type="OneCycleLR", eta_max=1.0, total_steps=total, pct_start=share, by_epoch=False)
    cfg = Config(dict(train_cfg=dict(max_iters=total), param_scheduler=[scheduler]))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    try:
        own = PARAM_SCHEDULERS.build({**scheduler, "optimizer": optimizer})
        for _ in range(total - 1):
            optimizer.step()
            own.step()
    except ZeroDivisionError:
        with pytest.raises(ValueError, match=rf"pct_start={share} of total_steps={total} leaves no step"):
            check_schedules(cfg)
    else:
        check_schedules(cfg)


def test_llie_train_refuses_more_steps_than_the_schedule_has(capsys, tmp_path):
    config = "mm_configs/enhancers/detector_consistency_yolox-nano.py"
    options = ["train_cfg.max_iters=5000", "train_cfg.val_interval=5000"]
    assert main(["train", config, "--out", str(tmp_path / "run"), "--cfg-options", *options]) == 2
    message = "param_scheduler.0.total_steps must be at least train_cfg.max_iters=5000, got 4800"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
