"""Finetune a detector, an enhancer, or both together.

--detector names a config of one of two kinds. A plain config of MMDetection gets the enhancer of --enhancer and the
schedule of mm_configs/_base_/joint/schedule.py (an optimiser other than SGD is kept). A config that already has an
EnhancedDetector, such as those in mm_configs/joint, runs unchanged except for the given options.

The whole config is written to finetune.py in --out after the first step, and can be run again by itself. At the end,
the two parts of the last checkpoint, detector.pth and enhancer.safetensors, are written beside it.

If the config has auto_scale_lr, its learning rate is scaled to the batch of all processes and accumulated iterations;
--lr is not scaled. With --epochs, the schedules keep their proportions, and a warm-up in iterations ends with the first
epoch at the latest. Without --val, the run validates on the config's own set; --cfg-options val_dataloader=None
val_cfg=None val_evaluator=None disables validation. A run that is interrupted and resumed ends with the same weights as
an uninterrupted one, provided that the device always computes the same results and no transform remembers earlier
pictures.
"""

from __future__ import annotations

import argparse
from typing import Any

from llie_preproc.commands.arguments import (
    add_cfg_options,
    add_coco_set,
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

    from llie_preproc.mm.runner_parts import saved_checkpoints

    from ..checkpoint_parts import split_checkpoint
    from ..finetune_runner import build_runner, work_folder
    from ..printed_results import print_scores
    from ..runner import building, going_on, train
    from ..work_folder import unchanged_when_refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    _add_what(parser.add_argument_group("what is trained"))
    _add_how(parser.add_argument_group("how"))
    _add_run(parser.add_argument_group("the run"))


def _add_what(group: Any) -> None:
    group.add_argument(
        "--detector",
        required=True,
        metavar="CONFIG",
        help="config of the detector, plain or with an EnhancedDetector: a file, or mmdet::PATH of MMDetection",
    )
    group.add_argument(
        "--detector-checkpoint",
        metavar="FILE",
        help="weights of the plain detector: a file, or a URL that ends in '#sha256=...'",
    )
    add_enhancer(group, None)
    add_coco_set(group, "--train", "train on")
    add_coco_set(group, "--val", "validate on")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="parts that are trained: the detector alone (frozen), both (joint), first the detector and then both "
        "(staged), or the enhancer alone (enhancer-only) (default: joint, or what the config's EnhancedDetector says)",
    )
    group.add_argument(
        "--losses",
        nargs="+",
        default=[],
        metavar="NAME[=WEIGHT]",
        help=f"auxiliary losses of the enhancer: {', '.join(LOSSES)}",
    )
    group.add_argument(
        "--pairs",
        metavar="DIR",
        help="folder of the same pictures in normal light, with the same names, for a paired loss",
    )
    group.add_argument(
        "--detector-input",
        choices=["raw", "enhanced", "both"],
        help="pictures that the detector sees (default: the config's, or enhanced)",
    )
    group.add_argument(
        "--fusion",
        choices=["image", "features"],
        help="place where the inputs of --detector-input both are joined (default: the config's, or image)",
    )
    add_inference_options(group, unset="the config's")


def _add_how(group: Any) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="number of epochs (default: that of the schedule)")
    group.add_argument(
        "--train-batch-size",
        type=int,
        metavar="N",
        help="number of pictures in an iteration of each process (default: the config's number)",
    )
    group.add_argument("--lr", type=float, metavar="X", help="learning rate of the detector (default: the config's)")
    group.add_argument(
        "--enhancer-lr-mult",
        type=float,
        metavar="X",
        help="learning rate of the enhancer, as a multiple of the detector's",
    )
    group.add_argument("--accumulate", type=int, metavar="N", help="number of iterations for one step of the optimiser")
    group.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also keep a moving average of the weights (default: as in the config)",
    )
    group.add_argument(
        "--checkpointing",
        action="store_true",
        default=None,
        help="recompute the enhancer's activations in the backward pass to save memory",
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of the training (default: the config's, or 0)")


def _add_run(group: Any) -> None:
    add_out(group, "folder for logs and checkpoints (default: work_dirs/finetune_<config name>)")
    add_resume(group)
    group.add_argument("--amp", action="store_true", help="train in mixed precision: autocast to bfloat16")
    add_cfg_options(group)
    add_launcher(group)


def run(args: argparse.Namespace) -> None:
    """Run the finetuning that the command line describes."""
    with going_on():
        with unchanged_when_refused(work_folder(args)):
            with building():
                runner = build_runner(args)
            train(runner)
        if is_main_process():
            _report(runner)


def _report(runner: Runner) -> None:
    """Split the last checkpoint, and print the written files and the scores."""
    last = saved_checkpoints(runner.work_dir)[-1]
    print(last)
    try:
        print(*split_checkpoint(last, runner.work_dir, overwrite=True), sep="\n")
    except CheckpointError as error:
        print(f"not split: {error}")
    print_scores(runner)
