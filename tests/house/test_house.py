"""Packages import each other in one direction, without a cycle, and unrelated modules have different names."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import os
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.processes import Ended, Programs

FORBIDDEN = {
    "llie_preproc": {"training", "detection_eval"},
    "training": {"detection_eval"},
    "detection_eval": {"training"},
}


def module_files() -> dict[str, Path]:
    """Files of all modules of the three packages, by dotted name."""
    found = {}
    for path in (path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_files()
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield child
            yield from statements(child)


def imported(name: str) -> set[str]:
    """Names of the modules that a module imports, also inside functions; full names within the three packages."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in statements(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            found |= {full if (full := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return found - {name}


def strings(path: Path) -> Iterator[str]:
    """Yield the strings in a module's code, without docstrings."""
    tree = parsed(path)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_packages_import_in_one_direction() -> None:
    """The direction is ``training -> llie_preproc <- detection_eval``."""
    found = [
        f"{name} -> {other}"
        for name in MODULES
        for other in imported(name)
        if other.split(".")[0] in FORBIDDEN[name.split(".")[0]]
    ]
    assert found == []


def test_no_package_names_another_by_a_string() -> None:
    found = [
        f"{name}: {text!r}"
        for name, path in MODULES.items()
        for text in strings(path)
        for other in FORBIDDEN[name.split(".")[0]]
        if re.search(rf"(^|[^\w./]){other}[.:]\w", text)
    ]
    assert found == []


def test_modules_have_no_import_cycle() -> None:
    graph = {name: imported(name) & set(MODULES) for name in MODULES}
    # static_order raises CycleError with the modules of a cycle.
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert len(order) == len(MODULES)


def run(programs: Programs, code: str, *folders: Path) -> Ended:
    path = os.pathsep.join([*map(str, folders), str(ROOT)])
    return programs.run("-c", textwrap.dedent(code), environment=dict(PYTHONPATH=path))


WALK = """
    import builtins, importlib, json, pkgutil, sys
    arrows, plain, by_name = set(), builtins.__import__, importlib.import_module

    def note(importer, name):
        if importer.split(".")[0] == "llie_preproc":
            arrows.add((importer, name))

    def watched(name, globals=None, locals=None, fromlist=(), level=0):
        if not level:
            note((globals or {}).get("__name__") or "", name)
        return plain(name, globals, locals, fromlist, level)

    def watched_by_name(name, package=None):
        note(sys._getframe(1).f_globals.get("__name__") or "", name)
        return by_name(name, package)

    builtins.__import__, importlib.import_module = watched, watched_by_name
    import llie_preproc
    for found in pkgutil.walk_packages(llie_preproc.__path__, "llie_preproc."):
        if not found.name.endswith(("__main__", "_kernels", "scan.gpu")):
            importlib.import_module(found.name)
    from llie_preproc import registry
    from llie_preproc.enhancers.names import enhancer_classes, enhancer_config
    kinds = [each for each in vars(registry).values() if isinstance(each, registry.Registry)]
    for each in kinds:
        for name in [*each._module_dict]:
            each.get(name), each.get(f"llie_preproc.{name}")
    for name in enhancer_classes():
        enhancer_config(name.lower()), registry.TRANSFORMS.get(name)
    roofs = [m for m in sys.modules if m.split(".")[0] in ("training", "detection_eval")]
    print("RESULT", json.dumps(dict(arrows=sorted(arrows), roofs=roofs, registries=len(kinds))))
"""


@pytest.fixture(scope="module")
def walked(_bare_programs: Programs) -> dict:
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    done = run(_bare_programs, WALK)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("RESULT")[2])


def test_llie_preproc_imports_no_other_package_at_run_time(walked: dict) -> None:
    crossing = [pair for pair in walked["arrows"] if pair[1].split(".")[0] in FORBIDDEN["llie_preproc"]]
    assert len(walked["arrows"]) > 300
    assert crossing == []


def test_registered_names_of_llie_preproc_are_found_without_the_other_packages(walked: dict) -> None:
    """Only the modules ``registered`` of the other packages are imported; they list the names that these add."""
    assert walked["registries"] == 12
    assert set(walked["roofs"]) <= {"training", "training.registered", "detection_eval", "detection_eval.registered"}


def test_a_network_is_found_without_a_detector(bare_programs: Programs) -> None:
    done = run(
        bare_programs,
        """
        import sys
        from llie_preproc.registry import MODELS
        print(MODELS.get("PSENet").__name__, [m for m in ("mmdet", "training", "detection_eval") if m in sys.modules])
        """,
    )
    assert done.stdout.split() == ["PSENet", "[]"], done.stderr


def test_tables_of_the_other_packages_are_complete() -> None:
    """Each module in a table registers something, and each module that registers something is in a table."""
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    for package in ("training", "detection_eval"):
        table = importlib.import_module(f"{package}.registered").LOCATIONS
        listed = {location for locations in table.values() for location in locations}
        registering = {
            name
            for name, path in MODULES.items()
            if name.startswith(f"{package}.") and re.search(r"^@\w+\.register_module", path.read_text(), re.M)
        }
        reached = {name for name in registering if any(name == each or name.startswith(f"{each}.") for each in listed)}
        assert reached == registering
        for each in listed:
            assert any(name == each or name.startswith(f"{each}.") for name in registering)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A folder with an installed package that joins the registries, and two others whose tables cannot be imported."""
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "registered.py").write_text(
        "LOCATIONS = {'enhancer': ['stranger.networks'], 'hook': ['stranger.hooks', 'stranger.absent']}\n"
    )
    (package / "networks.py").write_text(
        "from llie_preproc.enhancers import Enhancer\n"
        "from llie_preproc.registry import MODELS\n\n\n"
        "@MODELS.register_module()\n"
        "class StrangeNet(Enhancer):\n"
        "    def forward(self, image):\n"
        "        return image / 2\n"
    )
    (package / "hooks.py").write_text(
        "from llie_preproc.registry import HOOKS\n\n\n@HOOKS.register_module()\nclass StrangeHook:\n    pass\n"
    )
    for name, target in (("stranger", "stranger.registered"), ("hidden", "json.nothing"), ("gone", "nowhere.table")):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[llie_preproc.registry]\n{name} = {target}:LOCATIONS\n")
    return tmp_path


def test_an_installed_package_joins_the_registries(stranger: Path, bare_programs: Programs) -> None:
    done = run(
        bare_programs,
        """
        import numpy as np
        from llie_preproc import enhance
        from llie_preproc.registry import HOOKS, MODELS
        print(enhance(np.full((4, 4, 3), 100, np.uint8), "strange_net").max(), MODELS.get("StrangeNet").__name__)
        print(HOOKS.get("StrangeHook").__name__)
        try:
            HOOKS.get("NoSuchHook")
        except ImportError as error:
            print(error)
        """,
        stranger,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = [line for line in done.stdout.splitlines() if "OneDL" not in line]
    assert first.split() == ["50", "StrangeNet"]
    assert second == "StrangeHook"
    assert "json.nothing of hidden is hidden by" in third or "nowhere" in third


# Modules of these folders may share a name, such as a command and what it runs, or a loss and its method.
SAME_THING = {
    frozenset({"commands", "datasets", "metrics", ""}),
    frozenset({"losses", "methods", "metrics", "ops"}),
    frozenset({"commands", "feature_encoders"}),
}
EVERYWHERE = {"__init__", "__main__", "base", "registered"}


def test_modules_that_share_a_name_belong_to_the_same_thing() -> None:
    rooms: dict[str, list[str]] = {}
    for path in MODULES.values():
        inside = path.relative_to(ROOT).parts[1:-1]
        rooms.setdefault(path.stem, []).append(inside[0] if inside else "")
    twins = {
        name: places
        for name, places in rooms.items()
        if name not in EVERYWHERE and len(places) > 1 and not any(set(places) <= each for each in SAME_THING)
    }
    assert twins == {}


def packages_of(statement: ast.stmt) -> set[str]:
    """Names of the packages that a statement imports."""
    if isinstance(statement, ast.Import):
        return {alias.name.partition(".")[0] for alias in statement.names}
    return {(statement.module or "").partition(".")[0]} if isinstance(statement, ast.ImportFrom) else set()


def skipped_without(statement: ast.stmt) -> set[str]:
    """Name of the package that a statement, a call of ``pytest.importorskip``, needs; empty for other statements."""
    found = re.match(r"pytest\.importorskip\('(\w+)", ast.unparse(statement))
    return {found[1]} if found else set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_test_that_needs_an_extra_is_skipped_before_it_imports_the_extra(path: Path) -> None:
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    needed = set().union(*map(skipped_without, statements))
    for statement in statements:
        assert not needed & packages_of(statement), f"line {statement.lineno}"
        needed -= skipped_without(statement)
