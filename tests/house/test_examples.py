"""The ``>>>`` examples of the packages print what they say, and the public names have some."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from llie_preproc.errors import MissingExtraError
from tests.support.places import ROOT

PACKAGES = ("llie_preproc", "training", "detection_eval")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name under which a file of the packages is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", [module_name(path) for path in FILES if ">>> " in path.read_text(encoding="utf-8")])
def test_the_examples_print_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        done = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS, raise_on_error=True)
    except MissingExtraError as error:
        pytest.skip(str(error))
    except doctest.UnexpectedException as error:
        if isinstance(error.exc_info[1], MissingExtraError):
            pytest.skip(str(error.exc_info[1]))
        raise error.exc_info[1] from error
    except doctest.DocTestFailure as failure:
        pytest.fail(f"{failure.test}: {failure.example.source}expected {failure.example.want}got {failure.got}")
    assert done.attempted > 0
