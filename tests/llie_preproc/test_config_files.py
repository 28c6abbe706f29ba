"""``read_config_file`` runs no tag of a YAML file, reads bases and variables, and reports faults in one line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

from mmengine.config import Config
from mmengine.fileio.handlers import file_handlers
from mmengine.logging import MMLogger

from llie_preproc.config_files import naming_missing_files, read_config_file


def tag(folder: Path) -> str:
    return f"!!python/object/apply:os.system [\"touch '{folder / 'marker'}'\"]"


def alone(folder: Path) -> Path:
    return write(folder / "alone.yaml", f"model: {tag(folder)}\n")


def short_suffix(folder: Path) -> Path:
    return write(folder / "alone.yml", f"model: {tag(folder)}\n")


def behind_a_substitution(folder: Path) -> Path:
    """The tag is inside a quoted text until MMEngine inserts the variable."""
    return write(folder / "hidden.yaml", f'x: # {{{{$NO_SUCH_VARIABLE:1\n  "}}}}\nevil: {tag(folder)}\ny: # "\n')


def in_a_base(folder: Path) -> Path:
    return write(folder / "top.json", json.dumps({"_base_": [alone(folder).name], "model": {"type": "X"}}))


def in_a_base_of_a_program(folder: Path) -> Path:
    return write(folder / "top.py", f"_base_ = [{alone(folder).name!r}]\n")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("make", [alone, short_suffix, behind_a_substitution, in_a_base, in_a_base_of_a_program])
def test_no_tag_is_run(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=path.name):
        read_config_file(str(path))
    assert not (tmp_path / "marker").exists()


def test_mmengines_own_reader_runs_a_tag(tmp_path: Path) -> None:
    """If it did not, the test above could not fail. Our own reader leaves MMEngine's readers unchanged."""
    before = dict(file_handlers)
    with pytest.raises(ValueError, match="hidden"):
        read_config_file(str(behind_a_substitution(tmp_path)))
    assert file_handlers == before
    Config.fromfile(str(behind_a_substitution(tmp_path)))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_plain_values_are_read(tmp_path: Path, suffix: str) -> None:
    base = write(tmp_path / "base.yaml", "model: {type: PSENet}\n")
    path = write(tmp_path / f"top{suffix}", json.dumps({"_base_": base.name, "model": {"width": 1.0}}))
    assert read_config_file(str(path), {"epochs": 3}).to_dict() == {
        "model": {"type": "PSENet", "width": 1.0},
        "epochs": 3,
    }


class Told(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_variables_are_inserted_without_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME_OF_A_BASE", "one")
    monkeypatch.setattr(MMLogger.get_current_instance(), "handlers", [told := Told()])
    write(tmp_path / "one.py", "x = 1\n")
    path = write(tmp_path / "top.py", "_base_ = '{{$NAME_OF_A_BASE:other}}.py'\n")
    assert read_config_file(str(path)).to_dict() == {"x": 1}
    assert told.messages == []
    # MMEngine's own reader logs a message, and is unchanged.
    Config.fromfile(str(path))
    assert any("NAME_OF_A_BASE" in message for message in told.messages)


def test_a_variable_that_is_set_but_empty_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "base.py", 'root = "{{$LLIE_TEST_ROOT:data/night}}"\n')
    path = write(tmp_path / "a.py", '_base_ = "base.py"\n')
    assert read_config_file(str(path)).root == "data/night"
    monkeypatch.setenv("LLIE_TEST_ROOT", "")
    with pytest.raises(ValueError, match=r"a\.py: the variable LLIE_TEST_ROOT is set but empty: give it a value"):
        read_config_file(str(path))
    write(tmp_path / "base.py", 'root = "{{$LLIE_TEST_OTHER:}}"\n')
    with pytest.raises(ValueError, match=r"a\.py: the variable LLIE_TEST_OTHER is not set, and the config has no"):
        read_config_file(str(path))


@pytest.mark.parametrize("others", [["one", "two"], []])
def test_a_missing_base_is_named_with_the_files_of_its_folder(tmp_path: Path, others: list[str]) -> None:
    (tmp_path / "bases").mkdir()
    for other in others:
        write(tmp_path / "bases" / f"{other}.py", "")
    path = write(tmp_path / "top.py", "_base_ = 'bases/../bases/oen.py'\n")
    with pytest.raises(ValueError, match=r"top\.py: there is no \S*/bases/oen\.py") as caught:
        read_config_file(str(path))
    assert str(caught.value).endswith("; its folder has one.py, two.py" if others else "oen.py")


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ("_base_ = 'top.py'\n", {}),
        ("_base_ = ['one.py']\n", {"one.py": "_base_ = 'two.json'\n", "two.json": '{"_base_": ["top.py"]}'}),
        ("_base_ = 'other.yaml'\n", {"other.yaml": "_base_: [other.yaml]\n"}),
        ("from mmengine.config import read_base\nwith read_base():\n    from .top import *\n", {}),
    ],
)
def test_a_circle_of_bases_is_reported_in_one_short_line(tmp_path: Path, first: str, others: dict[str, str]) -> None:
    path = write(tmp_path / "top.py", first)
    for name, text in others.items():
        write(tmp_path / name, text)
    with pytest.raises(ValueError, match="is its own base") as caught:
        read_config_file(str(path))
    round_ = tmp_path / "other.yaml" if "other.yaml" in others else path
    way = ", by way of one.py, two.json" if len(others) == 2 else ""
    assert str(caught.value) == f"{path}: {round_} is its own base (_base_){way}"


def test_another_recursion_is_reported_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "top.py", "def f():\n    return f()\n\n\nx = f()\n")
    with pytest.raises(ValueError, match=r"top\.py: RecursionError: maximum recursion depth"):
        read_config_file(str(path))


@pytest.mark.parametrize("name", ["list.json", "list.yaml", "base.py"])
def test_a_file_that_holds_no_object_is_refused_in_plain_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "base.py").write_text("_base_ = './list.json'\n")
    with pytest.raises(ValueError, match=rf"{name}: it, or a base of it, holds a list, expected an object"):
        read_config_file(str(tmp_path / name))


def test_a_shipped_config_that_is_named_outside_of_a_clone_is_found_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "mm_configs/enhancers/psenet_sice.py"
    with pytest.raises(FileNotFoundError, match=rf"^no config file {name}; there is /") as refused:
        read_config_file(name)
    found = read_config_file(str(refused.value).split("there is ")[1])
    assert found.model.type == "llie_preproc.ProgressiveSelfEnhancement"
    for other in ("mm_configs/enhancers/none.py", "configs/psenet_sice.py"):
        with pytest.raises(FileNotFoundError, match=rf"^no config file {other}$"):
            read_config_file(other)


def test_what_a_config_prints_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.py").write_text("print('from the base')\n")
    (tmp_path / "top.py").write_text("_base_ = './base.py'\nprint('from the top')\n")
    read_config_file(str(tmp_path / "top.py"))
    out, err = capsys.readouterr()
    assert out == ""
    assert {"from the base", "from the top"} <= set(err.splitlines())


@pytest.mark.parametrize(
    ("told", "origin"),
    [
        ("no folder data/night", "data.root of the config, set by the variable NIGHT_ROOT"),
        ("data/night/low: no such file", "data.root of the config, set by the variable NIGHT_ROOT"),
        ("no file data/day/truth.json", "data.ann_file of the config"),
        ("no folder data/nights", None),
        ("no folder lists", "data.lists of the config"),
        ("no folder elsewhere/lists/all", None),
        ("no folder elsewhere", None),
    ],
)
def test_an_error_about_a_missing_file_names_the_key_and_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, origin: str | None
) -> None:
    monkeypatch.delenv("NIGHT_ROOT", raising=False)
    data = "root='{{$NIGHT_ROOT:data/night}}', ann_file='data/day/truth.json', lists='lists', prefix='/'"
    (tmp_path / "base.py").write_text(f"data = dict({data})\n")
    (tmp_path / "top.py").write_text("_base_ = './base.py'\n")
    cfg = read_config_file(str(tmp_path / "top.py"))
    expected = f"{told} ({origin})" if origin else told
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(expected)}$"), naming_missing_files(cfg):
        raise FileNotFoundError(told)


def test_the_key_and_the_variable_of_another_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHT_ROOT", str(tmp_path / "mine"))
    (tmp_path / "top.py").write_text("low = '{{$NIGHT_ROOT:data/night}}/low'\n")
    cfg = read_config_file(str(tmp_path / "top.py"))
    message = r"low of the config, set by the variable NIGHT_ROOT\)$"
    with pytest.raises(FileNotFoundError, match=message), naming_missing_files(cfg):
        (tmp_path / "mine" / "low" / "1.png").open()
