"""Write an enhancer as an ONNX graph.

The graph takes pictures of any size that the enhancer takes, or of the one size that is given. It is written once ONNX
Runtime has computed the same with it as PyTorch.
"""

from __future__ import annotations

import argparse

from ..checks import printable
from ..enhancers.build import DEFAULT_WEIGHTS
from ..enhancers.names import enhancer_config
from ..export import check_exportable, export_onnx
from .arguments import add_enhancer, add_out, named_enhancer, positive, trained_enhancer
from .written_file import free_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_enhancer(parser, None, required=True)
    add_out(parser, "file to write, ending in .onnx", "FILE", required=True)
    parser.add_argument(
        "--height", type=positive, help="height of the pictures, if the graph is to take one size alone (with --width)"
    )
    parser.add_argument(
        "--width", type=positive, help="width of the pictures, if the graph is to take one size alone (with --height)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out where it exists")


def run(args: argparse.Namespace) -> int:
    """Export the enhancer that the command line names."""
    if (args.height is None) != (args.width is None):
        raise ValueError("--height and --width go together")
    config = enhancer_config(args.enhancer)
    target = free_target(args, str(config.pop("checkpoint", DEFAULT_WEIGHTS)), ".onnx")
    size = (args.height, args.width) if args.height else None
    # Before asking for weights of a network that cannot be exported anyway.
    check_exportable(named_enhancer(config, None))
    export_onnx(trained_enhancer(args), target, size=size)
    sizes = f"{size[0]}x{size[1]}" if size else "any size"
    print(f"wrote {printable(str(target))}, which takes {sizes}; ONNX Runtime agrees")
    return 0
