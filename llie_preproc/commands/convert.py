"""Turn a checkpoint into safetensors.

Public weights or a training checkpoint become a safetensors file that holds only the enhancer.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from ..checkpoints import load_checkpoint, save_state_dict
from ..checks import printable
from ..enhancers.names import enhancer_class, enhancer_config
from ..stored_arguments import describe
from .arguments import add_out, named_enhancer
from .written_file import free_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("src", metavar="SRC", help="checkpoint: a file, or a URL that ends in '#sha256=...'")
    add_out(parser, "file to write, ending in .safetensors", "FILE", required=True)
    parser.add_argument(
        "--enhancer", required=True, metavar="NAME", help="name or config file of the network whose weights SRC holds"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    parser.add_argument(
        "--half", action="store_true", help="store the weights in half precision (float16); they load as float32"
    )


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint that the command line names."""
    target = free_target(args, args.src, ".safetensors")
    config = enhancer_config(args.enhancer)
    if config.get("checkpoint"):
        raise ValueError(f"--enhancer must not name weights, because SRC has them, got {config['checkpoint']!r}")
    name = enhancer_class(config["type"])[0]
    # This checks the arguments that SRC holds before a network is built from them.
    enhancer = named_enhancer(config, args.src)
    report = load_checkpoint(enhancer, args.src)
    state = enhancer.state_dict()
    if args.half:
        state = {name: _halved(name, tensor) for name, tensor in state.items()}
    digest = save_state_dict(state, target, describe(name, enhancer.arguments))
    print(f"{report}; wrote {printable(str(target))}, sha256 {digest}")
    return 0


def _halved(name: str, tensor: Tensor) -> Tensor:
    """The tensor in float16, if its numbers are floats.

    Raises:
        ValueError: A number is beyond the range of float16.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise ValueError(f"--half: {name} has a number beyond {torch.finfo(torch.float16).max:g}, the range of float16")
    return half
