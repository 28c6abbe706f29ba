"""Finetune a detector and an enhancer together: ``python -m training.finetune CONFIG --enhancer psenet``."""

from __future__ import annotations

from llie_preproc.commands.program import Parser, launch, run

if __name__ == "__main__":
    launch("training.finetune")

import argparse
import math
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llie_preproc.errors import CheckpointError, require

for _module in ("mmdet", "pycocotools"):
    require(_module, "python -m training.finetune")

from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.dist import init_dist, is_distributed, is_main_process  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from llie_preproc.checkpoints import atomic_write  # noqa: E402
from llie_preproc.draws import seed_draws  # noqa: E402
from llie_preproc.ranks import LAUNCHERS  # noqa: E402
from llie_preproc.runs import join_without_gpu, read_checkpoint, saved_checkpoints  # noqa: E402
from llie_preproc.safe_loading import SafeRunner  # noqa: E402

from .finetune_config import LOSSES, PRESETS, finetuning_config  # noqa: E402
from .results import print_scores  # noqa: E402
from .split import split_checkpoint  # noqa: E402
from .train import building, going_on, last_checkpoint, train  # noqa: E402

_WRITTEN = "finetune.py"
_DESCRIPTION = """Finetune a detector behind an enhancer, the enhancer in front of a detector, or both together.

CONFIG is a plain MMDetection config (a file, or mmdet::<its own>) with --enhancer, which gets the schedule of
mm_configs/_base_/joint/schedule.py, but keeps an optimiser other than SGD; or one that has an EnhancedDetector already
(mm_configs/joint), which runs as it is, with the options over it. What runs is written to <work dir>/finetune.py
first, and runs again by itself. The parts of the last checkpoint, detector.pth and enhancer.safetensors, lie beside it
in the end."""
_EPILOG = """The learning rate is scaled to the batch (of all processes and accumulated iterations) where the config
says in auto_scale_lr which batch it is for; --lr is taken as it is. With --epochs the schedules keep their
proportions. Warm-ups counted in iterations end with the first epoch at the latest. Without --val the config's own set
is validated on; to leave that out: --cfg-options val_dataloader=None val_cfg=None val_evaluator=None. A run that is
interrupted and resumed ends with the weights of an uninterrupted one, where the device computes the same each time and
no transform remembers earlier pictures."""


class FinetuneRunner(SafeRunner):
    """A Runner that reads every checkpoint safely, and leaves writing its config to the command."""

    def dump_config(self) -> None:
        """Nothing: the command has written the config by a name that does not depend on the file it came from."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="python -m training.finetune",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="a detector's config")
    _add_what(parser.add_argument_group("what is trained"))
    _add_how(parser.add_argument_group("how"))
    _add_run(parser.add_argument_group("the run"))
    return parser.parse_args(argv)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the finetuning that the command line describes; returns its exit status."""
    return run(partial(_main, argv))


def _main(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    with going_on():
        with building():
            runner = build_runner(args)
        train(runner)
        if is_main_process():
            _report(runner)


def build_runner(args: argparse.Namespace) -> FinetuneRunner:
    """The Runner of a command line; what can be wrong before the first step is built and checked.

    Raises:
        FileNotFoundError: No such config, data or checkpoint.
        KeyError: No such enhancer, or another type that is not registered.
        ValueError: Options or a config that do not go together, a work folder of an earlier run, no data.
    """
    _check_numbers(args)
    _join(args.launcher)
    work_dir = Path(args.work_dir or Path("work_dirs") / f"finetune_{Path(args.config).stem}")
    last = last_checkpoint(work_dir, args.resume)
    cfg = finetuning_config(args)
    if cfg.get("load_from"):
        # Refused before anything is written.
        read_checkpoint(cfg.load_from)
    if is_main_process():
        with atomic_write(work_dir / _WRITTEN) as file:
            file.write(cfg.pretty_text.encode())
    _place(cfg, args, work_dir, last)
    runner = FinetuneRunner.from_cfg(cfg)
    _check_data(runner.train_loop.dataloader.dataset, "the training set")
    if runner.val_loop is not None:
        _check_data(runner.val_loop.dataloader.dataset, "the validation set")
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    # Once: it would be scaled again where training starts.
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    runner.auto_scale_lr = None
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def _check_numbers(args: argparse.Namespace) -> None:
    least = dict(epochs=1, batch_size=1, accumulate=1, map_side=1, seed=0, enhancer_lr_mult=0.0, lr=0.0)
    for name, smallest in least.items():
        value = getattr(args, name)
        if value is not None and not smallest <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {smallest}, got {value}")


def _join(launcher: str) -> None:
    if launcher == "none" or is_distributed():
        return
    if get_device() == "cpu":
        join_without_gpu(launcher)
    else:
        init_dist(launcher)


def _place(cfg: Config, args: argparse.Namespace, work_dir: Path, last: Path | None) -> None:
    """Say where a run goes, how its processes are started and what it resumes: nothing that it is written with."""
    cfg.work_dir, cfg.launcher = str(work_dir), args.launcher
    seed_draws(cfg)
    if last is not None:
        cfg.load_from, cfg.resume = str(last), True
        # Of before the samplers are built, which the seed orders.
        cfg.randomness.seed = read_checkpoint(last)["meta"]["seed"]
    if args.launcher != "none" and get_device() == "cpu":
        # MMEngine would name a CUDA device to PyTorch's wrapper.
        unused = cfg.get("find_unused_parameters", False)
        cfg.setdefault("model_wrapper_cfg", dict(type="MMDistributedDataParallel", find_unused_parameters=unused))
        cfg.model_wrapper_cfg.update(device_ids=None)
    # MMEngine keeps message hubs and visualizers by name for the whole process.
    cfg.experiment_name = f"{work_dir.name}-{uuid.uuid4().hex[:8]}"
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name


def _check_data(dataset: Any, name: str) -> None:
    if not len(dataset):
        raise ValueError(f"{name} has no picture with an annotation of its classes")
    # Sets that mix others, or hold clips, tell of no one picture.
    info = dataset.get_data_info(0) if hasattr(dataset, "get_data_info") else None
    first = str(info.get("img_path", "")) if isinstance(info, dict) else ""
    if first and "://" not in first and not getattr(dataset, "backend_args", None) and not Path(first).is_file():
        raise FileNotFoundError(f"{name}: no picture {first}")


def _report(runner: Runner) -> None:
    """Split the last checkpoint, and print what was written and measured."""
    last = saved_checkpoints(runner.work_dir)[-1]
    print(last)
    try:
        print(*split_checkpoint(last, runner.work_dir, overwrite=True), sep="\n")
    except CheckpointError as error:
        print(f"not split: {error}")
    print_scores(runner)
