"""The enhancer that a command line names."""

from __future__ import annotations

import argparse

import torch

from ..enhancers import Enhancer
from ..enhancers.build import build_enhancer
from ..errors import weights_named_by


def trained_enhancer(args: argparse.Namespace) -> Enhancer:
    """The enhancer that the options name; never with random weights."""
    with weights_named_by("--checkpoint"):
        return named_enhancer(args.enhancer, args.checkpoint)


def to_device(enhancer: Enhancer, name: str | None) -> Enhancer:
    """Move an enhancer to the device of ``--device``; None: to the GPU, where there is one."""
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return enhancer.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from error


def named_enhancer(name: str, checkpoint: str | None) -> Enhancer:
    """The enhancer of ``--enhancer``; a name that there is not is a wrong value."""
    try:
        return build_enhancer(name, checkpoint)
    except KeyError as error:
        raise ValueError(error.args[0]) from error
