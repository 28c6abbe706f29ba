"""Flags that several commands share: one word for one thing, with one meaning and one check."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..enhancers import Enhancer
from ..enhancers.build import build_enhancer
from ..errors import needs, weights_named_by
from ..inference_options import InferenceOptions
from ..ranks import LAUNCHERS

ENHANCER = (
    "name that 'llie list' shows, in any spelling, or config file with an 'enhancer'; followed by @WEIGHTS (shipped "
    "ones, a file, or a URL that ends in '#sha256=...') for others than the default ones"
)


def positive(text: str) -> int:
    """A whole number of at least 1, for ``type`` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def add_enhancer(parser: Any, default: str | None = "psenet", **options: Any) -> None:
    """Add ``--enhancer NAME[@WEIGHTS]``.

    Args:
        parser: Parser, or group of one.
        default: Enhancer that is taken unless one is given; None: there is none.
        **options: Arguments of ``add_argument``.
    """
    shown = f" (default: {default})" if default else ""
    parser.add_argument("--enhancer", metavar="NAME[@WEIGHTS]", default=default, help=ENHANCER + shown, **options)


def trained_enhancer(args: argparse.Namespace) -> Enhancer:
    """The network of ``--enhancer``; never with random weights."""
    with weights_named_by("--enhancer NAME@WEIGHTS"):
        return build_enhancer(args.enhancer)


def add_inference_options(parser: Any, without: Collection[str] = (), unset: str = "") -> None:
    """Add a flag for each of the options of how a network is run.

    Args:
        parser: Parser, or group of one.
        without: Names of options that the command does not take.
        unset: Words for what an option is that the command line does not give, and that its arguments do not have then;
            empty: its default.
    """
    for option in fields(InferenceOptions):
        described = dict(option.metadata)
        if not described.pop("flag", True) or option.name in without:
            continue
        if not {"choices", "type"} & set(described):
            described |= dict(type=positive, metavar="N")
        if unset:
            described["help"] = described["help"].replace("%(default)s", unset)
        default = argparse.SUPPRESS if unset else option.default
        parser.add_argument(_flag(option.name), default=default, **described)


def inference_options(args: argparse.Namespace, **others: Any) -> InferenceOptions:
    """The options that a command line gives.

    Args:
        args: Command line, of a parser with :func:`add_inference_options`.
        **others: Values of options that the command line does not have.

    Raises:
        ValueError: Options that do not go together.
    """
    given = {each.name: getattr(args, each.name) for each in fields(InferenceOptions) if hasattr(args, each.name)}
    return InferenceOptions(**{**given, **others})


def add_device(parser: Any, what: str = "the networks run") -> None:
    """Add ``--device``.

    Args:
        parser: Parser, or group of one.
        what: Words for what runs there.
    """
    parser.add_argument(
        "--device", help=f"device where {what}, for example cpu or cuda:1 (default: cuda where there is one)"
    )


def device_of(args: argparse.Namespace) -> str:
    """The device of a command line, which is there.

    Raises:
        ValueError: There is no such device.
    """
    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return name


def add_out(parser: Any, what: str, metavar: str = "DIR", **options: Any) -> None:
    """Add ``--out``, a path.

    Args:
        parser: Parser, or group of one.
        what: Words for what is written there.
        metavar: Word for the path, ``DIR`` or a file name.
        **options: Arguments of ``add_argument``, such as ``required``.
    """
    parser.add_argument("--out", type=Path, metavar=metavar, help=what, **options)


def add_resume(parser: Any) -> None:
    """Add ``--resume``, which means the same in every command that has it."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what an earlier run of the same command has finished in --out, and do the rest",
    )


def add_launcher(parser: Any) -> None:
    """Add ``--launcher``.

    Args:
        parser: Parser, or group of one.
    """
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="program that started the processes, if several"
    )


def add_cfg_options(parser: Any) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, a dict.

    Args:
        parser: Parser, or group of one.

    Raises:
        MissingExtraError: MMEngine, which reads them, is not installed.
    """
    with needs("--cfg-options"):
        from mmengine.config import DictAction
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="keys and values over the config",
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
