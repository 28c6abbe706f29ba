"""Train an enhancer.

CONFIG is one of mm_configs/enhancers or one of your own. Logs, checkpoints and what the run exports go to its work
folder.
"""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

from llie_preproc.ranks import LAUNCHERS

from ..runner import build_runner, building, going_on, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("config", help="a config file, for example mm_configs/enhancers/psenet_sice.py")
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<config name>)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    parser.add_argument("--amp", action="store_true", help="mixed precision: autocast to bfloat16")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="KEY=VALUE over the config")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none")


def run(args: argparse.Namespace) -> None:
    """Run the training that the command line describes."""
    with going_on():
        with building():
            runner = build_runner(args)
        train(runner)
