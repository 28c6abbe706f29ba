"""``llie finetune``: what each preset trains, from which weights, and what is refused."""

import pickle
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import cv2
import mmdet
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS
from safetensors.torch import load_file

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.detection import add_enhancer
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from llie_preproc.registry import HOOKS
from tests.support.finetune_runs import BATCHES, last_state, make, part, runs_on_the_cpu, same
from training.finetune_config import finetuning_config
from training.finetune_runner import build_runner
from training.schedule import set_epochs, shorten_warmup

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
DETR = "mmdet::detr/detr_r50_8xb2-150e_coco.py"
MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with runs_on_the_cpu():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def start(tiny):
    """The detector's weights that the runs begin with."""
    return read_checkpoint(tiny.detector)["state_dict"]


def moved(before, after):
    """The names of what changed."""
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not value.equal(after[name])}


def run(tiny, work, *options):
    assert main(tiny.arguments(work, *options)) == 0
    return last_state(work)


def refused(capsys, arguments):
    """The one line that the command ends with."""
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


# No average, whose share of the first steps is small.
@pytest.mark.examples(1)
@pytest.mark.parametrize("preset", ["joint", "enhancer-only", "frozen"])
def test_a_preset_trains_what_it_says(tiny, start, tmp_path, preset):
    state = run(tiny, tmp_path, "--preset", preset, "--epochs", "1", "--no-ema", "--lr", "0.01")
    detector = moved(start, part(state, "detector"))
    enhancer = moved(build_enhancer("PSENet").state_dict(), part(state, "enhancer"))
    if preset == "enhancer-only":
        assert not detector
    else:
        # Weights and statistics.
        assert {"roi_head.bbox_head.fc_cls.weight", "backbone.layer4.0.bn1.running_mean"} <= detector
    assert bool(enhancer) == (preset != "frozen")


@pytest.mark.parametrize("preset", ["joint", "enhancer-only", "frozen"])
def test_the_detectors_losses_reach_the_enhancer_where_it_trains(tiny, tmp_path, preset):
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
def test_staged_training_leaves_the_enhancer_for_its_first_stage(tiny, tmp_path):
    run(tiny, tmp_path, "--preset", "staged", "--epochs", "2", "--no-ema")
    first, second = (part(read_checkpoint(tmp_path / f"epoch_{n}.pth")["state_dict"], "enhancer") for n in (1, 2))
    assert same(build_enhancer("PSENet").state_dict(), first)
    assert moved(first, second)


def rates(runner):
    """Learning rate, after the warm-up, and weight decay by the parameter's name."""
    names = {id(p): name for name, p in runner.model.named_parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    return {names[id(p)]: (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_the_enhancer_has_its_own_learning_rate(tiny, tmp_path):
    options = ("--lr", "0.02", "--enhancer-lr-mult", "0.5")
    found = rates(build_runner(parse_args(tiny.arguments(tmp_path, *options))))
    assert {rate for name, (rate, _) in found.items() if name.startswith("detector.")} == {0.02}
    assert {rate for name, (rate, _) in found.items() if name.startswith("enhancer.")} == {0.01}


def test_the_learning_rate_is_scaled_to_the_batch(tiny, tmp_path):
    first = build_runner(parse_args(tiny.arguments(tmp_path / "a", "--accumulate", "2")))
    second = build_runner(parse_args(tiny.arguments(tmp_path / "b", "--train-batch-size", "4")))
    assert rates(first) == rates(second)
    # The schedule is for 8 pictures.
    assert max(rate for rate, _ in rates(first).values()) == pytest.approx(1e-3 * 4 / 8)


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
def test_mixed_precision_on_the_cpu(tiny, tmp_path):
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
def test_accumulation_steps_less_often(tiny, tmp_path):
    runner = build_runner(parse_args(tiny.arguments(tmp_path, "--accumulate", "3", "--epochs", "2")))
    counter = Steps()
    runner.register_hook(counter)
    runner.train()
    assert runner.iter == 2 * BATCHES
    assert counter.taken == 2 * BATCHES // 3


class Interrupted(Exception):
    pass


@HOOKS.register_module()
class InterruptFinetuning(Hook):
    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == BATCHES:
            raise Interrupted


@pytest.mark.slow
def test_what_was_written_runs_again_and_goes_on_after_an_interruption(tiny, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = run(tiny, tmp_path / "whole", "--epochs", "2", "--losses", "fidelity=0.5")
    written = tmp_path / "whole" / "finetune.py"
    again = tmp_path / "again"
    assert main(["finetune", "--detector", str(written), "--out", str(again)]) == 0
    assert same(whole, last_state(again))
    assert (again / "finetune.py").read_text() == written.read_text()
    cut = Config.fromfile(written)
    cut.custom_hooks.append(dict(type="llie_preproc.InterruptFinetuning"))
    cut.dump(tmp_path / "cut.py")
    with pytest.raises(Interrupted):
        main(["finetune", "--detector", str(tmp_path / "cut.py"), "--out", str(tmp_path / "resumed")])
    assert [path.name for path in saved_checkpoints(tmp_path / "resumed")] == ["epoch_1.pth"]
    torch.rand(5)
    assert main(["finetune", "--detector", str(written), "--out", str(tmp_path / "resumed"), "--resume"]) == 0
    assert same(whole, last_state(tmp_path / "resumed"))
    torch.set_num_threads(threads)


def test_a_run_leaves_its_parts_and_its_scores(tiny, tmp_path, capsys):
    state = run(tiny, tmp_path, "--epochs", "1")
    printed = capsys.readouterr().out.splitlines()
    files = [str(tmp_path / name) for name in ("epoch_1.pth", "detector.pth", "enhancer.safetensors")]
    assert [line for line in printed if line in files] == files
    assert any(line.startswith("coco/bbox_mAP: ") for line in printed)
    assert same(read_checkpoint(tmp_path / "detector.pth")["state_dict"], part(state, "detector"))
    assert same(load_file(tmp_path / "enhancer.safetensors"), part(state, "enhancer"))


@pytest.mark.further
def test_losses_inputs_and_pairs(tiny, tmp_path, capsys):
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
    """A config file that has an ``EnhancedDetector``, and counts iterations."""
    cfg = Config.fromfile(tiny.config.with_name("tiny.py"))
    add_enhancer(cfg, "PSENet", trainable=True, map_side=48).dump(tmp_path / "enhanced.py")
    return tmp_path / "enhanced.py"


def test_an_enhanced_config_runs_as_it_is_with_the_options_over_it(tiny, tmp_path, enhanced):
    sets = ["--train", *tiny.train, "--val", *tiny.val]
    options = ["--epochs", "1", "--preset", "enhancer-only", "--detector-checkpoint", str(tiny.detector)]
    assert main(["finetune", "--detector", str(enhanced), *sets, *options, "--out", str(tmp_path / "out")]) == 0
    cfg = Config.fromfile(tmp_path / "out" / "finetune.py")
    assert (cfg.train_cfg.max_iters, cfg.model.map_side, cfg.model.train_detector) == (BATCHES, 48, False)
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert [path.name for path in saved_checkpoints(tmp_path / "out")][-1] == f"iter_{BATCHES}.pth"
    assert same(part(last_state(tmp_path / "out"), "detector"), read_checkpoint(tiny.detector)["state_dict"])


def test_a_used_work_folder_wants_resume(tiny, tmp_path, capsys):
    (tmp_path / "epoch_3.pth").write_bytes(b"mine")
    assert "the last of which is epoch_3.pth: continue with --resume" in refused(capsys, tiny.arguments(tmp_path))
    assert "epoch_3.pth is damaged" in refused(capsys, tiny.arguments(tmp_path, "--resume"))
    assert (tmp_path / "epoch_3.pth").read_bytes() == b"mine"


class Code:
    """A pickle of it runs code."""

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
        (["--losses", "fidelity", "--preset", "frozen"], "an enhancer that trains"),
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
def test_what_is_wrong_is_said_before_the_first_step(tiny, tmp_path, capsys, options, message):
    torch.save({"state_dict": {"a": Code()}}, tmp_path / "code.pth", pickle_module=pickle)
    torch.save({"state_dict": {}}, tmp_path / "empty.pth")
    (tmp_path / "broken.json").write_text("[]")
    paths = dict(train=tiny.train[0], images=tiny.train[1], folder=tmp_path)
    paths |= dict(code=tmp_path / "code.pth", empty=tmp_path / "empty.pth", broken=tmp_path / "broken.json")
    given = [option.format(**paths) for option in options]
    assert message.format(**paths) in refused(capsys, tiny.arguments(tmp_path / "out", *given))
    assert not (tmp_path / "out").exists()


def test_unknown_presets_and_configs_without_an_enhancer(tiny, tmp_path, capsys, enhanced):
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


def test_a_detector_that_trains_by_another_optimiser_than_sgd_keeps_it(tiny, tmp_path):
    plain = Config.fromfile(MMDET_CONFIGS / "detr/detr_r50_8xb2-150e_coco.py").optim_wrapper
    cfg = finetuning_config(parse_args(["finetune", "--detector", DETR, *tiny.arguments(tmp_path)[3:]]))
    assert cfg.optim_wrapper.optimizer == plain.optimizer
    assert cfg.optim_wrapper.clip_grad == plain.clip_grad
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert {**plain.paramwise_cfg.custom_keys, "enhancer.": {"lr_mult": 0.1, "decay_mult": 0.0}} == keys
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 25


@pytest.mark.parametrize("config", [RETINANET, YOLOX])
def test_configs_of_mmdetection_get_the_joint_schedule(tiny, tmp_path, config):
    arguments = ["finetune", "--detector", config, *tiny.arguments(tmp_path)[3:]]
    cfg = finetuning_config(parse_args(arguments))
    assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.type) == (25, "SGD")
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys["enhancer."].lr_mult == 0.1
    warmups = [each.end for each in cfg.param_scheduler if not each.by_epoch]
    # An epoch of RetinaNet's has three batches, one of YOLOX's a single one, too few to warm up.
    assert warmups == ([3] if config == RETINANET else [])
    hooks = [*cfg.custom_hooks, *(hook for hook in cfg.default_hooks.values() if hook)]
    assert sum("EMAHook" in hook["type"] for hook in hooks) == 1
    assert cfg.val_evaluator[0].ann_file == tiny.val[0]
    # What would be fetched is in the checkpoint.
    assert not cfg.model.detector.backbone.get("init_cfg") or cfg.model.detector.backbone.init_cfg.type != "Pretrained"
    if config == YOLOX:
        # Its last 15 of 300 epochs are without mosaic: here the last one.
        assert [hook["num_last_epochs"] for hook in hooks if hook["type"] == "YOLOXModeSwitchHook"] == [1]


def test_a_schedule_keeps_its_proportions():
    cfg = Config.fromstring(f"_base_ = {RETINANET!r}", ".py")
    set_epochs(cfg, 6, batches=100)
    shorten_warmup(cfg, 100)
    assert cfg.train_cfg.max_epochs == 6
    warmup, steps = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 100)
    assert (steps.begin, steps.end, steps.milestones) == (0, 6, [4, 5])
    set_epochs(cfg, 24, batches=100)
    assert cfg.param_scheduler[1].milestones == [16, 20]
    # Six epochs are the last 1 of 15 of 300; a constant rate would have no epoch of its own.
    cfg = Config.fromstring(f"_base_ = {YOLOX!r}", ".py")
    cfg.train_cfg.dynamic_intervals = [(285, 1)]
    set_epochs(cfg, 6, batches=100)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 1)
    assert (cosine.begin, cosine.end, cosine.T_max) == (1, 6, 6)
    assert cfg.train_cfg.dynamic_intervals == [(6, 1)]


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_a_shortened_warmup_ends_at_the_whole_rate(batches):
    cfg = Config.fromstring(f"_base_ = {RETINANET!r}", ".py")
    set_epochs(cfg, 8, batches)
    shorten_warmup(cfg, batches)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in cfg.param_scheduler]
    for _ in range(batches):
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_a_schedule_in_iterations_keeps_its_proportions(tiny):
    cfg = Config.fromfile(tiny.config.with_name("tiny.py"))
    cfg.train_cfg.max_iters = 260
    set_epochs(cfg, 13, batches=40)
    assert cfg.train_cfg.max_iters == 520
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 60)
    assert (cosine.begin, cosine.end, cosine.T_max) == (60, 520, 460)
    with pytest.raises(ValueError, match="max_epochs or max_iters"):
        set_epochs(Config(dict(train_cfg=dict(type="Loop"))), 1, 1)
