"""Commands that run MMEngine's Runner load checkpoints safely: no code runs, and bad weights are refused."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import finetune_runs

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import torch

from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from tests.support import training_runs
from tests.support.hostile_pickles import runs_code, write

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(autouse=True)
def _restore_what_hostile_code_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._utils, "_rebuild_tensor", torch._utils._rebuild_tensor)


class Made:
    """Inputs of the commands.

    Attributes:
        tiny: Tiny detector, its checkpoint and its sets.
        training: Config of the training of an enhancer.
        run: Work folder of a finished run of that training.
    """

    def __init__(self, folder: Path) -> None:
        training_runs.make_pictures(folder / "pictures")
        self.tiny = finetune_runs.make(folder)
        self.training = training_runs.write_config(folder / "pictures", "supervised", **{"train_cfg.max_epochs": 1})
        self.run = folder / "run"
        assert main(["train", str(self.training), "--out", str(self.run)]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def train_from(made: Made, source: str, work: Path) -> int:
    return main(["train", str(made.training), "--out", str(work), "--cfg-options", f"load_from={source}"])


def finetune_from(made: Made, source: str, work: Path) -> int:
    return main([*made.tiny.arguments(work, "--epochs", "1"), "--detector-checkpoint", source])


def finetune_by_options(made: Made, source: str, work: Path) -> int:
    return main(made.tiny.arguments(work, "--epochs", "1", "--cfg-options", f"load_from={source}"))


def compared(made: Made, work: Path, *options: str) -> int:
    sets = ["--train", *made.tiny.train, "--test", *made.tiny.val, "--enhancer", "none", "--modes", "raw"]
    given = ["--detector", str(made.tiny.config), *sets, "--out", str(work), "--resamples", "5"]
    return main(["compare", *given, *options])


def compare_trained(made: Made, source: str, work: Path) -> int:
    return compared(made, work, "--detector-checkpoint", source)


def compare_from(made: Made, source: str, work: Path) -> int:
    return compared(made, work, "--cfg-options", f"load_from={source}")


def compare_with_backbone(made: Made, source: str, work: Path) -> int:
    given = [f"model.backbone.init_cfg.checkpoint={source}", "model.backbone.init_cfg.type=Pretrained"]
    return compared(made, work, "--cfg-options", *given)


def split_it(made: Made, source: str, work: Path) -> int:
    return main(["split", source, "--out", str(work)])


COMMANDS = [
    train_from, finetune_from, finetune_by_options, compare_trained, compare_from, compare_with_backbone, split_it
]  # fmt: skip
Command = Callable[[Made, str, Path], int]


def status_of(command: Command, made: Made, source: str, work: Path) -> int:
    with contextlib.suppress(SystemExit):
        return command(made, source, work)
    return 2


@pytest.mark.examples(3)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_file_with_code_is_refused_and_not_run(
    made: Made, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / "code.pth", runs_code(marker))
    url = f"{path.as_uri()}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
    for number, source in enumerate((str(path), url)):
        assert status_of(command, made, source, tmp_path / f"work{number}") != 0
        assert "code.pth is damaged, unsafe" in capsys.readouterr().err
        assert not marker.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_url_without_its_digest_is_not_fetched(
    made: Made, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(*args: object, **options: object) -> None:
        raise AssertionError(f"fetched {args}")

    monkeypatch.setattr("torch.hub.download_url_to_file", fetched)
    monkeypatch.setattr("mmengine.runner.checkpoint.load_url", fetched)
    assert status_of(command, made, "http://127.0.0.1:9/a.pth", tmp_path / "work") != 0
    assert "a URL must end in '#sha256='" in capsys.readouterr().err


def test_a_work_folder_with_code_is_not_resumed(made: Made, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name in ("train", "finetune"):
        work = tmp_path / name
        work.mkdir()
        write(work / "epoch_1.pth", runs_code(marker))
        given = ["train", str(made.training), "--out", str(work)] if name == "train" else made.tiny.arguments(work)
        assert main([*given, "--resume"]) == 2
        assert not marker.exists()


def spoilt(path: Path, target: Path, value: float) -> Path:
    """Copy the checkpoint of a run to ``target`` with one number replaced by ``value``."""
    checkpoint = read_checkpoint(path)
    name = next(k for k, v in checkpoint["state_dict"].items() if v.is_floating_point() and v.numel() > 1)
    checkpoint["state_dict"][name].view(-1)[0] = value
    target.parent.mkdir(exist_ok=True)
    torch.save(checkpoint, target)
    return target


@pytest.mark.examples(3)
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("command", [train_from, finetune_from, compare_trained, compare_from])
def test_weights_that_are_not_finite_are_refused(
    made: Made, tmp_path: Path, command: Command, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    start = saved_checkpoints(made.run)[-1] if command is train_from else made.tiny.detector
    path = spoilt(start, tmp_path / "weights.pth", value)
    assert status_of(command, made, str(path), tmp_path / "work") != 0
    assert "is not finite: 1 of" in capsys.readouterr().err


def test_a_run_that_diverged_is_not_resumed(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = saved_checkpoints(made.run)[-1]
    spoilt(last, tmp_path / "work" / last.name, torch.nan)
    longer = ["--resume", "--cfg-options", "train_cfg.max_epochs=2"]
    assert main(["train", str(made.training), "--out", str(tmp_path / "work"), *longer]) == 2
    assert "is not finite: 1 of" in capsys.readouterr().err


def test_a_resumed_run_keeps_the_earlier_log(made: Made, tmp_path: Path) -> None:
    """The log holds the numbers of the earlier run unchanged, and those of the resumed one."""
    last = saved_checkpoints(made.run)[-1]
    before = read_checkpoint(last)["message_hub"]["log_scalars"]
    work = tmp_path / "work"
    work.mkdir()
    (work / last.name).write_bytes(last.read_bytes())
    longer = ["--resume", "--cfg-options", "train_cfg.max_epochs=2"]
    assert main(["train", str(made.training), "--out", str(work), *longer]) == 0
    after = read_checkpoint(saved_checkpoints(work)[-1])["message_hub"]["log_scalars"]
    steps = len(before["train/loss"].data[0])
    assert steps == training_runs.PICTURES // 8
    assert before.keys() <= after.keys()
    for key, values in before.items():
        assert after[key].data[0][:steps].tolist() == values.data[0].tolist()
    assert len(after["train/loss"].data[0]) == 2 * steps
