"""``llie split`` divides a finetuned checkpoint into a detector and an enhancer, which together predict the same."""

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main
from llie_preproc.detection import add_enhancer
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from llie_preproc.registry import MODELS
from tests.support.finetune_runs import last_state, part, plain_detector, same

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """Work folder of a finished run with averaged weights."""
    work = tmp_path_factory.mktemp("run")
    with DefaultScope.overwrite_default_scope("mmdet"):
        assert main(tiny.arguments(work, "--epochs", "1", "--ema", "--losses", "fidelity")) == 0
    return work


def detections(cfg, state):
    """Detections in a picture of noise by a config's ``EnhancedDetector`` with the given weights."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model).eval()
    model.load_state_dict(state, strict=False)
    generator = torch.Generator().manual_seed(1)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0), img_id=0))
    picture = torch.randint(0, 60, (3, 64, 64), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        (found,) = model.test_step(dict(inputs=[picture], data_samples=[sample]))
    return found.pred_instances


@pytest.mark.further
def test_the_rejoined_parts_predict_the_same(tiny, run):
    whole = Config.fromfile(run / "finetune.py")
    expected = detections(whole, last_state(run))
    plain = Config.fromfile(tiny.config)
    plain.model.roi_head.bbox_head.num_classes = 2
    rejoined = add_enhancer(plain, "PSENet", checkpoint=run / "enhancer.safetensors")
    found = detections(rejoined, read_checkpoint(run / "detector.pth")["state_dict"])
    assert len(expected)
    assert expected.bboxes.equal(found.bboxes)
    assert expected.scores.equal(found.scores)
    assert expected.labels.equal(found.labels)


@pytest.mark.further
def test_the_parts_hold_the_averaged_weights(run):
    checkpoint = read_checkpoint(saved_checkpoints(run)[-1])
    last = {name.removeprefix("module."): value for name, value in checkpoint["ema_state_dict"].items()}
    detector, enhancer = read_checkpoint(run / "detector.pth"), load_file(run / "enhancer.safetensors")
    assert same(part(checkpoint["state_dict"], "detector"), detector["state_dict"])
    assert same(part(checkpoint["state_dict"], "enhancer"), enhancer)
    # MMEngine swaps averaged and last weights: 'ema_state_dict' holds the weights of the last step.
    assert not same(part(last, "detector"), detector["state_dict"])
    assert detector["meta"]["dataset_meta"]["classes"] == ("red", "green")


def test_the_plain_config_and_the_enhancer_load_their_part(tiny, run, recwarn):
    model = plain_detector(tiny.config)
    load_checkpoint(model, str(run / "detector.pth"), strict=True)
    assert same(model.state_dict(), read_checkpoint(run / "detector.pth")["state_dict"])
    enhancer = build_enhancer("PSENet", run / "enhancer.safetensors")
    assert same(enhancer.state_dict(), load_file(run / "enhancer.safetensors"))


def test_files_are_only_replaced_with_overwrite(run, tmp_path, capsys):
    last = str(saved_checkpoints(run)[-1])
    assert main(["split", last, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "detector.pth"), str(tmp_path / "enhancer.safetensors")]
    (tmp_path / "detector.pth").unlink()
    (tmp_path / "enhancer.safetensors").write_text("mine")
    assert main(["split", last, "--out", str(tmp_path)]) == 2
    assert "enhancer.safetensors exists already" in capsys.readouterr().err
    assert not (tmp_path / "detector.pth").exists()
    assert (tmp_path / "enhancer.safetensors").read_text() == "mine"
    assert main(["split", last, "--out", str(tmp_path), "--overwrite"]) == 0
    assert same(load_file(tmp_path / "enhancer.safetensors"), load_file(run / "enhancer.safetensors"))


def test_an_enhancer_without_weights_has_no_file(tmp_path):
    # Detectors may have masks with infinities.
    weight = torch.tensor([1, -torch.inf])
    torch.save({"state_dict": {"detector.weight": weight}}, tmp_path / "clahe.pth")
    assert main(["split", str(tmp_path / "clahe.pth"), "--out", str(tmp_path)]) == 0
    assert read_checkpoint(tmp_path / "detector.pth")["state_dict"]["weight"].equal(weight)
    assert not (tmp_path / "enhancer.safetensors").exists()


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"state_dict": {"backbone.weight": torch.ones(1)}}, "is not a checkpoint of an EnhancedDetector"),
        ({"state_dict": {"enhancer.weight": torch.ones(1)}}, "no name begins with 'detector.'"),
        ({"detector.weight": torch.ones(1)}, "it has no state_dict"),
        ({"state_dict": {"detector.a": torch.ones(1), "fusion.gate": torch.ones(1)}}, "(fusion.gate)"),
        ({"state_dict": {"a": print}}, "unsafe"),
        (
            {"state_dict": {"detector.a": torch.ones(1), "enhancer.b": torch.tensor([torch.inf])}},
            "other.pth: the tensor b is not finite",
        ),
        ({"state_dict": {"detector.a": torch.tensor([torch.nan, 1])}}, "the tensor a is not finite: 1 of 2"),
        (None, "no checkpoint"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, capsys, checkpoint, message):
    if checkpoint is not None:
        torch.save(checkpoint, tmp_path / "other.pth")
    assert main(["split", str(tmp_path / "other.pth"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
