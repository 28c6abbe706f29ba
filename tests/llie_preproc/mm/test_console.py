"""Training commands write results to standard output, and warnings and progress to standard error."""

import io
import logging
import os
import re
import subprocess
import sys
import warnings

import pytest

from tests.support.places import ROOT

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger, print_log
from mmengine.optim import build_optim_wrapper

from llie_preproc.commands.llie import main
from llie_preproc.mm.chatter import silence
from llie_preproc.mm.console import quiet
from llie_preproc.registry import HOOKS
from tests.support import finetune_runs, training_runs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@HOOKS.register_module(force=True)
class Talkative(Hook):
    """Writes in every way that libraries do, before the training."""

    def before_train(self, runner):
        print("printed by a library")
        runner.logger.info("informed by a library")
        print_log("warned by a library", logger="current", level=logging.WARNING)
        print_log("warned without a logger", level=logging.WARNING)
        warnings.warn("warned by Python", stacklevel=1)


@pytest.fixture
def config(training_pictures, on_the_cpu):
    # Talkative is added to the hooks, and losses are logged in every second of the six iterations.
    options = {
        "custom_hooks": [*training_runs.HOOKS, {"type": "llie_preproc.Talkative"}],
        "default_hooks.logger": {"type": "LoggerHook", "interval": 2},
        "val_dataloader": {
            "batch_size": 1,
            "num_workers": 0,
            "sampler": {"type": "llie_preproc.DrawSampler", "shuffle": False},
            "dataset": {
                "type": "llie_preproc.PairedFolders",
                "low": str(training_pictures / "low"),
                "high": str(training_pictures / "high"),
            },
        },
        "val_cfg": {},
        "val_evaluator": {"type": "llie_preproc.ImageQuality", "metrics": "psnr"},
    }
    return training_runs.write_config(training_pictures, "supervised", **options)


def log(work):
    (file,) = work.glob("*/*.log")
    return file.read_text()


def test_a_training_prints_only_its_results(config, tmp_path, capsys):
    with pytest.warns(UserWarning, match="warned by Python"):
        assert main(["train", str(config), "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    *files, score = out.splitlines()
    assert files == [str(tmp_path / name) for name in ("epoch_3.pth", "enhancer.safetensors", "student.safetensors")]
    assert score.startswith("iqa/psnr: ")
    lines = err.splitlines()
    assert [line for line in lines if "warned" in line] == ["warning: warned by a library", "warned without a logger"]
    progress = [line for line in lines if line.startswith("training: ")]
    assert [re.search(r"\d/\d", line)[0] for line in progress] == ["2/6", "4/6", "6/6"]
    assert all("loss=0." in line for line in progress)
    results = [line for line in lines if line.startswith("validation after iteration ")]
    assert len(results) == 3
    assert len(lines) == len(progress) + len(results) + 2
    written = log(tmp_path)
    for said in (
        "printed by a library",
        "informed by a library",
        "warned by a library",
        "System environment",
        "Config:",
    ):
        assert said in written
        assert said not in out + err or "warned" in said


def test_a_terminal_shows_a_bar_with_the_losses_beside_it(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with pytest.warns(UserWarning, match="warned by Python"):
        assert main(["train", str(config), "--out", str(tmp_path)]) == 0
    shown = screen.getvalue()
    assert "training: 100%" in shown
    assert "6/6" in shown
    assert "loss=0." in shown
    # The results of the validation have a line of their own, not behind the bar.
    assert any(
        line.startswith("validation after iteration 6: iqa/psnr ") for line in shown.replace("\r", "\n").split("\n")
    )


@pytest.mark.slow
def test_a_finetuning_in_a_process_of_its_own_prints_only_its_results(tmp_path, on_the_cpu):
    """What the libraries print while they are imported does not appear either."""
    tiny = finetune_runs.make(tmp_path)
    work = tmp_path / "work"
    command = [sys.executable, "-m", "llie_preproc", *tiny.arguments(work, "--epochs", "1")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stderr
    results = done.stdout.splitlines()
    assert [line for line in results if not line.startswith("coco/")] == [
        str(work / name) for name in ("epoch_1.pth", "detector.pth", "enhancer.safetensors")
    ]
    assert any(line.startswith("coco/bbox_mAP: ") for line in results)
    assert "OneDL" not in done.stderr
    assert "is not installed" not in done.stderr
    assert "training: " in done.stderr
    written = log(work)
    for said in ("System environment", "Config:", "Hooks will be executed", "Evaluating bbox", "DONE (t="):
        assert said in written
        assert said not in done.stderr


def test_warnings_of_loaders_and_of_meshgrid_that_nobody_acts_upon_are_not_shown():
    def use():
        torch.utils.data.DataLoader([1], num_workers=os.cpu_count() + 1)
        torch.meshgrid(torch.zeros(1), torch.zeros(1))
        warnings.warn("for the user", stacklevel=1)

    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            use()
            silence()
            use()
    finally:
        torch.set_warn_always(before)
    texts = [str(each.message).split(" ")[0] for each in shown]
    assert texts == ["This", "torch.meshgrid:", "for", "for"]


def test_inside_a_command_an_earlier_logger_prints_only_warnings(capsys):
    from llie_preproc.mm.console import quiet

    logger = MMLogger.get_instance("made before", logger_name="made before")
    with quiet():
        logger.info("not for the console")
        logger.warning("for standard error")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: for standard error\n"


def test_inside_a_command_mmengine_says_nothing_of_parameters_that_a_config_freezes(capsys):
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad = False
    optimizer = {"type": "SGD", "lr": 0.1, "weight_decay": 0.1}
    with quiet():
        build_optim_wrapper(model, {"optimizer": optimizer, "paramwise_cfg": {"norm_decay_mult": 0.0}})
        print_log("warned by a library", logger="current", level=logging.WARNING)
    assert capsys.readouterr().err == "warning: warned by a library\n"
