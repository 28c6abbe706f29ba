"""``self_registration.py``: the modules of a package fill a table, and the settings of its entries become flags."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from detection_eval.self_registration import SelfRegistered, Setting, add_settings, misplaced, values_of
from llie_preproc.registry import joined_tables

MODULE = "from {package} import TABLE\nTABLE.register({name!r}, {value})\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of an importable package with a table."""
    folder = tmp_path / "colours_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from detection_eval.self_registration import SelfRegistered\n"
        "TABLE = SelfRegistered(__name__, 'colour', 'colour_of_a_test', skip=[f'{__name__}.skipped'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in (folder.name, "painter_of_a_test")]:
        del sys.modules[name]


def add(package: Path, module: str, name: str, value: int) -> None:
    text = MODULE.format(package=package.name, name=name, value=value)
    (package / f"{module}.py").write_text(text)


def table(package: Path) -> SelfRegistered[int]:
    return __import__(package.name).TABLE


def test_a_table_imports_the_modules_of_its_package_on_first_use(package: Path) -> None:
    add(package, "first", "red", 1)
    add(package, "second", "blue", 2)
    add(package, "skipped", "green", 3)
    colours = table(package)
    assert f"{package.name}.first" not in sys.modules
    assert dict(colours) == {"blue": 2, "red": 1}
    assert list(colours) == ["blue", "red"]
    assert "green" not in colours


def test_a_module_with_a_missing_extra_is_skipped(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piq", None)
    add(package, "first", "red", 1)
    (package / "needing.py").write_text("import piq\n")
    assert list(table(package)) == ["red"]


def test_modules_of_other_packages_join_the_table(package: Path, capsys: pytest.CaptureFixture) -> None:
    """A module that is broken or takes a used name is left out with a warning."""
    add(package, "first", "red", 1)
    other = package.parent / "painter_of_a_test"
    other.mkdir()
    (other / "__init__.py").write_text("LOCATIONS = {'colour_of_a_test': ['painter_of_a_test.' + n for n in 'wxyz']}\n")
    for module, name in (("x", "green"), ("z", "red")):
        (other / f"{module}.py").write_text(MODULE.format(package=package.name, name=name, value=3))
    (other / "y.py").write_text("1 / 0\n")
    (other / "w.py").write_text("raise SystemExit(3)\n")
    info = package.parent / "painter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: painter\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[llie_preproc.registry]\npainter = painter_of_a_test:LOCATIONS\n")
    joined_tables.cache_clear()
    try:
        assert dict(table(package)) == {"green": 3, "red": 1}
    finally:
        joined_tables.cache_clear()
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "warning: painter_of_a_test.w has no colour: SystemExit: 3"
    assert second == "warning: painter_of_a_test.y has no colour: ZeroDivisionError: division by zero"
    assert third == "warning: painter_of_a_test.z has no colour: ValueError: there is a colour 'red' already"


def test_a_broken_module_of_the_package_raises_each_time(package: Path) -> None:
    add(package, "first", "red", 1)
    (package / "wrong.py").write_text("import no_such_module_at_all\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            list(table(package))


def test_a_name_is_registered_only_once(package: Path) -> None:
    add(package, "first", "red", 1)
    add(package, "second", "red", 2)
    with pytest.raises(ValueError, match="there is a colour 'red' already"):
        list(table(package))


SIDE = Setting("side_of_box", "length of a side", 8, type=int, metavar="N")
DECLARED = {
    "box": [SIDE],
    "cube": [Setting("side_of_box", "length of an edge", 8, needed=True, type=int, metavar="N")],
    "disc": [Setting("kind", "kind of circle in %", "fine", choices=("fine", "coarse"))],
}


def test_the_help_of_a_flag_names_the_entries_that_have_it() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, DECLARED)
    text = " ".join(parser.format_help().split())
    assert "--side-of-box N box: length of a side; cube: length of an edge (default: 8)" in text
    assert "--kind {fine,coarse} disc: kind of circle in % (default: fine)" in text
    assert vars(parser.parse_args(["--side-of-box", "3"])) == {"side_of_box": 3, "kind": None}


def test_settings_of_one_name_must_be_declared_alike() -> None:
    other = {**DECLARED, "line": [Setting("side_of_box", "words")]}
    with pytest.raises(ValueError, match="line declares the setting side_of_box differently from box"):
        add_settings(argparse.ArgumentParser(), other)


def test_a_setting_has_the_given_value_or_its_default() -> None:
    assert values_of([SIDE], {"side_of_box": 0, "kind": "fine"}) == {"side_of_box": 0}
    assert values_of([SIDE], {"side_of_box": None}) == {"side_of_box": 8}
    assert misplaced(DECLARED, ["disc"], {"side_of_box": 0}) == ("side_of_box", ["box", "cube"])
    assert misplaced(DECLARED, ["cube"], {"side_of_box": 0, "kind": None}) is None


def test_a_setting_with_a_flag_of_the_command_is_refused_by_name() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind")
    with pytest.raises(ValueError, match=r"the setting kind of disc has a flag of the command: .*--kind"):
        add_settings(parser, DECLARED)
