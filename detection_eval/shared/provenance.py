"""Records of how a result was made: the command, versions and weights that are needed to make it again."""

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
    """Return the running command as a line for a shell."""
    return shlex.join(["llie", *sys.argv[1:]])


def record(settings: Mapping[str, str], modules: Sequence[str], device: str) -> dict[str, str]:
    """Record the running command, its settings, the versions and the machine, in this order.

    Args:
        settings: Other things that the result depends on, in words, by their names.
        modules: Modules whose versions matter.
        device: Device that the networks run on.
    """
    found = ", ".join(f"{name} {number}" for name, number in versions(modules).items())
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, device {device}"
    return {"command": command_line(), **settings, "versions": found, "machine": machine}


def versions(modules: Sequence[str]) -> dict[str, str]:
    """Return the versions of this project, of Python, and of those ``modules`` that are installed.

    The keys are the names by which modules are imported, because OpenMMLab's forks install them under other names.

    Examples:
        >>> list(versions(["numpy", "no_such_module"]))
        ['llie_preproc', 'Python', 'numpy']
    """
    brought_by = distributions_by_package()
    # A module that is imported knows its build, such as for CPUs or for a version of CUDA.
    installed = {
        name: str(getattr(sys.modules.get(name), "__version__", None) or version(brought_by[name][0]))
        for name in modules
        if name in brought_by
    }
    return {"llie_preproc": __version__, "Python": platform.python_version(), **installed}


def enhancers(specs: Mapping[str, Spec]) -> str:
    """Describe networks in a line: the settings, weights and options of each spec, by label."""
    return "; ".join(_described(label, spec) for label, spec in specs.items()) or "none"


def _described(label: str, spec: Spec) -> str:
    arguments = {key: value for key, value in network_config(spec).items() if key not in ("type", "checkpoint")}
    settings = f" {arguments}" if arguments else ""
    options = "".join(f", {name}: {value}" for name, value in spec["options"].items())
    return f"{label}: {spec['type']}{settings}, weights: {spec['checkpoint']} ({spec['fingerprint'][:12]}){options}"
