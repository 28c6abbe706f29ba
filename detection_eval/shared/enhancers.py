"""The enhancers that a command compares: the flag ``--enhancer``, descriptions (specs) of enhancers, and networks."""

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
"""Labels of pictures that no enhancer changes, on the command line and in tables."""

Spec = Mapping[str, Any]
"""Description of an enhancer: a config for :func:`llie_preproc.build_enhancer` with ``checkpoint``; the ``fingerprint``
of the network with its weights; and ``options``, the fields of :class:`llie_preproc.InferenceOptions` that change the
results."""

_LABEL = r"\w[\w.+-]*"
_NOT_CONFIG = ("fingerprint", "options")


def add_enhancers(
    parser: Any, default: Sequence[str] | None = (NONE,), shown: str | None = None, required: bool = False
) -> None:
    """Add ``--enhancer``, which takes one or more enhancers.

    Args:
        parser: Parser, or a group of its arguments.
        default: Enhancers that are used if the command line names none.
        shown: Words for the default in the help, if the command determines it later.
        required: Whether the command line must name an enhancer.
    """
    usual = "" if required else f" (default: {shown or ' '.join(default or ())})"
    parser.add_argument(
        "--enhancer",
        nargs="+",
        action=Once,
        required=required,
        default=None if required else default,
        metavar="[LABEL=]NAME[@WEIGHTS]",
        help=f"enhancers, each a row of the table: {ENHANCER}; {NONE} stands for the raw pictures; LABEL= before a "
        f"name labels its row{usual}",
    )


def labelled(given: Sequence[str]) -> dict[str, str]:
    """Split the values of ``--enhancer`` into labels and enhancers, in the given order.

    Args:
        given: Values, each ``none`` or ``[LABEL=]NAME[@WEIGHTS]``. The default label is ``NAME``.

    Returns:
        Enhancer ``NAME[@WEIGHTS]`` by label.

    Raises:
        ValueError: A label occurs twice, or cannot be the name of a folder.

    Examples:
        >>> labelled(["none", "psenet", "other=psenet@other.pth"])
        {'none': 'none', 'psenet': 'psenet', 'other': 'psenet@other.pth'}
    """
    named: dict[str, str] = {}
    for each in given:
        label, name = _divided(each)
        if not re.fullmatch(_LABEL, label) or label == RAW or (label == NONE and name != NONE):
            if "," in each:
                raise ValueError(f"--enhancer {each}: several enhancers have spaces between them, not commas")
            raise ValueError(
                f"--enhancer {each}: {label!r} is no label: a label has letters, digits and _ . + -, and is neither "
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
    """Describe the enhancers that ``--enhancer`` names, except ``none``; see :func:`labelled` and :func:`described`.

    Examples:
        >>> spec = enhancer_specs(["none", "mine=clahe"])["mine"]
        >>> sorted(spec)
        ['checkpoint', 'fingerprint', 'options', 'type']
    """
    return described(labelled(given), options)


def described(named: Mapping[str, str | Mapping[str, Any]], options: InferenceOptions) -> dict[str, dict[str, Any]]:
    """Describe enhancers. Each is built once, to compute its fingerprint and to check the options.

    Args:
        named: Name or config of each enhancer (:func:`llie_preproc.enhancers.names.enhancer_config`), by label;
            ``none`` is left out.
        options: Options that the networks run with.

    Returns:
        Description of each enhancer, a :data:`Spec`, by label.

    Raises:
        KeyError: There is no such network.
        FileNotFoundError: There is no such config file, or there are no such weights.
        ValueError: A network cannot run with the options.
        CheckpointError: A network has no weights, or they do not fit.
    """
    return {label: _described(name, options) for label, name in named.items() if label != NONE}


def network_config(spec: Spec) -> dict[str, Any]:
    """Return the part of a spec that ``build_enhancer`` takes."""
    return {key: value for key, value in spec.items() if key not in _NOT_CONFIG}


def identity_of(spec: Spec | None) -> dict[str, Any]:
    """Return what the results of an enhancer depend on, to compare it with kept results; None stands for raw."""
    return {"enhancer": None} if spec is None else {"enhancer": spec["fingerprint"], **spec["options"]}


def frozen_enhancers(specs: Mapping[str, Spec], options: InferenceOptions, device: str) -> dict[str, FrozenEnhancer]:
    """Build the networks of specs, by label.

    Args:
        specs: Specs by label.
        options: Options that the networks run with.
        device: Device that the networks run on.
    """
    return {label: FrozenEnhancer(network_config(spec), options, device=device) for label, spec in specs.items()}


def label_of(enhancer: str) -> str:
    """Return the label of an enhancer's row in tables, which is ``raw`` for ``none``."""
    return RAW if enhancer == NONE else enhancer


def _divided(given: str) -> tuple[str, str]:
    """Split a value into label and name. A ``=`` after an ``@`` belongs to the address of the weights."""
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
