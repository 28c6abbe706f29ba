"""A resumed ``llie compare`` gives the same detections as an uninterrupted one, whatever ran before."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from detection_eval.compare import run_cells
from detection_eval.compare.comparison_store import Comparison
from llie_preproc.commands.llie import main
from llie_preproc.mm.progress import ProgressBar
from tests.support.tiny_detection import arguments

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")

MODES = ["--enhancer", "psenet", "--modes", "raw", "retrained", "joint"]


def into(command: list[str], folder: Path) -> list[str]:
    """The command with ``folder`` as its ``--out``."""
    changed = list(command)
    changed[changed.index("--out") + 1] = str(folder)
    return changed


def detections(folder: Path) -> dict[str, bytes]:
    comparison = Comparison(folder)
    assert not comparison.unfinished()
    return {cell.name: comparison.detections_path(cell).read_bytes() for cell in comparison.cells}


def interrupt_iterations(patch: pytest.MonkeyPatch, numbers: set[int], number: signal.Signals) -> None:
    """Send a signal after the given iterations, counted from 1 over all trainings of the process."""
    count = 0
    plain = ProgressBar.after_train_iter

    def step(self, runner, *rest, **named):
        nonlocal count
        count += 1
        plain(self, runner, *rest, **named)
        if count in numbers:
            os.kill(os.getpid(), number)
            time.sleep(10)

    patch.setattr(ProgressBar, "after_train_iter", step)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    command = [*arguments(folder), *MODES]
    torch.manual_seed(1)
    assert main(command) == 0
    return command, detections(folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_resumes_to_the_same_detections(undisturbed, tmp_path, monkeypatch, capsys, number):
    command, expected = undisturbed
    command = into(command, tmp_path)
    # A training has four iterations and a checkpoint after the second. Each call finishes the interrupted cell from
    # there, and is stopped in the third iteration of the next cell.
    for resume, stop in (([], 3), (["--resume"], 5), (["--resume"], 5)):
        with monkeypatch.context() as patch:
            interrupt_iterations(patch, {stop}, number)
            assert main([*command, *resume]) == 130
        printed = capsys.readouterr().err.splitlines()
        assert printed[-1] == "llie: interrupted; --resume goes on"
        assert not any("Traceback" in line for line in printed)
        assert not list(tmp_path.rglob("error.txt"))
        assert not list(tmp_path.rglob(".*.tmp*"))
        assert len(list(tmp_path.rglob("iter_2.pth"))) == 1
    assert main([*command, "--resume"]) == 0
    assert detections(tmp_path) == expected


@pytest.mark.slow
def test_workers_of_the_loader_change_no_detection(undisturbed, tmp_path, monkeypatch):
    command, expected = undisturbed
    command = [*into(command, tmp_path), "--cfg-options", "train_dataloader.num_workers=2"]
    with monkeypatch.context() as patch:
        interrupt_iterations(patch, {3}, signal.SIGINT)
        assert main(command) == 130
    assert main([*command, "--resume"]) == 0
    assert detections(tmp_path) == expected


@pytest.mark.slow
def test_a_cell_depends_on_nothing_that_ran_before(undisturbed, tmp_path, monkeypatch):
    command, expected = undisturbed
    by_length = run_cells._by_length
    monkeypatch.setattr(run_cells, "_by_length", lambda cells: by_length(cells)[::-1])
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    assert main(into(command, tmp_path)) == 0
    assert detections(tmp_path) == expected
    # Each cell also runs alone, in its own folder.
    for mode in ("raw", "joint"):
        alone = into(command[: command.index("--modes")], tmp_path / mode)
        assert main([*alone, "--modes", mode]) == 0
        assert detections(tmp_path / mode).items() <= expected.items()


def test_a_test_picture_that_changed_under_its_name_is_another_comparison(tmp_path, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none"]
    assert main(command) == 0
    made = detections(tmp_path / "out")
    picture = tmp_path / "test" / "3.png"
    stored = picture.read_bytes()
    picture.write_bytes((tmp_path / "test" / "4.png").read_bytes())
    capsys.readouterr()
    assert main([*command, "--resume"]) == 2
    error = capsys.readouterr().err
    assert "out holds another comparison, which differs in pictures_sha256" in error
    assert error.count("\n") == 1
    assert main([*command, "--resume", "--exposures", "0", "-2"]) == 2
    error = capsys.readouterr().err
    assert "of the pictures as they are, and this one is with --exposures: choose another --out" in error
    # The same pictures, written again, are the same comparison.
    picture.write_bytes(stored)
    assert main([*command, "--resume"]) == 0
    assert detections(tmp_path / "out") == made
