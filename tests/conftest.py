"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton decides when it is imported whether its interpreter runs the kernels.
    os.environ.setdefault("TRITON_INTERPRET", "1")
from tests.support.command import llie as llie
from tests.support.marks import leave_examples, longest_first
from tests.support.processes import _bare_programs as _bare_programs
from tests.support.processes import _programs as _programs
from tests.support.processes import bare_programs as bare_programs
from tests.support.processes import programs as programs
from tests.support.shortcuts import take_shortcuts
from tests.support.signals import ctrl_c_is_heard as ctrl_c_is_heard

take_shortcuts()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    leave_examples(items)


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def _those_that_are_left_are_sorted(items: list[pytest.Item]) -> None:
    longest_first(items)


def pytest_collection_finish() -> None:
    _leave_out_what_stays()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and nextitem.path != item.path:
        _leave_out_what_stays()


def _leave_out_what_stays() -> None:
    """Keep modules and caches from the collector of garbage, which each dataset of MMEngine calls."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _first_default_scopes() -> dict:
    """MMEngine's default scopes once all test modules are imported: before any fixture of a module runs a Runner."""
    registry = sys.modules.get("mmengine.registry")
    return dict(registry.DefaultScope._instance_dict) if registry else {}


@pytest.fixture(autouse=True)
def _the_default_scope_stays(_first_default_scopes: dict):
    """A Runner sets MMEngine's default scope for the rest of the process."""
    yield
    if registry := sys.modules.get("mmengine.registry"):
        instances = registry.DefaultScope._instance_dict
        instances.clear()
        instances.update(_first_default_scopes)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of other people's images, weights and reference values, which is no part of a user's clone."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the reference data is not at {folder}")
    return folder


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA computes in whole float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture(scope="module")
def on_the_cpu() -> Iterator[None]:
    """MMEngine runs on the CPU, whatever is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.device.utils.DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def training_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the pictures that ``write_config`` of ``training_runs`` writes configs for."""
    from tests.support.training_runs import make_pictures

    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    return folder
