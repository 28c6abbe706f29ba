"""Errors of the system about files become one plain line, and a missing package is named with its extra."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llie_preproc.errors import MissingExtraError, needs, one_line, why_failed

ROOT = Path(__file__).parents[2]
TEXTS = st.text(max_size=12)
NAMES = st.one_of(
    st.none(), st.integers(-(2**31), 2**31), TEXTS, st.binary(max_size=12), TEXTS.map(Path), st.builds(OSError)
)


@given(number=st.sampled_from(sorted(errno.errorcode)), first=NAMES, second=NAMES, own=st.booleans())
def test_any_error_of_the_system_becomes_one_line_with_its_files(
    number: int, first: object, second: object, own: bool
) -> None:
    words = "Cannot read /data/directory/x" if own else os.strerror(number)
    error = OSError(number, words, first, None, second)
    line = one_line(error)
    assert "\n" not in line
    assert not line.startswith(": ")
    assert why_failed("x", error)
    if own:
        assert line.endswith(words) or isinstance(error, FileExistsError)
    # Python keeps a second file only if there is a first one.
    for name in (error.filename, error.filename2):
        if isinstance(name, Path) and str(name).isprintable() and str(name).strip() == str(name):
            assert " ".join(str(name).split()) in line or "\\" in line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), Path("b.json")), "b.json: no such file or folder"),
        (OSError(errno.EBADF, os.strerror(errno.EBADF), 99), "99: bad file descriptor"),
        (OSError(errno.EIO, b"boom"), "b'boom'"),
        (OSError("nothing of the system's"), "nothing of the system's"),
    ],
)  # fmt: skip
def test_the_message_of_an_error_begins_with_the_file(error: OSError, line: str) -> None:
    assert one_line(error) == line


def test_an_existing_path_is_called_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError) as raised:
            name.mkdir()
        assert one_line(raised.value) == f"{name}: a {'folder' if name == tmp_path else 'file'} has this name"


def test_the_reason_for_a_file_does_not_repeat_its_name() -> None:
    assert why_failed("x.png", ValueError("x.png: damaged\nmore")) == "damaged"
    assert why_failed("x.png", ValueError("\nfoo")) == "foo"
    assert "no such file" in why_failed("x.png", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a\nb.png"))


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """The requirements of ``pyproject.toml``, and the extras that list each optional one, without those for tests."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, set[str]] = {}
    del project["optional-dependencies"]["dev"]
    for extra, requirements in project["optional-dependencies"].items():
        for requirement in requirements:
            extras.setdefault(re.split(r"[^\w-]", requirement)[0], set()).add(extra)
    always = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    return always, {name: found for name, found in extras.items() if name not in always | {"llie-preproc"}}


def test_the_extra_of_a_missing_package_is_one_that_lists_it() -> None:
    always, extras = declared()
    modules: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(distribution.replace("_", "-"), set()).add(module)
    assert {"onedl-mmdetection", "scikit-image", "torch-fidelity"} <= set(extras)
    for distribution, names in extras.items():
        own = modules.get(distribution, {distribution.replace("-", "_")})
        assert {MissingExtraError(module, "this").extra for module in own} & names, distribution
    assert {MissingExtraError(module, "this").extra for name in always for module in modules[name]} == {None}


def test_a_package_without_an_extra_raises_its_own_error() -> None:
    for module in ("torch", "llie_preproc.nonesuch", "nonesuch"):
        with pytest.raises(ModuleNotFoundError), needs("this"):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert MissingExtraError("yaml", "this").extra == "mm"


@pytest.mark.parametrize(
    ("module", "last_line"),
    [
        ("skimage.data", "MissingExtraError: this needs the package 'skimage', which is not installed: {}scikit-image"),
        ("segment_anything", "MissingExtraError: this needs the package .*: {}segment-anything"),
        ("llie_preproc.nonesuch", "ModuleNotFoundError: No module named 'llie_preproc.nonesuch'"),
    ],
)
def test_an_uninstalled_project_names_the_package_itself(tmp_path: Path, module: str, last_line: str) -> None:
    # The link leaves out metadata of the project, which an installer may have left beside the sources.
    (tmp_path / "llie_preproc").symlink_to(ROOT / "llie_preproc")
    code = f"from llie_preproc.errors import needs\nwith needs('this', 'demo'):\n    import {module}"
    # The option -S hides everything that is installed.
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert re.search(last_line.format("pip install ") + "$", done.stderr.strip()), done.stderr
