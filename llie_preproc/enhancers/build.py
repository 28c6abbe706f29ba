"""Building an enhancer with its weights from its name or config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch

from ..checkpoints import default_weights, load_checkpoint, match_report, read_state_dict, shipped_weights
from ..checks import same_value
from ..errors import CheckpointError, MissingWeightsError, one_line
from ..stored_arguments import stored_arguments
from .base import Enhancer
from .names import enhancer_class, enhancer_config

DEFAULT_WEIGHTS = "default"


def build_enhancer(
    enhancer: str | os.PathLike[str] | Mapping | Enhancer,
    checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
    device: str | torch.device | None = None,
) -> Enhancer:
    """Build an enhancer in evaluation mode.

    Args:
        enhancer: Anything that :func:`~llie_preproc.enhancers.names.enhancer_config` accepts (a name such as
            ``'psenet'``, ``'psenet@weights.pth'``, a config such as ``dict(type='PSENet', width=2)``, the name of a
            config file), or an enhancer, which is only moved to ``device``.
        checkpoint: Weights to load: the name of shipped weights, a path, or a URL with its digest
            (:mod:`llie_preproc.checkpoints`). ``'default'`` loads the weights that are shipped for this network with
            these arguments; a network without parameters needs none. None leaves the weights random. Arguments that are
            not given are those that the file of the weights holds (:mod:`llie_preproc.stored_arguments`). Each member
            of a ``Cascade`` follows this rule by itself; if ``checkpoint`` of the cascade is not ``'default'``, a
            member without shipped weights gets random ones.
        device: Device of the result; by default the enhancer stays where it is.

    Raises:
        KeyError: There is no such enhancer; the message lists the names of all.
        TypeError: A config has no ``type``, a ``type`` that is neither a name nor a class, or an argument that the
            network does not have.
        ValueError: The network refuses an argument (the message names both), or weights are named twice.
        MissingWeightsError: ``checkpoint`` is ``'default'``, but no weights are shipped for a network with parameters.
        CheckpointError: The checkpoint does not fit, or is unsafe or damaged.

    Examples:
        >>> build_enhancer(dict(type="GammaCorrection", gamma=0.5)).gamma
        0.5
        >>> type(build_enhancer("psenet", checkpoint=None)).__name__
        'PSENet'
    """
    if isinstance(enhancer, Enhancer):
        return enhancer.to(device) if device is not None else enhancer
    config = enhancer_config(enhancer)
    name, kind = enhancer_class(config.pop("type"))
    named = config.pop("checkpoint", checkpoint)
    # Some callers pass None for every network; this does not overrule the weights that a config names.
    if checkpoint not in (DEFAULT_WEIGHTS, named) and (checkpoint is not None or isinstance(enhancer, str)):
        raise ValueError(f"weights are named twice: {named!r} with the enhancer, and checkpoint={checkpoint!r}")
    checkpoint = named
    if (argument := _of_members(kind)) and checkpoint != DEFAULT_WEIGHTS:
        members = config.get(argument, signature(kind).parameters[argument].default)
        config[argument] = _may_start_random(members)
    stored = _stored(name, checkpoint)
    # Shipped weights that nobody named are taken for equal arguments only.
    if not config or checkpoint != DEFAULT_WEIGHTS:
        config = {**_checked(name, kind, stored, checkpoint), **config}
    built = _construct(name, kind, config, stored).eval()
    if checkpoint == DEFAULT_WEIGHTS:
        checkpoint = _default_checkpoint(built, name, config, stored)
    if checkpoint is not None:
        _load(built, name, checkpoint)
    return built.to(device) if device is not None else built


def _construct(name: str, kind: type[Enhancer], config: Mapping[str, Any], stored: Mapping[str, Any]) -> Enhancer:
    """Construct the network; if it refuses an argument, the message begins with the network's name."""
    # A value that equals the default, or the one that the weights hold, counts as this, so that 32.0 may stand for 32.
    given = dict(config)
    for usual in (_defaults(kind), stored):
        given |= {key: usual[key] for key, value in config.items() if key in usual and same_value(value, usual[key])}
    try:
        built = kind(**given)
        built.arguments = given
        return built
    except (TypeError, ValueError) as error:
        # Subclasses of these errors may hold more than a text, and their text says already what they are about.
        if type(error) not in (TypeError, ValueError) or kind.__name__ in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error


def _stored(name: str, checkpoint: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The arguments that the weights hold for the network."""
    if checkpoint == DEFAULT_WEIGHTS:
        shipped = default_weights(name)
        checkpoint = shipped.name if shipped is not None else None
    try:
        return stored_arguments(name, checkpoint) if checkpoint is not None else {}
    except FileNotFoundError:
        return {}


def _checked(
    name: str, kind: type[Enhancer], stored: Mapping[str, Any], checkpoint: str | os.PathLike[str] | None
) -> Mapping[str, Any]:
    """Arguments from a file, if the network takes them and has no more tensors than the file.

    Raises:
        CheckpointError: The network does not take them, or the tensors differ.
    """
    if not stored or checkpoint is None or checkpoint == DEFAULT_WEIGHTS:
        return stored
    try:
        with torch.device("meta"):
            empty = kind(**stored)
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint}: {name} refuses the arguments in its metadata: {one_line(error)}"
        ) from error
    match_report(empty, read_state_dict(checkpoint)).check(f"{checkpoint}: the arguments in its metadata do not fit")
    return stored


def _load(built: Enhancer, name: str, checkpoint: str | os.PathLike[str]) -> None:
    try:
        load_checkpoint(built, checkpoint)
    except FileNotFoundError as error:
        shipped = ", ".join(weights.name for weights in shipped_weights() if weights.enhancer == name)
        # What was given may be the path of a missing file, or a misspelt name of shipped weights.
        raise FileNotFoundError(f"{error}; shipped weights of {name}: {shipped or 'none'}") from error


def _default_checkpoint(built: Enhancer, name: str, config: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """Name of the weights that are shipped for a network; None if it needs no weights of its own."""
    shipped = default_weights(name)
    if shipped is not None and (not config or _equal(type(built), config, stored)):
        return shipped.name
    # Members that were given as an argument have been built by the same rule already.
    if _of_members(type(built)) or _comes_trained(built):
        return None
    options = ", ".join(f"{key}={value!r}" for key, value in config.items())
    raise MissingWeightsError(f"{name} with {options}" if shipped is not None else name)


def _of_members(kind: type[Enhancer]) -> str | None:
    """Name of the argument that holds the members; None if a class has no members, or chooses them itself."""
    return kind.made_of if kind.made_of in signature(kind).parameters else None


def _comes_trained(enhancer: Enhancer) -> bool:
    """Whether a network needs no checkpoint: it has no parameters, or each member has none or shipped weights."""
    if enhancer.members:
        return all(_comes_trained(member) or default_weights(type(member).__name__) for member in enhancer.members)
    return next(enhancer.parameters(), None) is None


def _equal(kind: type[Enhancer], config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of arguments construct the same network."""
    full, others = {**_defaults(kind), **config}, {**_defaults(kind), **other}
    return full.keys() == others.keys() and all(same_value(value, others[key]) for key, value in full.items())


def _defaults(kind: type[Enhancer]) -> dict[str, Any]:
    return {key: each.default for key, each in signature(kind).parameters.items()}


def _may_start_random(members: Any) -> Any:
    """The members, with ``checkpoint=None`` added to those for which no weights are shipped."""
    if isinstance(members, str) or not isinstance(members, Sequence):
        return members
    return [_without_need(member) for member in members]


def _without_need(member: Any) -> Any:
    if not isinstance(member, str | Mapping):
        return member
    config = enhancer_config(member)
    if "checkpoint" in config:
        return member
    name, kind = enhancer_class(config["type"])
    options = {key: value for key, value in config.items() if key != "type"}
    if default_weights(name) and (not options or _equal(kind, options, _stored(name, DEFAULT_WEIGHTS))):
        return member
    return {**config, "checkpoint": None}
