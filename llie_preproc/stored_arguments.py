"""The arguments of a network, stored beside its weights in a safetensors file, so that the weights alone rebuild it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open

from .checkpoints import local_file
from .errors import CheckpointError

_ENHANCER, _ARGUMENTS = "enhancer", "arguments"
# A file is not trusted: a huge number would build a huge network.
_MOST = 4096
# A text names a variant. One that may be a path or a URL could lead to a config file, which is a program.
_WORD = re.compile(r"[\w-]*")


def describe(enhancer: str, arguments: Mapping[str, Any] | None) -> dict[str, str]:
    """The metadata of a file of weights.

    Args:
        enhancer: Registered name of the network.
        arguments: Arguments with which the network was built; None if they are not known. Arguments that are no plain
            values, such as the members of a cascade, and texts that may be paths are not stored, so that they must be
            given again with the file.

    Examples:
        >>> describe("IAMLUNet", {"width": 16})
        {'enhancer': 'IAMLUNet', 'arguments': '{"width": 16}'}
    """
    metadata = {_ENHANCER: enhancer}
    if arguments is not None and _plain(list(arguments.values())):
        metadata[_ARGUMENTS] = json.dumps(dict(arguments))
    return metadata


def stored_arguments(enhancer: str, source: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments that a checkpoint holds for a network; none if it holds none, or those of another network.

    Args:
        enhancer: Registered name of the network.
        source: Checkpoint, as for :func:`~llie_preproc.checkpoints.read_state_dict`.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The arguments are no JSON object of plain values, or a number among them is above 4096; or a
            URL has no digest.

    Examples:
        >>> stored_arguments("PSENet", "psenet_sice")
        {}
    """
    metadata = _metadata(source)
    if metadata.get(_ENHANCER) != enhancer or _ARGUMENTS not in metadata:
        return {}
    try:
        arguments = json.loads(metadata[_ARGUMENTS])
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or not _plain(list(arguments.values())):
        raise CheckpointError(f"{source}: the arguments of {enhancer} in its metadata cannot be used")
    return arguments


def _metadata(source: str | os.PathLike[str]) -> Mapping[str, str]:
    path = local_file(source)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        # Whoever reads the weights says what is wrong with the file.
        return {}


def _plain(value: Any) -> bool:
    """Whether a value consists of words, switches, small numbers and lists of them."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) <= _MOST)
