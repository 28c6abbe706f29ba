"""Flags that several commands share: one word for one thing, with one meaning and one check."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..enhancers import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from ..errors import weights_named_by
from ..inference_options import InferenceOptions
from ..work_sharing import LAUNCHERS

ENHANCER = (
    "a name that 'llie list' shows, in any spelling, or a config file that has an enhancer; @WEIGHTS behind it takes "
    "other weights than the default ones: the name of shipped ones, a file, or a URL that ends in '#sha256=...'"
)


class Once(argparse.Action):
    """Stores an option that may be given once: of two, argparse would drop the first without a word."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Store the values."""
        given = f"_{self.dest}_was_given"
        if hasattr(namespace, given):
            parser.error(f"{option} is given twice")
        setattr(namespace, given, True)
        setattr(namespace, self.dest, values)


def path(text: str) -> Path:
    """A path, for ``type`` of an argument; an empty one, as of a shell's variable that is not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


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
    parser.add_argument(
        "--enhancer",
        metavar="NAME[@WEIGHTS]",
        action=Once,
        default=default,
        help=f"enhancer: {ENHANCER}{shown}",
        **options,
    )


def trained_enhancer(args: argparse.Namespace) -> Enhancer:
    """The network of ``--enhancer``; never with random weights."""
    return named_enhancer(args.enhancer)


def named_enhancer(given: str | Mapping[str, Any], checkpoint: str | None = DEFAULT_WEIGHTS) -> Enhancer:
    """Build what a command line names.

    Args:
        given: Name, config file or config.
        checkpoint: Weights, as for :func:`llie_preproc.build_enhancer`.

    Raises:
        ValueError: The network does not take its config; and as :func:`llie_preproc.build_enhancer`.
    """
    with weights_named_by("--enhancer NAME@WEIGHTS"):
        try:
            return build_enhancer(given, checkpoint)
        except TypeError as error:
            raise ValueError(f"--enhancer: {error}") from error


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
    parser.add_argument("--out", type=path, metavar=metavar, help=what, **options)


def add_coco_set(parser: Any, flag: str, purpose: str) -> None:
    """Add a flag for a data set in COCO's format.

    Args:
        parser: Parser, or group of one.
        flag: Flag, such as ``--train``.
        purpose: Words for what is done with the set.
    """
    parser.add_argument(
        flag,
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help=f"COCO file and folder of pictures to {purpose} (default: the config's)",
    )


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
        "--launcher",
        choices=LAUNCHERS,
        default="none",
        help="program that started the processes, where several share the work (default: one process)",
    )


def add_cfg_options(parser: Any) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, a dict.

    Args:
        parser: Parser, or group of one.
    """
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_keys_and_values(),
        default={},
        metavar="KEY=VALUE",
        help="values that replace those of the config, such as train_dataloader.batch_size=4",
    )


def _keys_and_values() -> Any:
    """The action of an argument that reads ``KEY=VALUE ...`` as MMEngine does."""
    try:
        from mmengine.config import DictAction
    except ModuleNotFoundError:
        # A command that has the argument does not run without MMEngine, but shows its help.
        return "store"

    class KeysAndValues(DictAction):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
            if odd := [each for each in values if "=" not in each]:
                raise ValueError(f"{option}: expected KEY=VALUE, got {odd[0]!r}")
            super().__call__(parser, namespace, values, option)

    return KeysAndValues


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
