"""Train an enhancer: ``python -m training.train CONFIG``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from .hooks import saved_checkpoints


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("config", help="a config file, for example mm_configs/enhancers/psenet_sice.py")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<config name>)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="KEY=VALUE over the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the training that the command line describes."""
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    if args.resume and (saved := saved_checkpoints(cfg.work_dir)):
        cfg.load_from, cfg.resume = str(saved[-1]), True
    cfg.launcher = args.launcher
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    Runner.from_cfg(cfg).train()


if __name__ == "__main__":
    main()
