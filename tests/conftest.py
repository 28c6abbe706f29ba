"""Fixtures and hooks of all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Triton reads this variable once, when it is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")
from tests.support.command import llie as llie
from tests.support.marks import leave_examples, longest_first, require_lasting_names
from tests.support.processes import _bare_programs as _bare_programs
from tests.support.processes import _programs as _programs
from tests.support.processes import bare_programs as bare_programs
from tests.support.processes import programs as programs
from tests.support.shortcuts import take_shortcuts
from tests.support.signals import ctrl_c_is_heard as ctrl_c_is_heard

take_shortcuts()
# Hypothesis's deadline of 200 ms for an example measures the machine, not the code.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    require_lasting_names(items)
    leave_examples(items)


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def _sort_what_is_left(items: list[pytest.Item]) -> None:
    longest_first(items)


def pytest_collection_finish() -> None:
    _freeze_live_objects()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and nextitem.path != item.path:
        _freeze_live_objects()


def _freeze_live_objects() -> None:
    """Take modules and caches out of the garbage collection, which every dataset of MMEngine starts."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _first_default_scopes() -> dict:
    """MMEngine's default scopes after the import of all test modules, before a fixture runs the first Runner."""
    registry = sys.modules.get("mmengine.registry")
    return dict(registry.DefaultScope._instance_dict) if registry else {}


@pytest.fixture(autouse=True)
def _default_scope_is_restored(_first_default_scopes: dict):
    """Restore MMEngine's default scope, which a Runner sets for the rest of the process."""
    yield
    if registry := sys.modules.get("mmengine.registry"):
        instances = registry.DefaultScope._instance_dict
        instances.clear()
        instances.update(_first_default_scopes)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public images, weights and reference values; a clone of the repository does not have it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the reference data is not at {folder}")
    return folder


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make CUDA compute in full float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture(scope="module")
def on_the_cpu() -> Iterator[None]:
    """Make MMEngine run on the CPU even where a GPU is present."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.device.utils.DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def training_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures that the configs of ``tests.support.training_runs`` train on."""
    from tests.support.training_runs import make_pictures

    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    return folder
