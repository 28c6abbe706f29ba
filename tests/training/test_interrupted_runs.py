"""A training or finetuning that is interrupted leaves only whole files, and resumes to the same weights."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import torch
from safetensors.torch import load_file

from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from llie_preproc.numbered_draws import StepSeed
from tests.support.finetune_runs import last_state, same
from tests.support.marks import slow_where
from tests.support.processes import Programs
from tests.support.programs import command_line
from tests.support.training_runs import make_pictures, write_config
from training.hooks import IterationSeed

GOES_ON = "llie: interrupted; the same command with --resume goes on from the last checkpoint"


@pytest.fixture(autouse=True)
def _quick_and_interruptible(
    monkeypatch: pytest.MonkeyPatch, on_the_cpu: None, ctrl_c_is_heard: None
) -> Iterator[None]:
    # MMEngine's loggers may still hold a stream that pytest closed after an earlier test.
    monkeypatch.setattr("logging.raiseExceptions", False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def interrupt_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Send SIGINT in the ``number``-th call of a function, counted from 1."""
    plain, calls = getattr(owner, name), 0

    def call(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        return plain(*given, **named)

    patch.setattr(owner, name, call)


def is_whole(work: Path) -> None:
    """Assert that no temporary file is left, and that every checkpoint and export can be read."""
    assert not [path for path in work.rglob(".*") if path.is_file()]
    for path in saved_checkpoints(work):
        assert read_checkpoint(path)["state_dict"]
    for path in work.glob("*.safetensors"):
        assert load_file(path)


# A training is interrupted in the step of an iteration, or while it writes a file: a checkpoint or an export.
MOMENTS = [("step", 1), ("step", 4), *(("write", number) for number in (1, 2, 3, 4))]


@pytest.mark.parametrize("moment", slow_where({*MOMENTS} - {("step", 4), ("write", 2)}, MOMENTS), ids=str)
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, monkeypatch, capsys, moment):
    kind, number = moment
    make_pictures(tmp_path)
    config = str(write_config(tmp_path, "supervised"))
    assert main(["train", config, "--out", str(tmp_path / "whole")]) == 0
    command = ["train", config, "--out", str(tmp_path / "cut"), "--resume"]
    with monkeypatch.context() as patch:
        interrupt_call(patch, *((IterationSeed, "before_train_iter") if kind == "step" else (os, "fsync")), number)
        assert main(command) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == GOES_ON
    assert "Traceback" not in err
    is_whole(tmp_path / "cut")
    assert main(command) == 0
    assert same(last_state(tmp_path / "whole"), last_state(tmp_path / "cut"))


@pytest.mark.slow(60)
@pytest.mark.parametrize(("config", "workers"), [("epochs.py", 0), ("tiny.py", 2)])
def test_an_interrupted_finetuning_resumes_to_the_same_weights(tiny, tmp_path, monkeypatch, capsys, config, workers):
    """One config runs by epochs; the other by iterations, so it resumes within an epoch, with new worker processes."""
    given = tiny.arguments(tmp_path, "--cfg-options", f"train_dataloader.num_workers={workers}")
    position = given.index(str(tiny.config))
    given[position] = str(tiny.config.with_name(config))

    def into(folder: Path) -> list[str]:
        return [str(folder) if each == str(tmp_path) else each for each in given]

    assert main(into(tmp_path / "whole")) == 0
    command = [*into(tmp_path / "cut"), "--resume"]
    for number in (2, 4):
        with monkeypatch.context() as patch:
            interrupt_call(patch, StepSeed, "before_train_iter", number)
            code = main(command)
        printed = capsys.readouterr().err
        if code == 0:
            break
        assert code == 130
        assert printed.splitlines()[-1] == GOES_ON
        is_whole(tmp_path / "cut")
    assert code == 0 or main(command) == 0
    assert same(last_state(tmp_path / "whole"), last_state(tmp_path / "cut"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_in_a_terminal_ends_a_run_and_its_workers_with_one_line(tmp_path, programs: Programs):
    """A terminal sends SIGINT to every process of the group, so that each could print a traceback."""
    make_pictures(tmp_path)
    options = {"train_dataloader.num_workers": 2, "train_cfg": {"by_epoch": True, "max_epochs": 500}}
    config = write_config(tmp_path, "supervised", **options)
    work = tmp_path / "work"
    process = programs.start(*command_line("train", config, "--out", work), new_session=True)
    deadline = time.monotonic() + 120
    while not saved_checkpoints(work) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err[-2000:]
    assert "Traceback" not in err
    assert err.splitlines()[-1] == GOES_ON
    is_whole(work)
