"""The settings that commands write into the config of a run take effect in the parts that MMEngine builds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import distributed

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OneCycleLR, build_optim_wrapper
from mmengine.registry import HOOKS, MODEL_WRAPPERS

from llie_preproc.mm.run_settings import set_checkpoints, set_enhancer_lr, set_name, set_wrapper
from llie_preproc.mm.runner_parts import AtomicCheckpointHook, join_processes, read_checkpoint, unwrapped


class Joint(BaseModel):
    """A detector behind an enhancer, each with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.enhancer, self.detector = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.detector(self.enhancer(inputs))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of a process that torchrun starts alone."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    numbers = dict(RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, MASTER_PORT=store.port)
    for name, value in dict(numbers, MASTER_ADDR="127.0.0.1", TORCHELASTIC_USE_AGENT_STORE=True).items():
        monkeypatch.setenv(name, str(value))
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_runs_of_one_name_have_message_hubs_of_their_own() -> None:
    first = Config(dict(visualizer=dict(type="Visualizer")))
    second = Config(dict())
    for cfg in (first, second):
        set_name(cfg, "night")
    hubs = [MessageHub.get_instance(cfg.experiment_name) for cfg in (first, second)]
    assert hubs[0] is not hubs[1]
    assert first.visualizer.name == first.experiment_name
    assert "visualizer" not in second
    assert all(cfg.experiment_name.startswith("night-") for cfg in (first, second))


@pytest.mark.skipif(torch.cuda.is_available(), reason="applies to machines without CUDA")
def test_processes_join_once_and_models_are_wrapped_without_a_gpu(alone: None) -> None:
    join_processes("none")
    assert not distributed.is_initialized()
    for _ in range(2):
        join_processes("pytorch", timeout=60)
    cfg = Config(dict(launcher="pytorch", find_unused_parameters=True))
    set_wrapper(cfg)
    model = Joint()
    # MMEngine's Runner builds the wrapper like this, with a device's number.
    wrapper = MODEL_WRAPPERS.build(cfg.model_wrapper_cfg, default_args=dict(device_ids=[0], module=model))
    assert isinstance(wrapper, MMDistributedDataParallel)
    assert wrapper.find_unused_parameters
    assert unwrapped(wrapper) is model
    assert unwrapped(model) is model


def test_a_wrapper_in_the_config_stays_and_a_single_process_gets_none() -> None:
    cfg = Config(dict(launcher="pytorch", model_wrapper_cfg=dict(type="Own", find_unused_parameters=True)))
    set_wrapper(cfg)
    assert (cfg.model_wrapper_cfg.type, cfg.model_wrapper_cfg.find_unused_parameters) == ("Own", True)
    for launcher in ({}, dict(launcher="none")):
        single = Config(copy.deepcopy(launcher))
        set_wrapper(single)
        assert single._cfg_dict == launcher


@pytest.mark.parametrize("loop", [dict(max_epochs=2), dict(max_iters=4)])
@pytest.mark.parametrize("given", [None, dict(type="CheckpointHook", interval=3, save_optimizer=False, out_dir="away")])
def test_a_training_saves_all_that_resuming_needs(loop: dict, given: dict | None) -> None:
    cfg = Config(dict(train_cfg=loop, default_hooks=dict(checkpoint=given, timer=dict(type="IterTimerHook"))))
    set_checkpoints(cfg, max_keep_ckpts=1)
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert isinstance(hook, AtomicCheckpointHook)
    assert (hook.interval, hook.save_optimizer, hook.save_param_scheduler) == (3 if given else -1, True, True)
    assert (hook.save_last, hook.out_dir, hook.by_epoch) == (True, None, "max_epochs" in loop)
    assert cfg.default_hooks.timer.type == "IterTimerHook"


@pytest.mark.parametrize("several", [False, True])
def test_the_state_of_every_scheduler_can_be_read_again(several: bool, tmp_path: Path) -> None:
    """The state of MMEngine's one-cycle scheduler holds a function, which no safe reader accepts."""

    def scheduler() -> OneCycleLR:
        return OneCycleLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), eta_max=1.0, total_steps=9)

    first, second = scheduler(), scheduler()
    for _ in range(4):
        first.optimizer.step()
        first.step()
    states = [first.state_dict()]
    assert any(map(callable, states[0].values()))
    checkpoint = dict(param_schedulers=dict(enhancer=states) if several else states)
    AtomicCheckpointHook().before_save_checkpoint(Mock(), checkpoint)
    torch.save(checkpoint, tmp_path / "iter_4.pth")
    read = read_checkpoint(tmp_path / "iter_4.pth")["param_schedulers"]
    second.load_state_dict((read["enhancer"] if several else read)[0])
    second.optimizer.param_groups[0].update(lr=first.optimizer.param_groups[0]["lr"])
    rates = []
    for each in (first, second):
        each.optimizer.step()
        each.step()
        rates.append(each.optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]
    assert rates[0] != 0.1


def test_an_enhancer_has_a_learning_rate_of_its_own() -> None:
    keys = {"enhancer.": dict(decay_mult=0.0), "bias": dict(lr_mult=2.0)}
    optimizer = dict(type="SGD", lr=1.0, weight_decay=0.5)
    cfg = Config(dict(optim_wrapper=dict(optimizer=optimizer, paramwise_cfg=dict(custom_keys=keys))))
    set_enhancer_lr(cfg, 0.25)
    model = Joint()
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {group["params"][0]: (group["lr"], group["weight_decay"]) for group in groups}
    assert found == {model.enhancer.weight: (0.25, 0.0), model.detector.weight: (1.0, 0.5)}
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.bias == dict(lr_mult=2.0)
