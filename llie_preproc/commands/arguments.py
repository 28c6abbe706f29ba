"""Flags that several commands share, so that each has one name, one meaning and one check everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..class_mapping_files import shipped_mappings
from ..enhancers import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from ..errors import weights_named_by
from ..inference_options import InferenceOptions
from ..work_sharing import LAUNCHERS

ENHANCER = (
    "a name that 'llie list' shows, in any spelling, or a config file that has an enhancer; @WEIGHTS after it replaces "
    "the default weights by others: the name of shipped weights, a file, or a URL that ends in '#sha256=...'"
)


class Once(argparse.Action):
    """Action that refuses an option if it is given twice; argparse alone would silently keep the last value.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--enhancer", action=Once)
        >>> parser.parse_args(["--enhancer", "psenet"]).enhancer
        'psenet'
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Store the value, or end with an error if the option has one already."""
        given = f"_{self.dest}_was_given"
        if hasattr(namespace, given):
            parser.error(f"{option} is given twice")
        setattr(namespace, given, True)
        setattr(namespace, self.dest, values)


class OnceEach(Once):
    """Action for an option with several values, which refuses a second option and a value that stands twice.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--metrics", nargs="+", action=OnceEach)
        >>> parser.parse_args(["--metrics", "coco", "visdrone"]).metrics
        ['coco', 'visdrone']
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Store the values, or end with an error."""
        if twice := [value for value in values if values.count(value) > 1]:
            parser.error(f"{option} has {twice[0]!r} twice")
        super().__call__(parser, namespace, values, option)


def path(text: str) -> Path:
    """Convert an argument to a path. An empty text, as from an unset shell variable, is refused.

    Examples:
        >>> path("results").name
        'results'
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def positive(text: str) -> int:
    """Convert an argument to a whole number of at least 1.

    Examples:
        >>> positive("12")
        12
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Convert one of an argument's numbers.

    Examples:
        >>> number("-0.5")
        -0.5
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with spaces between them, got {text!r}") from None


def add_enhancer(parser: Any, default: str | None = "psenet", **options: Any) -> None:
    """Add ``--enhancer NAME[@WEIGHTS]``.

    Args:
        parser: Parser, or a group of its arguments.
        default: Enhancer that is used if the command line names none; None for no default.
        **options: Arguments of ``add_argument``.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> add_enhancer(parser)
        >>> parser.parse_args([]).enhancer
        'psenet'
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
    """Build the network of ``--enhancer``, which never has random weights."""
    return named_enhancer(args.enhancer)


def named_enhancer(given: str | Mapping[str, Any], checkpoint: str | None = DEFAULT_WEIGHTS) -> Enhancer:
    """Build the enhancer that a command line names.

    Args:
        given: Name, config file or config of the enhancer.
        checkpoint: Weights, as for :func:`llie_preproc.build_enhancer`.

    Raises:
        ValueError: The network refuses its config. Errors of :func:`llie_preproc.build_enhancer` pass through.

    Examples:
        >>> type(named_enhancer("clahe")).__name__
        'CLAHE'
    """
    with weights_named_by("--enhancer NAME@WEIGHTS"):
        try:
            return build_enhancer(given, checkpoint)
        except TypeError as error:
            raise ValueError(f"--enhancer: {error}") from error


def add_inference_options(parser: Any, without: Collection[str] = (), unset: str = "") -> None:
    """Add the flags of the fields of :class:`~llie_preproc.InferenceOptions`.

    Args:
        parser: Parser, or a group of its arguments.
        without: Names of options that the command does not have.
        unset: Words that replace the default in the help. Options that are not given are then absent from the parsed
            arguments. If empty, such options have their usual defaults.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> add_inference_options(parser)
        >>> inference_options(parser.parse_args(["--tile", "512"])).tile
        512
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
    """The options of a command line.

    Args:
        args: Arguments of a parser with :func:`add_inference_options`.
        **others: Values of options that the command does not have.

    Raises:
        ValueError: The options do not fit together.
    """
    given = {each.name: getattr(args, each.name) for each in fields(InferenceOptions) if hasattr(args, each.name)}
    return InferenceOptions(**{**given, **others})


def add_device(parser: Any, what: str = "the networks run") -> None:
    """Add ``--device``.

    Args:
        parser: Parser, or a group of its arguments.
        what: Words that say what runs on the device.
    """
    parser.add_argument(
        "--device", help=f"device where {what}, for example cpu or cuda:1 (default: cuda if there is one, else cpu)"
    )


def device_of(args: argparse.Namespace) -> str:
    """The device of a command line, after a check that it can be used.

    Raises:
        ValueError: There is no such device.

    Examples:
        >>> device_of(argparse.Namespace(device="cpu"))
        'cpu'
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
        parser: Parser, or a group of its arguments.
        what: Words that say what is written to the path.
        metavar: Word that stands for the path, such as ``DIR`` or ``FILE``.
        **options: Arguments of ``add_argument``, such as ``required``.
    """
    parser.add_argument("--out", type=path, metavar=metavar, help=what, **options)


def add_coco_set(parser: Any, flag: str, purpose: str) -> None:
    """Add a flag for a data set in COCO's format.

    Args:
        parser: Parser, or a group of its arguments.
        flag: Name of the flag, such as ``--train``.
        purpose: Verb for the use of the set, such as ``train on``.
    """
    parser.add_argument(
        flag,
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help=f"COCO file and folder of pictures to {purpose} (default: those of the config)",
    )


def add_classes(parser: Any) -> None:
    """Add ``--classes``, for a detector whose classes are not those of the set.

    Args:
        parser: Parser, or a group of its arguments.
    """
    shipped = ", ".join(shipped_mappings())
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="mapping from the detector's classes to those of the set: a JSON or YAML file, or the name of a shipped "
        f"mapping ({shipped}); classes in a list are measured as one class, null leaves a class out, and classes that "
        "the mapping does not have are matched by name",
    )


def add_resume(parser: Any) -> None:
    """Add ``--resume``, which means the same in every command that has it."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what an earlier run of the same command has finished in --out, and do only the rest",
    )


def add_launcher(parser: Any) -> None:
    """Add ``--launcher``.

    Args:
        parser: Parser, or a group of its arguments.
    """
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="none",
        help="program that started the processes, if several share the work (default: none, for one process)",
    )


def add_cfg_options(parser: Any) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, which is parsed to a dict.

    Args:
        parser: Parser, or a group of its arguments.
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
    """Action of an argument that reads ``KEY=VALUE ...`` as MMEngine does."""
    try:
        from mmengine.config import DictAction
    except ModuleNotFoundError:
        # A command with this argument needs MMEngine to run, but not to show its help.
        return "store"

    class KeysAndValues(DictAction):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
            if odd := [each for each in values if "=" not in each]:
                raise ValueError(f"{option}: expected KEY=VALUE, got {odd[0]!r}")
            for each in values:
                value = each.partition("=")[2]
                # MMEngine would read a dict as text, cut at its commas.
                if value.lstrip("[( ").startswith(("dict(", "{")):
                    raise ValueError(f"{option}: expected KEY.NAME=VALUE for each value of a dict, got {each!r}")
                try:
                    self._parse_iterable(value)
                except (AssertionError, RecursionError):
                    raise ValueError(
                        f"{option}: expected a value, or a list or tuple with all brackets closed, got {each!r}"
                    ) from None
            super().__call__(parser, namespace, values, option)

    return KeysAndValues


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
