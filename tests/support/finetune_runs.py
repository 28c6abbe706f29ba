"""Tiny finetuning runs, for the tests of the command, of its parts and of several processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from llie_preproc.commands.llie import parse_args
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from tests.support.networks import same as same
from tests.support.tiny_detection import write_config, write_set
from training.finetune_runner import build_runner

EPOCHS = 2
BATCHES = 3
_EPOCHS_CONFIG = f"""
_base_ = "tiny.py"
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs={EPOCHS})
train_dataloader = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=0.02, momentum=0.9))
param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[1], by_epoch=True)
default_hooks = dict(checkpoint=dict(_delete_=True, type="CheckpointHook", interval=1), logger=dict(interval=1))
log_processor = dict(by_epoch=True)
"""


@dataclass(frozen=True)
class Tiny:
    """Files that the runs share.

    Attributes:
        config: Plain config of a tiny detector, which trains by epochs.
        detector: Checkpoint of that detector, as MMEngine writes one.
        train, val: Annotation file and folder.
    """

    config: Path
    detector: Path
    train: list[str]
    val: list[str]

    def arguments(self, work_dir: Path, *options: str) -> list[str]:
        """The command line of a joint finetuning, with ``options``; the enhancer is PSENet unless they name another."""
        sets = ["--train", *self.train, "--val", *self.val]
        network = [] if "--enhancer" in options else ["--enhancer", "psenet"]
        checkpoint = ["--detector-checkpoint", str(self.detector)]
        given = ["finetune", "--detector", str(self.config), *network, *checkpoint, *sets]
        return [*given, "--out", str(work_dir), *options]


def make(folder: Path) -> Tiny:
    """Write the configs, the sets and the checkpoint into ``folder``."""
    write_config(folder / "tiny.py")
    config = folder / "epochs.py"
    config.write_text(_EPOCHS_CONFIG)
    train, val = write_set(folder / "train", 2 * BATCHES, 0), write_set(folder / "val", 3, 1)
    torch.manual_seed(0)
    model = plain_detector(config)
    model.init_weights()
    for name, buffer in model.named_buffers():
        # Running statistics must differ from a new model's, as they do after some training.
        if "running" in name:
            buffer += 0.1
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "coco.pth")
    return Tiny(config, folder / "coco.pth", train, val)


def plain_detector(config: Path, classes: int = 2) -> Any:
    """The detector of ``config``, for ``classes`` classes."""
    cfg = Config.fromfile(config)
    cfg.model.roi_head.bbox_head.num_classes = classes
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


def last_state(work_dir: Path) -> dict[str, torch.Tensor]:
    """The weights of a run's last checkpoint."""
    return read_checkpoint(saved_checkpoints(work_dir)[-1])["state_dict"]


def part(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors of one part of an ``EnhancedDetector``, under the part's own names."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


if __name__ == "__main__":
    # Each process of a distributed test runs the presets one after the other.
    folder, *presets = sys.argv[1:]
    sets = [[f"{folder}/{name}.json", f"{folder}/{name}"] for name in ("train", "val")]
    tiny = Tiny(Path(folder, "epochs.py"), Path(folder, "coco.pth"), *sets)
    for preset in presets:
        work = Path(folder, preset)
        epochs = "2" if preset == "staged" else "1"
        options = ("--preset", preset, "--epochs", epochs, "--train-batch-size", "1", "--launcher", "pytorch")
        runner = build_runner(parse_args(tiny.arguments(work, *options)))
        runner.train()
        torch.save(runner.model.module.state_dict(), work / f"rank{runner.rank}.pth")
