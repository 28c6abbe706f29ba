"""``llie finetune`` makes a config from a detector's config, with the right learning rates, optimiser and hooks."""

from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import mmdet
from mmengine.config import Config

from llie_preproc.commands.llie import parse_args
from tests.support.mmdet_models import CONFIGS
from training.finetune_config import finetuning_config
from training.finetune_runner import build_runner

pytestmark = pytest.mark.usefixtures("on_the_cpu")

MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
RETINANET, DETR, YOLOX = (f"mmdet::{CONFIGS[name]}" for name in ("retinanet", "detr", "yolox"))


def rates(runner):
    """Each parameter's learning rate after the warm-up, and its weight decay, by name."""
    names = {id(p): name for name, p in runner.model.named_parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    return {names[id(p)]: (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_the_enhancer_has_its_own_learning_rate(tiny, tmp_path):
    options = ("--lr", "0.02", "--enhancer-lr-mult", "0.5")
    found = rates(build_runner(parse_args(tiny.arguments(tmp_path, *options))))
    assert {rate for name, (rate, _) in found.items() if name.startswith("detector.")} == {0.02}
    assert {rate for name, (rate, _) in found.items() if name.startswith("enhancer.")} == {0.01}


def test_the_learning_rate_is_scaled_to_the_batch(tiny, tmp_path):
    first = build_runner(parse_args(tiny.arguments(tmp_path / "a", "--accumulate", "2")))
    second = build_runner(parse_args(tiny.arguments(tmp_path / "b", "--train-batch-size", "4")))
    assert rates(first) == rates(second)
    # The rate of 1e-3 is for batches of 8 pictures.
    assert max(rate for rate, _ in rates(first).values()) == pytest.approx(1e-3 * 4 / 8)


def test_a_detector_that_trains_by_another_optimiser_than_sgd_keeps_it(tiny, tmp_path):
    plain = Config.fromfile(MMDET_CONFIGS / CONFIGS["detr"]).optim_wrapper
    cfg = finetuning_config(parse_args(["finetune", "--detector", DETR, *tiny.arguments(tmp_path)[3:]]))
    assert cfg.optim_wrapper.optimizer == plain.optimizer
    assert cfg.optim_wrapper.clip_grad == plain.clip_grad
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert {**plain.paramwise_cfg.custom_keys, "enhancer.": {"lr_mult": 0.1, "decay_mult": 0.0}} == keys
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 25


@pytest.mark.parametrize("config", [RETINANET, YOLOX])
def test_configs_of_mmdetection_get_the_joint_schedule(tiny, tmp_path, config):
    arguments = ["finetune", "--detector", config, *tiny.arguments(tmp_path)[3:]]
    cfg = finetuning_config(parse_args(arguments))
    assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.type) == (25, "SGD")
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys["enhancer."].lr_mult == 0.1
    warmups = [each.end for each in cfg.param_scheduler if not each.by_epoch]
    # An epoch has three batches in RetinaNet's config, and in YOLOX's only one, which is too short for a warm-up.
    assert warmups == ([3] if config == RETINANET else [])
    hooks = [*cfg.custom_hooks, *(hook for hook in cfg.default_hooks.values() if hook)]
    assert sum("EMAHook" in hook["type"] for hook in hooks) == 1
    assert cfg.val_evaluator[0].ann_file == tiny.val[0]
    # No pretrained backbone is downloaded, because the checkpoint has its weights.
    assert not cfg.model.detector.backbone.get("init_cfg") or cfg.model.detector.backbone.init_cfg.type != "Pretrained"
    if config == YOLOX:
        # YOLOX has no mosaics in the last 15 of 300 epochs; of 25 epochs, that is the last one.
        assert [hook["num_last_epochs"] for hook in hooks if hook["type"] == "YOLOXModeSwitchHook"] == [1]
