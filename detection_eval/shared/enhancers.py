"""The enhancers that a command compares: from ``--enhancer`` to specs, and from a spec to a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llie_preproc import FrozenEnhancer, InferenceOptions
from llie_preproc.commands.arguments import ENHANCER, Once, named_enhancer
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_config
from llie_preproc.fingerprints import fingerprint

NONE, RAW = "none", "raw"
"""The label of pictures that no enhancer changes: on the command line, and in tables."""

Spec = Mapping[str, Any]
"""A config for :func:`llie_preproc.build_enhancer`, with ``checkpoint``; the ``fingerprint`` of the network with its
weights; and ``options``, those of :class:`llie_preproc.InferenceOptions` that its results depend on."""

_LABEL = r"\w[\w.+-]*"
_NOT_CONFIG = ("fingerprint", "options")


def add_enhancers(
    parser: Any, default: Sequence[str] | None = (NONE,), shown: str | None = None, required: bool = False
) -> None:
    """Add ``--enhancer``, which takes several.

    Args:
        parser: Parser, or group of one.
        default: Enhancers that are taken unless some are given.
        shown: Words for the default, where the command finds it out.
        required: Whether some must be given.
    """
    usual = "" if required else f" (default: {shown or ' '.join(default or ())})"
    parser.add_argument(
        "--enhancer",
        nargs="+",
        action=Once,
        required=required,
        default=None if required else default,
        metavar="[LABEL=]NAME[@WEIGHTS]",
        help=f"enhancers, each a row of the table: {ENHANCER}; {NONE} stands for the raw pictures, LABEL= before a "
        f"name labels its row{usual}",
    )


def labelled(given: Sequence[str]) -> dict[str, str]:
    """What ``--enhancer`` names, by label, in the given order.

    >>> labelled(["none", "psenet", "other=psenet@other.pth"])
    {'none': 'none', 'psenet': 'psenet', 'other': 'psenet@other.pth'}

    Args:
        given: ``none``, or ``[LABEL=]NAME[@WEIGHTS]`` each; without a label that is ``NAME``.

    Raises:
        ValueError: A label stands twice, or cannot be the name of a folder.
    """
    named: dict[str, str] = {}
    for each in given:
        label, name = _divided(each)
        if not re.fullmatch(_LABEL, label) or label == RAW or (label == NONE and name != NONE):
            raise ValueError(
                f"--enhancer {each}: {label!r} is no label, which has letters, digits and _ . + -, and is neither "
                f"{NONE!r} nor {RAW!r}; put LABEL= before the name"
            )
        if label in named:
            hint = "" if label == NONE else ": put LABEL= before one of them"
            raise ValueError(f"--enhancer names {label} twice{hint}")
        named[label] = name
    return named


def enhancer_specs(
    given: Sequence[str],
    options: InferenceOptions = InferenceOptions(),  # noqa: B008  (it is frozen)
) -> dict[str, dict[str, Any]]:
    """What ``--enhancer`` names, without ``none``: :func:`described` of what :func:`labelled` gives."""
    return described(labelled(given), options)


def described(named: Mapping[str, str | Mapping[str, Any]], options: InferenceOptions) -> dict[str, dict[str, Any]]:
    """The specs of enhancers, which are built for it.

    Args:
        named: Name or config, as for :func:`llie_preproc.enhancers.names.enhancer_config`, by label; ``none`` is left
            out.
        options: How the networks are run.

    Returns:
        A :data:`Spec` by label.

    Raises:
        KeyError: No such network.
        FileNotFoundError: No such config file, or no such weights.
        ValueError: A network that cannot be run with the options.
        CheckpointError: A network without weights, or weights that do not fit.
    """
    return {label: _described(name, options) for label, name in named.items() if label != NONE}


def network_config(spec: Spec) -> dict[str, Any]:
    """The part of a spec that ``build_enhancer`` takes."""
    return {key: value for key, value in spec.items() if key not in _NOT_CONFIG}


def identity_of(spec: Spec | None) -> dict[str, Any]:
    """All of an enhancer that results depend on: what kept results are compared by; None: raw."""
    return {"enhancer": None} if spec is None else {"enhancer": spec["fingerprint"], **spec["options"]}


def frozen_enhancers(specs: Mapping[str, Spec], options: InferenceOptions, device: str) -> dict[str, FrozenEnhancer]:
    """The networks of specs, by label.

    Args:
        specs: Specs by label.
        options: How the networks are run.
        device: Device where they run.
    """
    return {label: FrozenEnhancer(network_config(spec), options, device=device) for label, spec in specs.items()}


def label_of(enhancer: str) -> str:
    """The name of an enhancer's row: ``none`` is raw."""
    return RAW if enhancer == NONE else enhancer


def _divided(given: str) -> tuple[str, str]:
    """Label and name. A ``=`` behind an ``@`` is part of the weights' address."""
    label, equals, name = given.partition("=")
    if equals and re.fullmatch(_LABEL, label):
        return label, name
    return given.partition("@")[0], given


def _described(name: str | Mapping[str, Any], options: InferenceOptions) -> dict[str, Any]:
    try:
        config = enhancer_config(name)
    except KeyError as error:
        hint = "" if name == NONE else f", or {NONE!r}"
        raise KeyError(f"{error.args[0]}{hint}") from error
    config["checkpoint"] = str(config.get("checkpoint") or DEFAULT_WEIGHTS)
    enhancer = named_enhancer(config)
    options.check_fits(enhancer)
    return {**config, "fingerprint": fingerprint(enhancer), "options": options.identity()}
