"""The ``>>>`` examples of the packages print the output they show, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

from llie_preproc.errors import MissingExtraError
from tests.support.places import ROOT

PACKAGES = ("llie_preproc", "training", "detection_eval")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", [module_name(path) for path in FILES if ">>> " in path.read_text(encoding="utf-8")])
def test_examples_print_the_output_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Names without an example: abstract classes, and names that need a large file of weights or an annotation file.
WITHOUT = {"FeatureEncoder", "Protocol", "VisDroneMetric", "read_inception", "read_lpips"}


def public_packages() -> list[str]:
    """Names of the packages that list their public names in ``__all__``."""
    return [module_name(path) for path in FILES if path.name == "__init__.py" and "__all__" in path.read_text()]


@pytest.mark.parametrize("package", public_packages())
def test_public_names_have_an_example(package: str) -> None:
    module = importlib.import_module(package)
    names = [
        name for name in module.__all__ if inspect.isclass(each := getattr(module, name)) or inspect.isroutine(each)
    ]
    lacking = [name for name in names if ">>> " not in (getattr(module, name).__doc__ or "")]
    assert set(lacking) <= WITHOUT
