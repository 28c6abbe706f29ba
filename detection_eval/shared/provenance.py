"""What it takes to make a result again: the command, versions, weights."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch

from llie_preproc import __version__
from llie_preproc.loaded_sources import distributions_by_package

from .enhancers import Spec, network_config


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    return shlex.join(["llie", *sys.argv[1:]])


def record(settings: Mapping[str, str], modules: Sequence[str], device: str) -> dict[str, str]:
    """The command that runs, its settings, the versions, and the machine that it runs on, in this order.

    Args:
        settings: What the result depends on besides, in words.
        modules: Modules whose versions matter.
        device: Device where the networks run.
    """
    found = ", ".join(f"{name} {number}" for name, number in versions(modules).items())
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, device {device}"
    return {"command": command_line(), **settings, "versions": found, "machine": machine}


def versions(modules: Sequence[str]) -> dict[str, str]:
    """Versions of this project, of Python, and of what is installed of ``modules``, named as they are imported.

    OpenMMLab's forks bring the same modules under other names.
    """
    brought_by = distributions_by_package()
    installed = {name: version(brought_by[name][0]) for name in modules if name in brought_by}
    return {"llie_preproc": __version__, "Python": platform.python_version(), **installed}


def enhancers(specs: Mapping[str, Spec]) -> str:
    """The networks of :func:`detection_eval.shared.enhancers.enhancer_specs`, with settings, weights and options."""
    return "; ".join(_described(label, spec) for label, spec in specs.items()) or "none"


def _described(label: str, spec: Spec) -> str:
    arguments = {key: value for key, value in network_config(spec).items() if key not in ("type", "checkpoint")}
    settings = f" {arguments}" if arguments else ""
    options = "".join(f", {name}: {value}" for name, value in spec["options"].items())
    return f"{label}: {spec['type']}{settings}, weights: {spec['checkpoint']} ({spec['fingerprint'][:12]}){options}"
