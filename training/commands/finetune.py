"""Finetune a detector, an enhancer, or both together.

The detector learns behind the enhancer, the enhancer in front of the detector, or both at once.

--detector is a plain MMDetection config (a file, or mmdet::<its own>) with --enhancer, which gets the schedule of
mm_configs/_base_/joint/schedule.py, but keeps an optimiser other than SGD; or one that has an EnhancedDetector already
(mm_configs/joint), which runs as it is, with the options over it. What runs is written to finetune.py in --out first,
and runs again by itself. The parts of the last checkpoint, detector.pth and enhancer.safetensors, lie beside it in the
end.

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

from llie_preproc.commands.arguments import (
    add_cfg_options,
    add_enhancer,
    add_inference_options,
    add_launcher,
    add_out,
    add_resume,
)
from llie_preproc.errors import CheckpointError, Extras

from ..finetune_words import LOSSES, PRESETS

NEEDS = Extras("mm")
with NEEDS:
    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    from llie_preproc.runs import saved_checkpoints

    from ..checkpoint_parts import split_checkpoint
    from ..finetune_runner import WRITTEN, build_runner, work_folder
    from ..results import print_scores
    from ..runner import building, going_on, train
    from ..work_folder import unchanged_when_refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    _add_what(parser.add_argument_group("what is trained"))
    _add_how(parser.add_argument_group("how"))
    _add_run(parser.add_argument_group("the run"))


def _add_what(group: Any) -> None:
    coco = dict(nargs=2, metavar=("ANNOTATIONS", "IMAGES"))
    group.add_argument(
        "--detector", required=True, metavar="CONFIG", help="config of the detector, plain or with an EnhancedDetector"
    )
    group.add_argument(
        "--detector-checkpoint",
        metavar="FILE",
        help="weights of the plain detector: a file, or a URL that ends in '#sha256=...'",
    )
    add_enhancer(group, None)
    group.add_argument("--train", **coco, help="COCO file and folder to train on (default: the config's)")
    group.add_argument("--val", **coco, help="COCO file and folder to validate on (default: the config's)")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="parts that are trained: the detector alone, both, first the detector and then both, or the enhancer "
        "alone (default: joint; of a config that has an EnhancedDetector: its own)",
    )
    group.add_argument(
        "--losses",
        nargs="+",
        default=[],
        metavar="NAME[=WEIGHT]",
        help=f"auxiliary losses of the enhancer: {', '.join(LOSSES)}",
    )
    group.add_argument("--pairs", metavar="DIR", help="pictures of the same names in normal light: a paired loss")
    group.add_argument("--detector-input", choices=["raw", "enhanced", "both"], help="images that the detector sees")
    group.add_argument("--fusion", choices=["image", "features"], help="way in which both inputs are joined")
    add_inference_options(group, unset="the config's")


def _add_how(group: Any) -> None:
    group.add_argument(
        "--epochs", type=int, metavar="N", help="number of epochs (default: as many as the schedule has)"
    )
    group.add_argument(
        "--train-batch-size", type=int, metavar="N", help="number of pictures of an iteration in each process"
    )
    group.add_argument("--lr", type=float, metavar="X", help="learning rate of the detector")
    group.add_argument(
        "--enhancer-lr-mult", type=float, metavar="X", help="factor of the enhancer's learning rate over the detector's"
    )
    group.add_argument("--accumulate", type=int, metavar="N", help="number of iterations for one step of the optimiser")
    group.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, default=None, help="average the weights (default: the config's)"
    )
    group.add_argument(
        "--checkpointing", action="store_true", default=None, help="recompute the enhancer's activations: less memory"
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of the training (default: the config's, or 0)")


def _add_run(group: Any) -> None:
    add_out(group, "folder of logs and checkpoints (default: work_dirs/finetune_<config name>)")
    add_resume(group)
    group.add_argument("--amp", action="store_true", help="train in mixed precision: autocast to bfloat16")
    add_cfg_options(group)
    add_launcher(group)


def run(args: argparse.Namespace) -> None:
    """Run the finetuning that the command line describes."""
    with going_on():
        with unchanged_when_refused(work_folder(args), WRITTEN):
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
    print_scores(runner)
