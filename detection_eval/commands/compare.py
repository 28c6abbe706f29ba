"""AP of a detector behind enhancers: raw, zero-shot, retrained and joint.

Train and test the detector with equal budgets in each mode: raw (trained and tested on raw pictures), zero-shot
(trained on raw pictures, tested on enhanced ones), retrained (trained and tested on enhanced pictures), and joint
(trained together with its enhancer). A cell is one mode of one enhancer with one seed. --resume keeps the finished
cells of an earlier run and does the others, after an interruption or with more enhancers, modes or seeds. --exposures
or --gammas test each cell at several lights. The command prints the table; 'llie report DIR' makes a page from it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from pathlib import Path

import torch

from llie_preproc.checkpoints import local_file
from llie_preproc.class_mapping_files import read_mapping
from llie_preproc.commands.arguments import (
    add_cfg_options,
    add_classes,
    add_coco_set,
    add_device,
    add_inference_options,
    add_launcher,
    add_out,
    add_resume,
    device_of,
    inference_options,
)
from llie_preproc.commands.program import FAILED, resumable, say_failed
from llie_preproc.errors import Extras
from llie_preproc.work_sharing import Ranks, join_ranks

from ..compare.comparison_store import BATCHES, CELLS, MODES, RAW, ZERO_SHOT
from ..shared.enhancers import NONE, add_enhancers, enhancer_specs
from ..shared.score_flags import add_bootstrap, add_metrics
from ..shared.score_table import GOES_ON
from .lights import add_lights, light_axis

NEEDS = Extras("compare")
with NEEDS:
    from mmengine.config import Config

    from llie_preproc.config_files import naming_missing_files
    from llie_preproc.detection.coco_sets import (
        CocoSet,
        checkpoint_classes,
        read_config,
        require_training_set,
        set_classes,
        starting_classes,
        use_sets,
    )
    from llie_preproc.mm.runner_parts import join_processes, read_checkpoint

    from ..compare.plan import Request
    from ..compare.run_cells import compare

_PATIENCE = 7200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--detector",
        required=True,
        metavar="CONFIG",
        help="config of the detector, without an enhancer: a file, or mmdet::PATH of MMDetection",
    )
    parser.add_argument(
        "--detector-checkpoint",
        metavar="FILE",
        help="weights of a trained detector, which is only tested, in the modes raw and zero-shot",
    )
    add_enhancers(parser, required=True)
    add_inference_options(parser)
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=MODES,
        help="modes (default: raw zero-shot, or raw if --enhancer is none)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="number of trainings in each mode, with the seeds 0 to N - 1 (default: %(default)s)",
    )
    add_coco_set(parser, "--train", "train on")
    add_coco_set(parser, "--test", "test on")
    add_classes(parser)
    add_lights(parser)
    add_out(parser, "folder to write into (default: work_dirs/compare_<config name>)")
    add_resume(parser)
    add_metrics(parser)
    add_bootstrap(parser)
    parser.add_argument(
        "--enhancer-lr-mult",
        type=float,
        default=0.1,
        metavar="F",
        help="learning rate of the enhancer in mode joint, as a multiple of the detector's (default: %(default)s)",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    add_device(parser, "pictures are enhanced before a training begins")
    add_launcher(parser)
    parser.add_argument(
        "--share",
        choices=[CELLS, BATCHES],
        default=CELLS,
        help="work that the processes of --launcher share: the cells (default; results are those of one process), or "
        "the batches of each cell (the batches of its training are then larger)",
    )
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the comparison that the command line describes; returns the exit status."""
    _check(args)
    with resumable(GOES_ON), join_ranks(args.launcher) as ranks:
        if args.share == BATCHES:
            # join_ranks has set the variables that MMEngine's processes join by.
            join_processes("pytorch" if ranks.size > 1 else "none", timeout=_PATIENCE)
        request = _request(args, ranks)
        # Files of --train and --test are named as the user gave them, not by the keys that they have in the config.
        with contextlib.nullcontext() if args.test else naming_missing_files(request.plain):
            comparison, failed = compare(request)
        if ranks.main:
            print((comparison.folder / "table.md").read_text(), flush=True)
            if failed:
                say_failed(f"{len(failed)} cells failed", failed)
    return FAILED if failed else 0


def _request(args: argparse.Namespace, ranks: Ranks) -> Request:
    device, options, plain = device_of(args), inference_options(args), _plain(args)
    axis, lights = light_axis(args)
    if plain.get("load_from"):
        # A missing file, or a URL without its digest, is refused here rather than in every cell.
        local_file(plain.load_from)
    return Request(
        config=args.detector,
        plain=plain,
        specs=enhancer_specs(args.enhancer, options),
        modes=args.modes,
        seeds=range(args.seeds),
        folder=(args.out or Path("work_dirs") / f"compare_{Path(args.detector).stem}").expanduser().absolute(),
        options=options,
        resume=args.resume,
        detector=local_file(args.detector_checkpoint) if args.detector_checkpoint else None,
        metrics=args.metrics,
        resamples=args.resamples,
        bootstrap_seed=args.bootstrap_seed,
        enhancer_lr_mult=args.enhancer_lr_mult,
        amp=args.amp,
        device=device,
        ranks=ranks,
        share=args.share,
        axis=axis,
        lights=lights,
        photographs=args.photographs.expanduser().absolute() if args.photographs else None,
    )


def _plain(args: argparse.Namespace) -> Config:
    """Put the sets of the command line into the config; their classes are matched with the detector's by name."""
    cfg, train, test = read_config(args.detector, args.cfg_options), CocoSet.given(args.train), CocoSet.given(args.test)
    mapping = read_mapping(args.classes)
    if not args.detector_checkpoint:
        # Without --test, the message about any missing file names the key of the config that leads to it.
        if test and not train:
            require_training_set(cfg)
        return use_sets(cfg, train, test, starting_classes(cfg, train), mapping=mapping)
    # Nothing is trained. If the checkpoint does not name its classes, they are those of the training set.
    classes = checkpoint_classes(read_checkpoint(args.detector_checkpoint))
    return use_sets(cfg, None, test, classes or (set_classes(train) if train else None), trains=False, mapping=mapping)


def _check(args: argparse.Namespace) -> None:
    if args.modes is None:
        args.modes = [RAW] if set(args.enhancer) == {NONE} else [RAW, ZERO_SHOT]
    if args.seeds < 1 or args.resamples < 2:
        raise ValueError(
            f"--seeds must be at least 1 and --resamples at least 2, got {args.seeds} and {args.resamples}"
        )
    if args.bootstrap_seed < 0 or not 0 <= args.enhancer_lr_mult < math.inf:
        raise ValueError(
            f"--bootstrap-seed and --enhancer-lr-mult must be at least 0, got {args.bootstrap_seed} and "
            f"{args.enhancer_lr_mult}"
        )
    if args.detector_checkpoint and (trained := sorted(set(args.modes) - {RAW, ZERO_SHOT})):
        raise ValueError(
            f"--detector-checkpoint has been trained with a budget of its own, so that {', '.join(trained)} cannot be "
            "compared with it. To start every training from it, use --cfg-options load_from=FILE instead"
        )
    if args.detector_checkpoint and args.seeds != 1:
        raise ValueError(f"--detector-checkpoint is not trained here: --seeds must be 1, got {args.seeds}")
    if set(args.enhancer) == {NONE} and set(args.modes) != {RAW}:
        raise ValueError(f"--modes {' '.join(args.modes)}: --enhancer must name an enhancer, got only 'none'")
    if args.amp and not torch.cuda.is_available():
        raise ValueError("--amp needs a CUDA device, the only one that MMEngine's mixed precision supports")
    if args.train and not args.test:
        raise ValueError("--train needs --test, a test set with the same classes")
    axis, lights = light_axis(args)
    if axis and not args.detector_checkpoint and axis.as_is not in lights:
        raise ValueError(
            f"--{axis.kind} must have {axis.as_is:g}, the pictures as they are, on which the detectors are trained"
        )
