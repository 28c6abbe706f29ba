"""The source of the packages writes no file in place, so that a file appears whole or not at all."""

import ast

import pytest

from tests.support.places import ROOT

PACKAGES = ("llie_preproc", "detection_eval", "training", "benchmarks")
_WRITERS = {"write_text", "write_bytes", "savefig", "imwrite", "to_csv", "savez", "savez_compressed"}
# Calls that write to memory, to a temporary file of atomic_path, or to a temporary folder.
ALLOWED = {
    ("benchmarks/convert_annotations.py", "write_bytes"),
    ("benchmarks/convert_annotations.py", "write_text"),
    ("benchmarks/lol_training.py", "open"),
    ("benchmarks/timed_training.py", "open"),
    ("detection_eval/faces/kept_detections.py", "savez_compressed"),
    ("detection_eval/shared/page/svg_plots.py", "savefig"),
    ("llie_preproc/video/ffmpeg.py", "open"),
}


def _mode(call):
    """The mode of a call of ``open``: the second argument of the built-in, the first of a path's method."""
    place = 1 if isinstance(call.func, ast.Name) else 0
    given = [each.value for each in call.keywords if each.arg == "mode"] + call.args[place : place + 1]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "r"


def writes(source):
    """Yield the names of calls that write a file in place."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in _WRITERS:
            yield name
        # Mode "x" is allowed: it fails if the file exists, and temporary files are opened with it.
        if name == "open" and set(str(_mode(node))) & set("wa"):
            yield name


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_written_in_place(package):
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / package).rglob("*.py")
        for name in writes(path.read_text(encoding="utf-8"))
    }
    assert found <= ALLOWED


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("path.write_text('x')", "write_text"),
        ("open(path, 'w')", "open"),
        ("path.open('ab')", "open"),
        ("open(path, mode='w')", "open"),
        ("figure.savefig(path)", "savefig"),
    ],
)
def test_the_check_finds_calls_that_write(source, name):
    assert list(writes(source)) == [name]


@pytest.mark.parametrize("source", ["open(path)", "path.open('rb')", "path.open('xb')", "write_text(path, 'x')"])
def test_the_check_allows_other_calls(source):
    assert not list(writes(source))
