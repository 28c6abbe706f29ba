"""``llie train`` resumes, and runs in two processes and in mixed precision, with every method; it reports errors."""

import signal
import threading
import time

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.hooks import Hook
from safetensors.torch import load_file

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import saved_checkpoints
from llie_preproc.registry import DATASETS, HOOKS
from tests.support import training_runs
from tests.support.interrupted_runs import Interrupted
from tests.support.marks import slow_where
from tests.support.programs import command_line
from tests.support.training_runs import EPOCHS, METHODS, write_config
from training.run_checkpoints import read_run


@pytest.fixture(autouse=True)
def _quick(on_the_cpu, monkeypatch):
    # This backend needs no compilation, which would take longer than the few steps of these runs.
    monkeypatch.setenv("LLIE_SCAN_BACKEND", "chunked")


def weights(work):
    """The last state of the method and the exported enhancer."""
    state = read_run(saved_checkpoints(work)[-1])["state_dict"]
    return state | {f"exported.{k}": v for k, v in load_file(work / "enhancer.safetensors").items()}


def train(config, work, *options):
    assert main(["train", str(config), "--out", str(work), *options]) == 0
    return weights(work)


QUICK = {"supervised", "bilevel"}
"""Methods in the fast suite: one with a single network, and one with several networks and optimisers."""

RAN = []


class Code:
    """An object whose pickle runs code."""

    def __reduce__(self):
        return run, ()


def run():
    RAN.append(1)


@pytest.mark.examples(1)
@pytest.mark.parametrize("method", slow_where({*METHODS} - QUICK, sorted({*METHODS} - {"stochastic_depth"})))
def test_an_interrupted_run_resumes_to_the_same_weights(training_pictures, tmp_path, method):
    config = write_config(training_pictures, method)
    expected = train(config, tmp_path / "whole")
    hooks = [*training_runs.HOOKS, {"type": "llie_preproc.InterruptAt", "iteration": 3}]
    with pytest.raises(Interrupted):
        main(
            ["train", str(write_config(training_pictures, method, custom_hooks=hooks)), "--out", str(tmp_path / "cut")]
        )
    torch.rand(7)
    resumed = train(config, tmp_path / "cut", "--resume")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(v, resumed[k]) for k, v in expected.items())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(training_pictures, tmp_path, programs):
    epochs = 24
    config = write_config(training_pictures, "progressive", train_cfg={"by_epoch": True, "max_epochs": epochs})
    single = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = train(config, tmp_path / "whole")
    torch.set_num_threads(single)
    work = tmp_path / "killed"
    command = command_line("train", config, "--out", work, "--resume")
    for least in (2, 9):
        process = programs.start(*command)
        while not any(int(p.stem.split("_")[1]) >= least for p in saved_checkpoints(work)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(saved_checkpoints(work)) >= 1
    assert programs.run(*command).returncode == 0
    assert saved_checkpoints(work)[-1].stem == f"epoch_{epochs}"
    resumed = weights(work)
    assert all(torch.equal(v, resumed[k]) for k, v in expected.items())


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(training_pictures, tmp_path, programs):
    halves = [str(write_config(training_pictures, method, batch=4)) for method in METHODS]
    done = programs.run_together(2, training_runs.__file__, tmp_path, *halves)
    assert done.returncode == 0, done.stderr[-3000:]
    for method in METHODS:
        expected = train(write_config(training_pictures, method), tmp_path / "one" / method)
        together = weights(tmp_path / f"{method}_4")
        for name, value in expected.items():
            assert torch.allclose(value.float(), together[name].float(), rtol=0, atol=1e-5), (method, name)
        losses = [logged_losses(work) for work in (tmp_path / "one" / method, tmp_path / f"{method}_4")]
        assert len(losses[0]) == EPOCHS * training_runs.PICTURES // 8
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def logged_losses(work):
    """The logged loss of each iteration."""
    hub = read_run(saved_checkpoints(work)[-1])["message_hub"]
    return list(hub["log_scalars"]["train/loss"]._log_history)


@pytest.mark.examples(1)
@pytest.mark.parametrize("method", slow_where({*METHODS} - QUICK, sorted({*METHODS} - {"stochastic_depth"})))
def test_mixed_precision_takes_nearly_the_same_step(training_pictures, tmp_path, method):
    def learnt(name, *options, **changes):
        config = write_config(training_pictures, method, **changes, **{"train_cfg.max_epochs": 1})
        state = train(config, tmp_path / name, *options)
        return {k: v.double() for k, v in state.items() if k.startswith("enhancer.")}

    start = learnt("start", **{"optim_wrapper.enhancer.optimizer.lr": 0.0})
    full, mixed = learnt("full"), learnt("mixed", "--amp")
    assert all(v.isfinite().all() for v in mixed.values())
    steps = [torch.cat([(state[k] - start[k]).flatten() for k in start]) for state in (full, mixed)]
    assert not torch.equal(*steps)
    assert torch.cosine_similarity(*steps, dim=0) > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.enhancer.type=PSENett"], "progressive_8.py: enhancer: no enhancer 'PSENett'; is 'PSENet' meant"),
        (["model.tv_wieght=1"], "ProgressiveSelfEnhancement has no 'tv_wieght' (is 'tv_weight' meant?)"),
        (["optim_wraper.lr=1"], "is 'optim_wrapper' meant"),
        (["train_cfg.max_epocs=1"], "max_epocs"),
        (["optim_wrapper.enhancer.optimizer.type=Adamm"], "Adamm"),
        (["train_dataloader.dataset.folder=/nowhere"], "/nowhere"),
        (["train_dataloader.dataset.folder={empty}"], "no pictures below {empty}"),
        (["model.enhancer.checkpoint={zero_dce}"], "is not a checkpoint of PSENet"),
        (["load_from={zero_dce}"], "belong into model.enhancer.checkpoint"),
        (["load_from={other}"], "is not that of this run's enhancer"),
        (["load_from={listed}"], "not a checkpoint of a run"),
        (["load_from={code}"], "unsafe"),
        (["load_from=/nowhere.pth"], "no file /nowhere.pth"),
        (["param_scheduler.0.T_maxx=1"], "T_maxx"),
        (["param_scheduler.0.type=CosineAnealingLR"], "CosineAnealingLR"),
        (["default_hooks.checkpoint.intervall=1"], "'intervall'"),
        (["env_cfg.cudnn_benchmrk=True"], "cudnn_benchmrk"),
        (["data_root=/nowhere"], "'data_root' is not used"),
        (["model.losses.l1=None", "model.no=None"], "model.no=None removes nothing"),
        (["train_dataloader.batch_size=32", "train_dataloader.drop_last=True"], "too small for a batch of 32"),
        (["typo"], "--cfg-options: expected KEY=VALUE, got 'typo'"),
        (["model.losses=dict(l1=None,ssim=None)"], "--cfg-options: expected KEY.NAME=VALUE for each value of a dict"),
        (["model.losses=[{{'l1':1}},2]"], "for each value of a dict, got \"model.losses=[{{'l1':1}},2]\""),
        (["model.losses=a(1,2)"], "with all brackets closed, got 'model.losses=a(1,2)'"),
        (["model.losses=(1,2"], "with all brackets closed, got 'model.losses=(1,2'"),
        (["train_dataloader.dataset.transforms=[llie_preproc.PairedRandomCrop]"], "PairedRandomCrop"),
    ],
)
def test_errors_are_reported_before_the_first_step(training_pictures, tmp_path, capsys, options, message):
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other" / "epoch_1.pth"
    paths = {name: tmp_path / f"{name}.pth" for name in ("listed", "code")}
    paths |= {"empty": tmp_path / "empty", "other": other, "zero_dce": tmp_path / "zero_dce.safetensors"}
    save_state_dict(build_enhancer("ZeroDCE", None).state_dict(), paths["zero_dce"])
    other.parent.mkdir()
    torch.save({"meta": {}, "method": {}, "state_dict": {"enhancer.weight": torch.zeros(1)}}, other)
    torch.save([1], paths["listed"])
    torch.save({"state_dict": {"a": Code()}}, paths["code"])
    config, out = write_config(training_pictures, "progressive"), tmp_path / "new" / "out"
    assert main(["train", str(config), "--out", str(out), "--cfg-options", *(o.format(**paths) for o in options)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("llie: error: ")
    assert message.format(**paths) in error
    assert not out.parent.exists()
    assert not RAN


def test_a_crop_larger_than_a_picture_is_refused(training_pictures, tmp_path, capsys):
    large = {"train_dataloader.dataset.transforms": [{"type": "llie_preproc.PairedRandomCrop", "size": 40}]}
    assert main(["train", str(write_config(training_pictures, "supervised", **large)), "--out", str(tmp_path)]) == 2
    assert "16 of 16 pictures cannot be used" in (error := capsys.readouterr().err)
    assert "32x32" in error
    assert "40" in error


def contents(folder):
    """Contents of the files of a work folder, but only names of logs, since two runs in one second share a log."""
    return {path: path.parent == folder and path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_used_work_folder_needs_resume(training_pictures, tmp_path, capsys):
    config = write_config(training_pictures, "supervised")
    train(config, tmp_path)
    before = contents(tmp_path)
    assert main(["train", str(config), "--out", str(tmp_path)]) == 2
    assert "the last of which is epoch_3.pth: continue with --resume" in capsys.readouterr().err
    adam = {"optim_wrapper.enhancer.optimizer": {"_delete_": True, "type": "Adam", "lr": 1e-3}}
    changed = write_config(training_pictures, "supervised", **adam).replace(config)
    assert main(["train", str(changed), "--out", str(tmp_path), "--resume"]) == 2
    assert "'Adam'" in capsys.readouterr().err
    assert contents(tmp_path) == before


@DATASETS.register_module()
class InterruptedSet:
    """A data set whose construction is interrupted by Ctrl-C."""

    def __init__(self, **given):
        raise KeyboardInterrupt


@HOOKS.register_module()
class InterruptedStep(Hook):
    """Hook that acts as Ctrl-C in the step ``step``, counted from 0."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("moment", ["building", "first step", "second step"])
def test_an_interrupt_within_the_first_step_leaves_no_files(training_pictures, tmp_path, capsys, moment, exists):
    hook = {"type": "llie_preproc.InterruptedStep", "step": int(moment == "second step")}
    changes = {"custom_hooks": [*training_runs.HOOKS, hook]}
    if moment == "building":
        changes = {"train_dataloader.dataset": {"_delete_": True, "type": "llie_preproc.InterruptedSet"}}
    work = tmp_path / "new" / "work"
    if exists:
        work.mkdir(parents=True)
        (work / "mine.txt").write_text("mine")
    before = set(tmp_path.rglob("*"))
    assert main(["train", str(write_config(training_pictures, "supervised", **changes)), "--out", str(work)]) == 130
    assert "interrupted; the same command with --resume goes on" in capsys.readouterr().err
    if moment == "second step":
        assert [path for path in work.iterdir() if path.is_dir()]
        assert list(work.glob("*.py"))
    else:
        assert set(tmp_path.rglob("*")) == before


def test_a_refused_run_keeps_files_of_another_run(training_pictures, tmp_path, monkeypatch):
    """The run is refused while it is built; meanwhile another one has begun in the same folder."""

    def refuse(runner):
        (tmp_path / "20300101_000000").mkdir(exist_ok=True)
        (tmp_path / "finetune.py").write_text("of the other")
        raise ValueError("refused late")

    monkeypatch.setattr("training.runner._check_data", refuse)
    config = write_config(training_pictures, "supervised")
    (tmp_path / config.name).symlink_to("nowhere.py")
    # It runs twice, because MMEngine uses one logger for two runs within a second.
    for _ in range(2):
        assert main(["train", str(config), "--out", str(tmp_path)]) == 2
    assert {path.name for path in tmp_path.iterdir()} >= {"20300101_000000", "finetune.py", config.name}
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    assert (tmp_path / config.name).is_symlink()


def test_a_refused_run_leaves_no_thread_that_writes_into_its_folder(training_pictures, tmp_path, capsys):
    """TensorBoard's thread would end with a traceback, because the folder is removed."""
    board = {"type": "Visualizer", "vis_backends": [{"type": "TensorboardVisBackend"}]}
    changes = {"visualizer": board, "train_dataloader.batch_size": 32, "train_dataloader.drop_last": True}
    config, before = write_config(training_pictures, "supervised", **changes), set(threading.enumerate())
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == 2
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_work_folder_of_another_network_is_not_resumed(training_pictures, tmp_path, capsys):
    train(write_config(training_pictures, "supervised"), tmp_path)
    before = {p: p.read_bytes() for p in saved_checkpoints(tmp_path)}
    assert main(["train", str(write_config(training_pictures, "progressive")), "--out", str(tmp_path), "--resume"]) == 2
    assert "not that of this run's enhancer and method (PSENet, ProgressiveSelf" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in saved_checkpoints(tmp_path)} == before
