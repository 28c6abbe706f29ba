"""Write an enhancer as an ONNX graph.

The graph accepts pictures of any size that the enhancer accepts, or only of the size that is given. It is written only
if ONNX Runtime computes the same results with it as PyTorch.
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
    """Add the arguments of the command."""
    add_enhancer(parser, None, required=True)
    add_out(parser, "file to write, ending in .onnx", "FILE", required=True)
    parser.add_argument(
        "--height", type=positive, help="height of the pictures, for a graph of only one size (with --width)"
    )
    parser.add_argument(
        "--width", type=positive, help="width of the pictures, for a graph of only one size (with --height)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")


def run(args: argparse.Namespace) -> int:
    """Export the enhancer that the command line names."""
    if (args.height is None) != (args.width is None):
        raise ValueError("--height and --width must be given together")
    config = enhancer_config(args.enhancer)
    target = free_target(args, str(config.pop("checkpoint", DEFAULT_WEIGHTS)), ".onnx")
    size = (args.height, args.width) if args.height else None
    # This check comes before the weights are loaded, so that a network that cannot be exported is refused for that
    # reason.
    check_exportable(named_enhancer(config, None))
    export_onnx(trained_enhancer(args), target, size=size)
    sizes = f"{size[0]}x{size[1]}" if size else "any size"
    print(f"wrote {printable(str(target))}, which accepts {sizes}; the results of ONNX Runtime agree with PyTorch's")
    return 0
