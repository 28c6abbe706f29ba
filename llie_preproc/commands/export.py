"""Write an enhancer as an ONNX graph.

The graph takes any size that the enhancer does, or only the one given. It is written after ONNX Runtime computed the
same with it as PyTorch.
"""

from __future__ import annotations

import argparse

from ..checks import printable
from ..enhancers.build import DEFAULT_WEIGHTS
from ..export import check_exportable, export_onnx
from .arguments import positive
from .enhancer_arguments import named_enhancer, trained_enhancer
from .written_file import free_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("dst", metavar="DST", help="the file to write, ending in .onnx")
    parser.add_argument("--enhancer", required=True, help="a name that 'llie list' shows")
    parser.add_argument(
        "--checkpoint", default=DEFAULT_WEIGHTS, help="shipped weights, a file, or a URL that ends in '#sha256=...'"
    )
    parser.add_argument("--height", type=positive, help="the only height that the graph takes (with --width)")
    parser.add_argument("--width", type=positive, help="the only width that the graph takes (with --height)")
    parser.add_argument("--overwrite", action="store_true", help="replace DST where it exists")


def run(args: argparse.Namespace) -> int:
    """Export the enhancer that the command line names."""
    if (args.height is None) != (args.width is None):
        raise ValueError("--height and --width go together")
    target = free_target(args, args.checkpoint, ".onnx")
    size = (args.height, args.width) if args.height else None
    # Before asking for weights of a network that cannot be exported anyway.
    check_exportable(named_enhancer(args.enhancer, None))
    export_onnx(trained_enhancer(args), target, size=size)
    sizes = f"{size[0]}x{size[1]}" if size else "any size"
    print(f"wrote {printable(str(target))}, which takes {sizes}; ONNX Runtime agrees")
    return 0
