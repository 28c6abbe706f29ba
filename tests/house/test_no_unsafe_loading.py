"""No call in the source unpickles, evaluates, imports or loads the content of a file, except the calls listed here.

A new call of this kind fails the test until it has been reviewed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGES = ("llie_preproc", "training", "detection_eval", "benchmarks")
READER = "llie_preproc/checkpoints.py"

# Calls that run their argument or read pickles, by full names; a star stands for any ending.
RUNS = (
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.*", "marshal.*", "shelve.*", "dill.*",
    "cloudpickle.*", "joblib.*", "pickle.load", "pickle.loads", "pickle.Unpickler", "pandas.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader",
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.utils.model_zoo.*", "torch.package.*",
    "torch.jit.load", "torch.export.load", "timm.load_checkpoint", "timm.models.load_checkpoint",
)  # fmt: skip
# Functions of MMEngine and other libraries that load files without restrictions.
LOADS = (
    "mmengine.load", "mmengine.fileio.load", "mmengine.runner.load_checkpoint",
    "mmengine.runner.checkpoint.load_checkpoint", "mmengine.runner.checkpoint._load_checkpoint",
    "mmengine.runner.checkpoint._load_checkpoint_with_prefix",
    "mmengine.runner.checkpoint.CheckpointLoader.load_checkpoint",
    "mmengine.runner.Runner", "mmengine.runner.Runner.from_cfg", "mmengine.runner.CheckpointLoader.load_checkpoint",
    "mmdet.apis.*", "torchvision.models.get_model",
)  # fmt: skip
LISTS = (
    "torch.serialization.add_safe_globals",
    "torch.serialization.safe_globals",
    "torch.serialization.clear_safe_globals",
)
ALLOWED = {
    # The arguments of this call are checked below.
    (READER, "torch.load"),
    *((READER, name) for name in LISTS),
    # These calls are inside of safe_loading.
    ("llie_preproc/safe_loading.py", "init_weights"),
    ("benchmarks/mmdet_zoo.py", "init_weights"),
}
# Files that import modules by names from the source itself or from installed packages.
IMPORTERS = {
    "llie_preproc/__init__.py",
    "llie_preproc/commands/llie.py",
    "llie_preproc/commands/program.py",
    "llie_preproc/enhancers/__init__.py",
    "llie_preproc/enhancers/names.py",
    "llie_preproc/registry.py",
    "llie_preproc/mm/finder.py",
    "llie_preproc/faces/__init__.py",
    "llie_preproc/segmentation/__init__.py",
    "llie_preproc/ops/scan/backends.py",
    "detection_eval/compare/plan.py",
    "detection_eval/self_registration.py",
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_names(tree: ast.AST) -> dict[str, str]:
    """The full name of each name that a module imports."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """Full name of a name or attribute: ``torch.load`` for ``load`` after ``from torch import load``."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = full_name(node.value, names)
        return f"{owner}.{node.attr}"
    # Other expressions have no name.
    return "?"


def keyword(call: ast.Call, name: str) -> object:
    """Value of a keyword of a call: a constant, the syntax node of another expression, or None if it is not given."""
    found = next((each.value for each in call.keywords if each.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else found


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == p or (p.endswith(".*") and name.startswith(p[:-1])) for p in patterns)


def faults(path: str, text: str) -> Iterator[str]:
    """Yield a line for each forbidden call in a module."""
    tree = ast.parse(text)
    names = imported_names(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = full_name(call.func, names)
        last = name.rpartition(".")[2]
        where = f"{path}:{call.lineno}: {name}"
        if matches(name, RUNS + LOADS + LISTS) and (path, name) not in ALLOWED:
            yield f"{where} runs or unpickles what it is given"
        if name == "torch.load" and ((path, name) not in ALLOWED or keyword(call, "weights_only") is not True):
            yield f"{where} belongs to read_pickle alone, with weights_only=True"
        if last == "init_weights" and (path, last) not in ALLOWED:
            yield f"{where} makes MMEngine load files: call it inside of safe_loading"
        if name == "numpy.load" and keyword(call, "allow_pickle") is not False:
            yield f"{where} needs allow_pickle=False"
        for option, safe in (("weights_only", True), ("allow_pickle", False), ("shell", False)):
            if any(each.arg == option for each in call.keywords) and keyword(call, option) is not safe:
                yield f"{where} has {option} other than {safe}"
        if name == "importlib.import_module" and path not in IMPORTERS and not isinstance(call.args[0], ast.Constant):
            yield f"{where} imports a name that is not written here"
    # A function that is passed on may be called elsewhere.
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in {"getattr", "eval", "exec"} and not _is_called(node, tree):
            yield f"{path}:{node.lineno}: {node.id} is passed on"


def _is_called(name: ast.Name, tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Call) and node.func is name for node in ast.walk(tree))


def test_no_call_runs_what_a_file_holds() -> None:
    found = [
        fault
        for path in sources()
        for fault in faults(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_one_call_of_torch_load_is_found() -> None:
    """If the check did not find it, the check would look for a spelling that is no longer used."""
    tree = ast.parse((ROOT / READER).read_text(encoding="utf-8"))
    names = imported_names(tree)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and full_name(n.func, names) == "torch.load"]
    assert len(calls) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=True)",
        "from torch import load as read\nread(p, weights_only=False)",
        "import torch as t\nt.load(p, weights_only=flag)",
        "import pickle\npickle.loads(data)",
        "from pickle import Unpickler\nUnpickler(file).load()",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "eval(text)",
        "allowed = [getattr, slice]",
        "import torch\ntorch.serialization.add_safe_globals([print])",
        "import torch\nwith torch.serialization.safe_globals(kinds):\n    pass",
        "import torch\ntorch.hub.load(repo, name)",
        "from mmengine.runner import load_checkpoint\nload_checkpoint(model, p)",
        "from mmengine.runner import Runner\nRunner.from_cfg(cfg).train()",
        "from mmengine.runner.checkpoint import _load_checkpoint\n_load_checkpoint(p)",
        "import mmengine\nmmengine.load(p)",
        "from mmdet.apis import init_detector\ninit_detector(cfg, p)",
        "model.init_weights()",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "from importlib import import_module\nimport_module(name)",
        "import joblib\njoblib.load(p)",
    ],
)
def test_the_check_finds_forbidden_calls(code: str) -> None:
    assert list(faults("training/new.py", code))


@pytest.mark.parametrize(
    "code",
    ["getattr(model, name)", "import json\njson.loads(text)", "import numpy as np\nnp.load(p, allow_pickle=False)",
     "import yaml\nyaml.safe_load(text)", "model.eval()", "import re\nre.compile(text)",
     "from importlib import import_module\nimport_module('numba')"],
)  # fmt: skip
def test_the_check_allows_other_calls(code: str) -> None:
    assert list(faults("training/new.py", code)) == []
