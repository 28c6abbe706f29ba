"""Turn a checkpoint into safetensors.

Public weights or a training checkpoint become a safetensors file of the enhancer alone.
"""

from __future__ import annotations

import argparse

from ..checkpoints import load_checkpoint, save_state_dict
from ..checks import printable
from .enhancer_arguments import named_enhancer
from .written_file import free_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("src", metavar="SRC", help="a checkpoint: a file, or a URL that ends in '#sha256=...'")
    parser.add_argument("dst", metavar="DST", help="the file to write, ending in .safetensors")
    parser.add_argument("--enhancer", required=True, help="whose weights SRC holds, for example PSENet")
    parser.add_argument("--overwrite", action="store_true", help="replace DST where it exists")


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint that the command line names."""
    target = free_target(args, args.src, ".safetensors")
    enhancer = named_enhancer(args.enhancer, None)
    report = load_checkpoint(enhancer, args.src)
    digest = save_state_dict(enhancer.state_dict(), target, {"enhancer": type(enhancer).__name__})
    print(f"{report}; wrote {printable(str(target))}, sha256 {digest}")
    return 0
