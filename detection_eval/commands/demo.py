"""Enhance photographs, find faces and train a small detector, in one report.

The demo runs offline, in minutes on two CPU cores, and writes report.html, results.json and before_after.jpg. Each run
starts again and replaces the results of an earlier run. The demo needs the extra 'demo'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llie_preproc.commands.arguments import (
    add_device,
    add_enhancer,
    add_inference_options,
    add_out,
    device_of,
    inference_options,
)
from llie_preproc.errors import Extras

NEEDS = Extras("demo")
with NEEDS:
    from ..demo.run_demo import DemoOptions, run_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_out(parser, "folder to write into (default: %(default)s)", default=Path("demo_output"))
    add_enhancer(parser)
    add_inference_options(parser)
    add_device(parser, "enhancer and face detector run")
    parser.add_argument(
        "--real",
        type=Path,
        metavar="DATA_DIR",
        help="folder of real photographs of nights and crowds, used in place of the demo's own; no detector is trained",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of noise, scenes and training (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Run the demo, and say where its report is."""
    options = DemoOptions(
        args.out, args.enhancer, device_of(args), args.real, args.seed, options=inference_options(args)
    )
    print(f"report: {run_demo(options)}")
