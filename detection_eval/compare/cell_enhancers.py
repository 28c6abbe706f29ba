"""The enhancers of a comparison, which are read from its plan and its finished cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llie_preproc import FrozenEnhancer, InferenceOptions, build_enhancer
from llie_preproc.checkpoint_names import own_names
from llie_preproc.checkpoints import check_weights, match_report
from llie_preproc.mm.runner_parts import read_checkpoint

from ..shared.enhancers import NONE, network_config
from .comparison_store import JOINT, Cell, Comparison


def comparison_enhancer(comparison: Comparison, cell: Cell, device: str = "cpu") -> FrozenEnhancer | None:
    """Build the enhancer of a cell, with the options that the cell was evaluated with; None for raw.

    Args:
        comparison: Comparison that has the cell.
        cell: Finished cell.
        device: Device that the enhancer runs on.

    Raises:
        CheckpointError: The weights do not fit, or the cell's checkpoint is damaged.
        FileNotFoundError: A joint cell lacks its checkpoint.
        ValueError: The plan has unknown options.
    """
    if cell.enhancer == NONE:
        return None
    spec = comparison.plan["enhancers"][cell.enhancer]
    config, options = network_config(spec), _options(comparison, cell.enhancer, spec)
    if cell.mode != JOINT:
        return FrozenEnhancer(config, options, device=device)
    result = comparison.result(cell) or {}
    file = comparison.folder / str(result.get("checkpoint"))
    trained = own_names(read_checkpoint(file)["state_dict"], "enhancer.")
    enhancer = build_enhancer(dict(config, checkpoint=None))
    check_weights(trained, enhancer, file)
    match_report(enhancer, trained).check(f"{file} has another enhancer than this {type(enhancer).__name__}")
    enhancer.load_state_dict(trained)
    return FrozenEnhancer(enhancer, options, device=device)


def _options(comparison: Comparison, label: str, spec: Mapping[str, Any]) -> InferenceOptions:
    given = spec.get("options", {})
    try:
        return InferenceOptions.of(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{comparison.folder}: the plan's options of {label}: {error}") from error
