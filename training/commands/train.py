"""Train an enhancer.

CONFIG is a file of mm_configs/enhancers or your own. Logs, checkpoints and the trained enhancer are written to --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llie_preproc.commands.arguments import add_cfg_options, add_launcher, add_out, add_resume
from llie_preproc.errors import Extras

NEEDS = Extras("train")
with NEEDS:
    from llie_preproc.config_files import naming_missing_files

    from ..printed_results import print_results
    from ..runner import build_runner, building, going_on, train, training_config
    from ..work_folder import unchanged_when_refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", metavar="CONFIG", help="config file, such as mm_configs/enhancers/psenet_sice.py")
    add_out(parser, "folder for logs and checkpoints (default: that of the config, or work_dirs/<config name>)")
    add_resume(parser)
    parser.add_argument("--amp", action="store_true", help="train in mixed precision: autocast to bfloat16")
    add_cfg_options(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    """Run the training that the command line describes."""
    with going_on():
        with building():
            cfg = training_config(args)
        with unchanged_when_refused(Path(cfg.work_dir)):
            with building(), naming_missing_files(cfg):
                runner = build_runner(cfg, args)
            train(runner)
        print_results(runner)
