"""``llie finetune`` starts from the given weights, trains the parts that a preset names, and refuses bad input."""

import pickle
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import cv2
from mmengine.config import Config
from mmengine.hooks import Hook
from safetensors.torch import load_file

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.detection import add_enhancer
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from tests.support.finetune_runs import BATCHES, last_state, part, same
from tests.support.interrupted_runs import Interrupted
from training.finetune_runner import build_runner

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def start(tiny):
    """The weights of the detector with which the runs start."""
    return read_checkpoint(tiny.detector)["state_dict"]


def moved(before, after):
    """The names of the tensors that changed."""
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not value.equal(after[name])}


def run(tiny, work, *options):
    assert main(tiny.arguments(work, *options)) == 0
    return last_state(work)


def refused(capsys, arguments):
    """Run the command, which must fail; return the last line of its error."""
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("llie: error: ")
    return error


def losses_of_a_batch(runner):
    """The losses of the first batch, as training computes them."""
    runner.model.train()
    batch = next(iter(runner.train_dataloader))
    data = runner.model.data_preprocessor(batch, True)
    return runner.model.loss(data["inputs"], data["data_samples"])


def total(losses):
    return sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if "loss" in name)


# Weights are not averaged here, because an average hardly changes in a few steps.
@pytest.mark.examples(1)
@pytest.mark.parametrize("preset", ["joint", "enhancer-only", "frozen"])
def test_a_preset_trains_the_parts_that_it_names(tiny, start, tmp_path, preset):
    state = run(tiny, tmp_path, "--preset", preset, "--epochs", "1", "--no-ema", "--lr", "0.01")
    detector = moved(start, part(state, "detector"))
    enhancer = moved(build_enhancer("PSENet").state_dict(), part(state, "enhancer"))
    if preset == "enhancer-only":
        assert not detector
    else:
        # Both weights and running statistics change.
        assert {"roi_head.bbox_head.fc_cls.weight", "backbone.layer4.0.bn1.running_mean"} <= detector
    assert bool(enhancer) == (preset != "frozen")


@pytest.mark.parametrize("preset", ["joint", "enhancer-only", "frozen"])
def test_the_detectors_losses_reach_the_enhancer_if_it_is_trained(tiny, tmp_path, preset):
    runner = build_runner(parse_args(tiny.arguments(tmp_path, "--preset", preset)))
    total(losses_of_a_batch(runner)).backward()
    gradients = {name: p.grad for name, p in runner.model.named_parameters()}
    for name, gradient in gradients.items():
        trains = preset == "joint" or name.startswith("enhancer.") == (preset == "enhancer-only")
        if not trains:
            assert gradient is None, name
        elif name.startswith("enhancer."):
            assert gradient.abs().max() > 0, name


@pytest.mark.further
def test_staged_training_does_not_change_the_enhancer_in_its_first_stage(tiny, tmp_path):
    run(tiny, tmp_path, "--preset", "staged", "--epochs", "2", "--no-ema")
    first, second = (part(read_checkpoint(tmp_path / f"epoch_{n}.pth")["state_dict"], "enhancer") for n in (1, 2))
    assert same(build_enhancer("PSENet").state_dict(), first)
    assert moved(first, second)


def test_every_tensor_of_the_plain_checkpoint_is_loaded(tiny, start, tmp_path):
    runner = build_runner(parse_args(tiny.arguments(tmp_path, "--no-ema")))
    runner.load_or_resume()
    assert same(runner.model.detector.state_dict(), start)
    assert same(runner.model.enhancer.state_dict(), build_enhancer("PSENet").state_dict())


def test_a_renamed_tensor_is_named(tiny, start, tmp_path, capsys):
    renamed = {name.replace("rpn_head.rpn_cls", "rpn_head.cls"): value for name, value in start.items()}
    torch.save({"state_dict": renamed}, tmp_path / "renamed.pth")
    error = refused(capsys, tiny.arguments(tmp_path / "out", "--detector-checkpoint", str(tmp_path / "renamed.pth")))
    assert "rpn_head.cls.weight" in error
    assert "rpn_head.rpn_cls.weight" in error
    assert not saved_checkpoints(tmp_path / "out")


@pytest.mark.further
def test_mixed_precision_on_the_cpu_keeps_float32_weights(tiny, tmp_path):
    state = run(tiny, tmp_path, "--amp", "--epochs", "1", "--no-ema")
    assert Config.fromfile(tmp_path / "finetune.py").optim_wrapper.type == "llie_preproc.AutocastOptimWrapper"
    assert all(value.isfinite().all() for value in state.values())
    assert all(value.dtype != torch.bfloat16 for value in state.values())
    assert moved(build_enhancer("PSENet").state_dict(), part(state, "enhancer"))


class Steps(Hook):
    """Counts the steps of the optimiser."""

    def before_train(self, runner):
        self.taken = 0
        runner.optim_wrapper.optimizer.register_step_post_hook(lambda *_: setattr(self, "taken", self.taken + 1))


@pytest.mark.further
def test_accumulation_takes_one_step_for_three_batches(tiny, tmp_path):
    runner = build_runner(parse_args(tiny.arguments(tmp_path, "--accumulate", "3", "--epochs", "2")))
    counter = Steps()
    runner.register_hook(counter)
    runner.train()
    assert runner.iter == 2 * BATCHES
    assert counter.taken == 2 * BATCHES // 3


@pytest.mark.slow
def test_the_written_config_repeats_the_run_and_resumes_an_interrupted_one(tiny, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = run(tiny, tmp_path / "whole", "--epochs", "2", "--losses", "fidelity=0.5")
    written = tmp_path / "whole" / "finetune.py"
    again = tmp_path / "again"
    assert main(["finetune", "--detector", str(written), "--out", str(again)]) == 0
    assert same(whole, last_state(again))
    assert (again / "finetune.py").read_text() == written.read_text()
    cut = Config.fromfile(written)
    cut.custom_hooks.append(dict(type="llie_preproc.InterruptAt", iteration=BATCHES))
    cut.dump(tmp_path / "cut.py")
    with pytest.raises(Interrupted):
        main(["finetune", "--detector", str(tmp_path / "cut.py"), "--out", str(tmp_path / "resumed")])
    assert [path.name for path in saved_checkpoints(tmp_path / "resumed")] == ["epoch_1.pth"]
    torch.rand(5)
    assert main(["finetune", "--detector", str(written), "--out", str(tmp_path / "resumed"), "--resume"]) == 0
    assert same(whole, last_state(tmp_path / "resumed"))
    torch.set_num_threads(threads)


def test_a_run_writes_its_parts_and_prints_its_scores(tiny, tmp_path, capsys):
    state = run(tiny, tmp_path, "--epochs", "1")
    printed = capsys.readouterr().out.splitlines()
    files = [str(tmp_path / name) for name in ("epoch_1.pth", "detector.pth", "enhancer.safetensors")]
    assert [line for line in printed if line in files] == files
    assert any(line.startswith("coco/bbox_mAP: ") for line in printed)
    assert same(read_checkpoint(tmp_path / "detector.pth")["state_dict"], part(state, "detector"))
    assert same(load_file(tmp_path / "enhancer.safetensors"), part(state, "enhancer"))


@pytest.mark.further
def test_a_run_that_diverges_ends_with_one_line_and_writes_no_checkpoint(tiny, tmp_path, capsys):
    work = tmp_path / "run"
    assert main(tiny.arguments(work, "--epochs", "1", "--lr", "1e30")) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "llie: error: the training diverged: after iteration " in error.splitlines()[-1]
    assert "There is no earlier checkpoint" in error.splitlines()[-1]
    assert not [*work.glob("*.pth"), *work.glob("*.safetensors")]


def test_losses_inputs_and_pairs_reach_the_config_and_the_log(tiny, tmp_path, capsys):
    (tmp_path / "day").mkdir()
    for path in Path(tiny.train[1]).iterdir():
        cv2.imwrite(str(tmp_path / "day" / path.name), cv2.imread(str(path)) * 2)
    own = ("--losses", "fidelity=0.5", "exposure", "smoothness", "self-enhancement", "--map-side", "32")
    inputs = ("--detector-input", "both", "--fusion", "image", "--pairs", str(tmp_path / "day"), "--checkpointing")
    run(tiny, tmp_path / "out", "--epochs", "1", *own, *inputs)
    logged = read_checkpoint(tmp_path / "out" / "epoch_1.pth")["message_hub"]["log_scalars"]
    for name in ("fidelity", "exposure", "smoothness", "self_enhancement", "paired"):
        assert logged[f"train/loss_{name}"].current() >= 0
    assert logged["train/loss_paired"].current() > 0.01
    model = Config.fromfile(tmp_path / "out" / "finetune.py").model
    assert model.losses.fidelity == dict(type="llie_preproc.FidelityLoss", loss_weight=0.5, map_side=32)
    assert (model.detector_input, model.fusion, model.map_side, model.checkpointing) == ("both", "image", 32, True)
    assert "not split" in capsys.readouterr().out


@pytest.fixture
def enhanced(tiny, tmp_path):
    """A config file of an ``EnhancedDetector`` that trains by iterations."""
    cfg = Config.fromfile(tiny.config.with_name("tiny.py"))
    add_enhancer(cfg, "PSENet", trainable=True, map_side=48).dump(tmp_path / "enhanced.py")
    return tmp_path / "enhanced.py"


def test_an_enhanced_config_runs_and_the_options_override_it(tiny, tmp_path, enhanced):
    sets = ["--train", *tiny.train, "--val", *tiny.val]
    options = ["--epochs", "1", "--preset", "enhancer-only", "--detector-checkpoint", str(tiny.detector)]
    assert main(["finetune", "--detector", str(enhanced), *sets, *options, "--out", str(tmp_path / "out")]) == 0
    cfg = Config.fromfile(tmp_path / "out" / "finetune.py")
    assert (cfg.train_cfg.max_iters, cfg.model.map_side, cfg.model.train_detector) == (BATCHES, 48, False)
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert [path.name for path in saved_checkpoints(tmp_path / "out")][-1] == f"iter_{BATCHES}.pth"
    assert same(part(last_state(tmp_path / "out"), "detector"), read_checkpoint(tiny.detector)["state_dict"])


def test_a_used_work_folder_needs_resume(tiny, tmp_path, capsys):
    (tmp_path / "epoch_3.pth").write_bytes(b"mine")
    assert "the last of which is epoch_3.pth: continue with --resume" in refused(capsys, tiny.arguments(tmp_path))
    assert "epoch_3.pth is damaged" in refused(capsys, tiny.arguments(tmp_path, "--resume"))
    assert (tmp_path / "epoch_3.pth").read_bytes() == b"mine"


class Code:
    """An object whose pickle runs code."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.examples(8)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--enhancer", "psenett"], "no enhancer 'psenett'"),
        (["--enhancer", "zero_dce"], "ZeroDCE has no shipped weights: name some with --enhancer NAME@WEIGHTS"),
        (["--enhancer", "clahe"], "no gradient flows through CLAHE"),
        (["--enhancer", "psenet@/nowhere.pth"], "/nowhere.pth"),
        (["--detector-checkpoint", "/nowhere.pth"], "/nowhere.pth"),
        (["--detector-checkpoint", "https://example.org/x.pth"], "#sha256="),
        (["--detector-checkpoint", "{code}"], "unsafe"),
        (["--detector-checkpoint", "{empty}"], "is not one of FasterRCNN"),
        (["--train", "/nowhere.json", "{images}"], "/nowhere.json"),
        (["--train", "{broken}", "{images}"], "broken.json holds a list, expected COCO annotations"),
        (["--train", "{train}", "/nowhere"], "no folder /nowhere"),
        (["--train", "{train}", "{folder}"], "no picture {folder}"),
        (["--pairs", "/nowhere"], "no folder /nowhere"),
        (["--losses", "beauty"], "'beauty' must be one of fidelity"),
        (["--losses", "fidelity=much"], "a number of at least 0, got 'much'"),
        (["--losses", "fidelity", "--preset", "frozen"], "an enhancer that is trained"),
        (["--fusion", "image"], "--detector-input both"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--lr", "nan"], "--lr must be"),
        (["--preset", "staged", "--epochs", "1"], "StagedTraining begins after 1 epochs"),
        (["--cfg-options", "model.trainable=False", "model.train_detector=False"], "nothing to train"),
        (["--cfg-options", "model.trainabel=True"], "trainabel"),
        (["--cfg-options", "optim_wrapper.optimizer.type=Adamm"], "Adamm"),
        (["--cfg-options", "param_scheduler.1.type=MultiStepLRR"], "MultiStepLRR"),
        (["--cfg-options", "optim_wraper.optimizer.lr=1"], "is 'optim_wrapper' meant"),
        (["--cfg-options", "max_epochs=3"], "'max_epochs' is not used"),
        (["--cfg-options", "optim_wrapper.constructor=LearningRateDecayOptimizerConstructor"], "'enhancer.'"),
        (["--cfg-options", "optim_wrapper.constructor=Nonesuch"], "'Nonesuch'"),
    ],
)
def test_errors_are_reported_before_the_first_step(tiny, tmp_path, capsys, options, message):
    torch.save({"state_dict": {"a": Code()}}, tmp_path / "code.pth", pickle_module=pickle)
    torch.save({"state_dict": {}}, tmp_path / "empty.pth")
    (tmp_path / "broken.json").write_text("[]")
    paths = dict(train=tiny.train[0], images=tiny.train[1], folder=tmp_path)
    paths |= dict(code=tmp_path / "code.pth", empty=tmp_path / "empty.pth", broken=tmp_path / "broken.json")
    given = [option.format(**paths) for option in options]
    assert message.format(**paths) in refused(capsys, tiny.arguments(tmp_path / "out", *given))
    assert not (tmp_path / "out").exists()


def test_unknown_presets_and_configs_without_a_usable_enhancer_are_refused(tiny, tmp_path, capsys, enhanced):
    with pytest.raises(SystemExit):
        main(tiny.arguments(tmp_path, "--preset", "both"))
    assert "invalid choice: 'both'" in capsys.readouterr().err
    assert "name one with --enhancer" in refused(
        capsys, ["finetune", "--detector", str(tiny.config), "--out", str(tmp_path / "out")]
    )
    assert "has an enhancer already" in refused(
        capsys, ["finetune", "--detector", str(enhanced), "--enhancer", "psenet"]
    )
    enhanced.write_text(enhanced.read_text().replace("'PSENet'", "'OwnNet'"))
    unknown = refused(capsys, ["finetune", "--detector", str(enhanced), "--out", str(tmp_path / "out")])
    assert "enhanced.py: enhancer: no enhancer 'OwnNet'; there are: " in unknown
    (tmp_path / "none.py").write_text("a = 1")
    assert "has no model" in refused(
        capsys, ["finetune", "--detector", str(tmp_path / "none.py"), "--enhancer", "psenet"]
    )
    assert "no config file" in refused(capsys, ["finetune", "--detector", "/nowhere.py"])
