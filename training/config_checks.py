"""What is wrong with the config of a run before anything of it is built."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from llie_preproc.config_nodes import nodes
from llie_preproc.enhancers.names import enhancer_in

_RUNNER_KEYS = {
    *inspect.signature(Runner).parameters,
    "model_wrapper_cfg",
    "find_unused_parameters",
    "sync_bn",
    "compile",
    "activation_checkpointing",
    "efficient_conv_bn_eval",
}
_ENV_KEYS = {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}


def list_evaluators(cfg: Config) -> None:
    """Put single metrics into lists: with a key ``metrics`` MMEngine would take one for a whole evaluator."""
    for evaluator in ("val_evaluator", "test_evaluator"):
        if isinstance(cfg.get(evaluator), dict):
            cfg[evaluator] = [cfg[evaluator]]


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Raise for options over a config that would change nothing.

    Raises:
        ValueError: A name that only the config file itself uses, or None for an entry that is not there.
    """
    for path, value in options.items():
        *parents, leaf = path.split(".")
        if not parents and leaf not in _RUNNER_KEYS:
            raise ValueError(f"{leaf!r} is read by nothing once the config is loaded: set the keys that it went into")
        parent = cfg
        for name in parents:
            parent = parent.get(name) if isinstance(parent, Mapping | Config) else None
        if value is None and isinstance(parent, Mapping) and leaf not in parent:
            raise ValueError(f"{path}=None leaves nothing out: there are {', '.join(map(repr, parent))}")


def check_names(cfg: Config) -> None:
    """Raise for a name that looks like a misspelt one of the Runner's: it would be ignored.

    Raises:
        ValueError: There is one; the message has the likely name.
    """
    for name in set(cfg) - _RUNNER_KEYS:
        likely = difflib.get_close_matches(name, _RUNNER_KEYS, n=1, cutoff=0.85)
        if likely:
            raise ValueError(f"the config has {name!r}, which nothing reads; is {likely[0]!r} meant?")
    if unknown := set(cfg.get("env_cfg", {})) - _ENV_KEYS:
        raise ValueError(f"env_cfg has {sorted(unknown)}, which nothing reads; it takes {sorted(_ENV_KEYS)}")
    if cfg.get("randomness", {}).get("diff_rank_seed"):
        raise ValueError("randomness.diff_rank_seed is of no use: each iteration seeds each rank differently")
    check_optimizers(cfg.get("optim_wrapper", {}))


def check_enhancer(cfg: Config, name: str) -> None:
    """Raise for an enhancer of the model that is not registered.

    Raises:
        ValueError: It is not; the message names the file and the nearest enhancers.
    """
    if isinstance(cfg.model, Mapping):
        enhancer_in({"model": dict(cfg.model)}, name)


def check_optimizers(optim_wrapper: Mapping) -> None:
    """Raise ``KeyError`` for an optimiser that is not registered; MMEngine's own message does not name it."""
    for node in nodes(optim_wrapper):
        kind = (node.get("optimizer") or {}).get("type")
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise KeyError(f"no optimizer {kind!r} is registered")
