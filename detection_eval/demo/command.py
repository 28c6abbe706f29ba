"""``llie demo``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="enhance photographs, look for faces and train a small detector; write one report",
        description="Runs offline, in minutes on two CPU cores, and writes report.html, results.json and "
        "before_after.jpg. Needs the extra 'demo'.",
    )
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
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..networks import check_device
    from .run import DemoOptions, run_demo

    check_device(args.device)
    options = DemoOptions(args.out, args.enhancer, args.checkpoint, args.device, args.real, args.seed)
    print(f"report: {run_demo(options)}")
    return 0
