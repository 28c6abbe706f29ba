"""A training whose weights or losses are not finite ends with one line, and keeps the last good checkpoint."""

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from safetensors.torch import load_file
from torch import nn

from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import saved_checkpoints
from llie_preproc.registry import MODELS
from tests.support import diverged_runs
from tests.support.diverged_runs import OVERFLOW
from tests.support.training_runs import write_config
from training.run_checkpoints import read_run

pytestmark = pytest.mark.usefixtures("on_the_cpu")

L1 = {"type": "llie_preproc.L1Loss"}


@MODELS.register_module()
class UndefinedLoss(nn.Module):
    """A loss that is NaN and has no gradient, so the weights stay finite."""

    def forward(self, output, target):
        return torch.tensor(torch.nan)


def diverged(capsys, config, work, *options):
    """Run the training, which must end with status 1; return the line that says why."""
    assert main(["train", str(config), "--out", str(work), *options]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("diverged") == 1
    return error.strip().splitlines()[-1]


def test_weights_that_overflow_end_the_run_and_keep_the_last_good_checkpoint(training_pictures, tmp_path, capsys):
    """Each epoch has two iterations; the learning rate is huge from the third iteration on."""
    work = tmp_path / "run"
    error = diverged(capsys, write_config(training_pictures, "supervised", param_scheduler=OVERFLOW), work)
    good = work / "epoch_1.pth"
    assert error.startswith("llie: error: the training diverged: after iteration ")
    assert "the tensor enhancer." in error
    assert " numbers are NaN or infinite" in error
    assert f"The last good checkpoint is {good}." in error
    assert saved_checkpoints(work) == [good]
    state = read_run(good)["state_dict"]
    exported = load_file(work / "enhancer.safetensors")
    assert all(value.isfinite().all() for value in [*state.values(), *exported.values()])
    # The run keeps an average of the weights, which is exported.
    assert all(torch.equal(value, state[f"average.{name}"]) for name, value in exported.items())


def test_a_run_that_diverges_before_its_first_checkpoint_says_so(training_pictures, tmp_path, capsys):
    late = {"param_scheduler": OVERFLOW, "default_hooks.checkpoint.interval": 3}
    error = diverged(capsys, write_config(training_pictures, "supervised", **late), tmp_path)
    assert "There is no earlier checkpoint" in error
    assert not list(tmp_path.glob("*.pth"))
    assert not list(tmp_path.glob("*.safetensors"))


def test_nothing_is_exported_beside_checkpoints_of_another_hook(training_pictures, tmp_path, capsys):
    other = {"default_hooks.checkpoint": {"_delete_": True, "type": "CheckpointHook", "interval": 1}}
    config = write_config(training_pictures, "supervised", param_scheduler=OVERFLOW, **other)
    assert "enhancer.safetensors is not written, because the tensor " in diverged(capsys, config, tmp_path)
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["epoch_1.pth"]
    assert all(value.isfinite().all() for value in load_file(tmp_path / "enhancer.safetensors").values())


@pytest.mark.parametrize("iterations", [49, 50])
def test_a_loss_that_is_never_finite_ends_a_run_with_finite_weights(training_pictures, tmp_path, capsys, iterations):
    loop = {"_delete_": True, "type": "IterBasedTrainLoop", "max_iters": iterations}
    hook = {"type": "llie_preproc.MethodCheckpointHook", "by_epoch": False, "interval": 60}
    changes = {"train_cfg": loop, "default_hooks.checkpoint": hook}
    changes["model.losses"] = {"l1": L1, "undefined": {"type": "llie_preproc.UndefinedLoss"}}
    config = write_config(training_pictures, "supervised", **changes)
    if iterations < 50:
        assert main(["train", str(config), "--out", str(tmp_path)]) == 0
        return
    error = diverged(capsys, config, tmp_path)
    assert "after iteration 50, " in error
    assert "loss_undefined was not finite in 50 iterations in a row" in error


def test_all_processes_of_a_run_that_diverges_end_with_status_1(training_pictures, tmp_path, programs):
    config = write_config(training_pictures, "supervised", batch=4, param_scheduler=OVERFLOW)
    work = tmp_path / "run"
    ended = programs.run_together(2, diverged_runs.__file__, config, work)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert [work.with_suffix(f".{rank}").read_text() for rank in range(2)] == ["1", "1"]
    assert [path.name for path in saved_checkpoints(work)] == ["epoch_1.pth"]
