"""The enhancers of a comparison: from the command line to the plan, and out of a finished cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import check_weights
from llie_preproc.enhancers import Enhancer
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_config
from llie_preproc.errors import weights_named_by
from llie_preproc.fingerprints import fingerprint
from llie_preproc.runs import read_checkpoint

from .results import JOINT, NONE, Cell, Comparison

_WRAPPED = "enhancer."


def enhancer_specs(names: list[str], weights: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What the command line names.

    Args:
        names: ``none``; a registered network by its name, case and underscores apart (``psenet``, ``semi_llie``);
            ``LABEL=NETWORK``, one under a label of its own, for several with different weights; or ``LABEL=FILE``, a
            config file with ``enhancer`` or ``model.enhancer``.
        weights: By label: a file, or the name of shipped weights.

    Returns:
        By label, without ``none``: a config for :func:`llie_preproc.build_enhancer`, with ``checkpoint`` and the
        ``fingerprint`` of the network with its weights.

    Raises:
        KeyError: No such network.
        FileNotFoundError: No such config file.
        ValueError: A label twice or one that names no folder, weights for a label that is not there, or a network
            without weights.
        CheckpointError: Weights that do not fit.
    """
    specs: dict[str, dict[str, Any]] = {}
    labels = [name.partition("=")[0] for name in names if name != NONE]
    if wrong := [label for label in labels if label == NONE or not re.fullmatch(r"\w[\w.+-]*", label)]:
        raise ValueError(f"--enhancers: {wrong[0]!r} is no label: letters, digits and _ . + -, and not 'none'")
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"--enhancers names {', '.join(sorted(repeated))} twice")
    if unknown := set(weights) - set(labels):
        raise ValueError(f"--weights for {', '.join(sorted(unknown))}, which --enhancers does not name")
    for name in names:
        label, _, what = name.partition("=")
        if label != NONE:
            specs[label] = _described(_named(label, what), weights.get(label))
    return specs


def named_weights(given: Sequence[str]) -> dict[str, str]:
    """``LABEL=FILE`` of ``--weights``, by label.

    Raises:
        ValueError: One without a file.
    """
    pairs = [each.partition("=") for each in given]
    if wrong := [each for each, pair in zip(given, pairs, strict=True) if not pair[2]]:
        raise ValueError(f"--weights takes NAME=FILE, got {wrong[0]!r}")
    return {label: file for label, _, file in pairs}


def network_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that ``build_enhancer`` takes."""
    return {key: value for key, value in spec.items() if key != "fingerprint"}


def comparison_enhancer(comparison: Comparison, cell: Cell, device: str = "cpu") -> Enhancer | None:
    """The network that a cell's detector sees through, as it was when the cell was evaluated; None for raw.

    Raises:
        CheckpointError: The weights do not fit, or the cell's checkpoint is damaged.
        FileNotFoundError: A joint cell without its checkpoint.
    """
    if cell.enhancer == NONE:
        return None
    config = network_config(comparison.plan["enhancers"][cell.enhancer])
    if cell.mode != JOINT:
        return build_enhancer(config, device=device)
    result = comparison.result(cell) or {}
    checkpoint = read_checkpoint(comparison.folder / str(result.get("checkpoint")))
    trained = {k.removeprefix(_WRAPPED): v for k, v in checkpoint["state_dict"].items() if k.startswith(_WRAPPED)}
    enhancer = build_enhancer(dict(config, checkpoint=None))
    check_weights(trained, enhancer, str(result.get("checkpoint")))
    enhancer.load_state_dict(trained)
    return enhancer.to(device)


def why_not_joint(spec: Mapping[str, Any]) -> str | None:
    """Why a network cannot be trained with the detector; None: it can."""
    enhancer = build_enhancer(network_config(spec))
    if not enhancer.capabilities.differentiable:
        return f"no gradient flows through {type(enhancer).__name__}"
    if not any(parameter.requires_grad for parameter in enhancer.parameters()):
        return f"{type(enhancer).__name__} has nothing to train"
    return None


def _named(label: str, what: str) -> dict[str, Any]:
    """The config of ``LABEL=WHAT``, or of a label that is a network's name."""
    try:
        return enhancer_config(what or label)
    except KeyError as error:
        raise KeyError(f"{error.args[0]}; as LABEL=NETWORK, LABEL=CONFIG.py, or 'none'") from error


def _described(config: dict[str, Any], weights: str | None) -> dict[str, Any]:
    checkpoint = weights or config.pop("checkpoint", None) or DEFAULT_WEIGHTS
    with weights_named_by("--weights LABEL=FILE"):
        enhancer = build_enhancer(config, checkpoint)
    return {**config, "checkpoint": str(checkpoint), "fingerprint": fingerprint(enhancer)}
