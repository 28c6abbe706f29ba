"""Enhance photographs, find faces and train a small detector, in one report.

It runs offline, in minutes on two CPU cores, and writes report.html, results.json and before_after.jpg. It needs the
extra 'demo'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llie_preproc.errors import needs

with needs("llie demo", "demo"):
    from ..demo.run import DemoOptions, run_demo
    from ..networks import check_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder to write into (%(default)s)")
    parser.add_argument("--enhancer", default="PSENet", help="a registered enhancer that keeps the size (%(default)s)")
    parser.add_argument(
        "--checkpoint", default="default", help="its weights: 'default' (those shipped), a name, a path or a URL"
    )
    parser.add_argument("--device", default="cpu", help="where enhancer and face detector run (%(default)s)")
    parser.add_argument(
        "--real",
        type=Path,
        metavar="DATA_DIR",
        help="use the real night photographs and crowds below this folder; no detector is trained then",
    )
    parser.add_argument("--seed", type=int, default=0, help="of noise, scenes and training (%(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the demo, and say where its report is."""
    check_device(args.device)
    options = DemoOptions(args.out, args.enhancer, args.checkpoint, args.device, args.real, args.seed)
    print(f"report: {run_demo(options)}")
