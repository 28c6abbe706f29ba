"""Finetune a detector, an enhancer, or both together.

The detector learns behind the enhancer, the enhancer in front of the detector, or both at once.

CONFIG is a plain MMDetection config (a file, or mmdet::<its own>) with --enhancer, which gets the schedule of
mm_configs/_base_/joint/schedule.py, but keeps an optimiser other than SGD; or one that has an EnhancedDetector already
(mm_configs/joint), which runs as it is, with the options over it. What runs is written to <work dir>/finetune.py
first, and runs again by itself. The parts of the last checkpoint, detector.pth and enhancer.safetensors, lie beside it
in the end.

The learning rate is scaled to the batch (of all processes and accumulated iterations) where the config
says in auto_scale_lr which batch it is for; --lr is taken as it is. With --epochs the schedules keep their
proportions. Warm-ups counted in iterations end with the first epoch at the latest. Without --val the config's own set
is validated on; to leave that out: --cfg-options val_dataloader=None val_cfg=None val_evaluator=None. A run that is
interrupted and resumed ends with the weights of an uninterrupted one, where the device computes the same each time and
no transform remembers earlier pictures.
"""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import DictAction
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from llie_preproc.errors import CheckpointError
from llie_preproc.ranks import LAUNCHERS
from llie_preproc.runs import saved_checkpoints

from ..checkpoint_parts import split_checkpoint
from ..finetune_config import LOSSES, PRESETS
from ..finetune_runner import build_runner
from ..runner import building, going_on, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("config", metavar="CONFIG", help="a detector's config")
    _add_what(parser.add_argument_group("what is trained"))
    _add_how(parser.add_argument_group("how"))
    _add_run(parser.add_argument_group("the run"))


def _add_what(group: Any) -> None:
    coco = dict(nargs=2, metavar=("ANNOTATIONS", "IMAGES"))
    group.add_argument(
        "--enhancer", metavar="NAME", help="psenet, zero_dce, ... ('llie list'), or a config file of one"
    )
    group.add_argument("--enhancer-checkpoint", metavar="FILE", help="its weights (default: shipped)")
    group.add_argument(
        "--checkpoint", metavar="FILE", help="of the plain detector: a file, or a URL that ends in '#sha256=...'"
    )
    group.add_argument("--train", **coco, help="COCO file and folder to train on (default: the config's)")
    group.add_argument("--val", **coco, help="the same to validate on (default: the config's)")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="the detector alone, both, first the detector and then both, or the enhancer alone (default: joint; of a "
        "config that has an EnhancedDetector: its own)",
    )
    group.add_argument(
        "--losses",
        nargs="+",
        default=[],
        metavar="NAME[=WEIGHT]",
        help=f"auxiliary losses of the enhancer: {', '.join(LOSSES)}",
    )
    group.add_argument("--pairs", metavar="DIR", help="pictures of the same names in normal light: a paired loss")
    group.add_argument("--detector-input", choices=["raw", "enhanced", "both"], help="what the detector sees")
    group.add_argument("--fusion", choices=["image", "features"], help="how both inputs are joined")
    group.add_argument("--map-side", type=int, metavar="N", help="predict curves on the picture shrunk to this side")


def _add_how(group: Any) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="default: as many as the schedule has")
    group.add_argument("--batch-size", type=int, metavar="N", help="pictures of an iteration in each process")
    group.add_argument("--lr", type=float, metavar="X", help="learning rate of the detector")
    group.add_argument("--enhancer-lr-mult", type=float, metavar="X", help="the enhancer's rate over the detector's")
    group.add_argument("--accumulate", type=int, metavar="N", help="step once in N iterations")
    group.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, default=None, help="average the weights (default: the config's)"
    )
    group.add_argument("--amp", action="store_true", help="mixed precision: autocast to bfloat16")
    group.add_argument(
        "--checkpointing", action="store_true", default=None, help="recompute the enhancer's activations: less memory"
    )
    group.add_argument("--seed", type=int, help="default: the config's, or 0")
    group.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, help="KEY=VALUE over the config that runs"
    )


def _add_run(group: Any) -> None:
    group.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/finetune_<config name>)")
    group.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    group.add_argument("--launcher", choices=LAUNCHERS, default="none")


def run(args: argparse.Namespace) -> None:
    """Run the finetuning that the command line describes."""
    with going_on():
        with building():
            runner = build_runner(args)
        train(runner)
        if is_main_process():
            _report(runner)


def _report(runner: Runner) -> None:
    """Split the last checkpoint, and print what was written and measured."""
    last = saved_checkpoints(runner.work_dir)[-1]
    print(last)
    try:
        print(*split_checkpoint(last, runner.work_dir, overwrite=True), sep="\n")
    except CheckpointError as error:
        print(f"not split: {error}")
    scalars = runner.message_hub.log_scalars
    for name, values in scalars.items():
        if name.startswith("val/") and not name.endswith("time"):
            print(f"{name.removeprefix('val/')}: {values.current():.4f}")
