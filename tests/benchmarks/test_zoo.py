"""``benchmarks.mmdet_zoo`` runs model families of MMDetection plain and enhanced; its table says why a family fails."""

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("benchmarks.mmdet_zoo", reason="the benchmarks are found from the repository's root")

import torch
from torch import nn

from benchmarks.mmdet_zoo import (
    CONFIGS,
    STAGES,
    candidates,
    check_gradients,
    families,
    load,
    made_batch,
    run_family,
    runs,
    table,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        "retinanet",
        "panoptic_fpn",
        "qdtrack",
        "soft_teacher",
    ],
)
def test_a_family_runs_plain_and_enhanced(family):
    """The four families stand for boxes, panoptic masks, video clips and semi-supervised branches."""
    row = run_family(family)
    assert runs(row["plain"]), row
    assert runs(row["enhanced"]), row
    assert row["reason"] == ""
    assert row["config"].startswith(family)


@pytest.mark.slow
def test_a_family_that_cannot_run_has_a_row_with_its_reason():
    row = run_family("common")
    assert not runs(row["plain"])
    assert not runs(row["enhanced"])
    assert row["reason"] == "no config of a model: settings that others include"


@pytest.mark.slow
def test_a_process_that_fails_or_hangs_has_a_row_with_its_reason():
    assert run_family("retinanet", enhancer="no_such")["reason"] == "the process ended with status 1"
    assert run_family("retinanet", timeout=0.01)["reason"] == "no answer within 0.01 s"


def test_every_folder_is_a_family_and_the_lightest_config_is_first():
    assert {"faster_rcnn", "detr", "boxinst", "_base_"} <= set(families())
    assert all(candidates(family) for family in families())
    assert candidates("faster_rcnn")[0].name == "faster-rcnn_r50_fpn_1x_coco.py"


def test_a_shrunk_model_downloads_nothing():
    model = load(CONFIGS / "ld" / "ld_r18-gflv1-r101_fpn_1x_coco.py").model
    assert model.teacher_ckpt is None
    assert model.backbone.init_cfg is None
    assert "://" not in str(model)


@pytest.mark.parametrize(("training", "frames"), [(True, 2), (False, 2)])
def test_a_clip_has_two_frames_of_the_same_objects(training, frames):
    model = {"type": "QDTrack", "data_preprocessor": {"type": "TrackDataPreprocessor"}, "num_classes": 8}
    batch = made_batch(model, training)
    assert batch["inputs"][0].shape == (frames, 3, 128, 160)
    assert [s.gt_instances.instances_ids.tolist() for s in batch["data_samples"][0].video_data_samples] == [[0, 1]] * 2


@pytest.mark.parametrize(
    ("gradient", "complaint"),
    [
        (None, "no gradient reaches.*bias"),
        (0.0, "no gradient reaches.*bias"),
        (float("nan"), "bias is not finite"),
        (float("inf"), "bias is not finite"),
    ],
)
def test_a_gradient_that_is_missing_zero_or_not_finite_is_found(gradient, complaint):
    module = nn.Linear(2, 2)
    module.weight.grad = torch.ones(2, 2)
    module.bias.grad = torch.ones(2)
    check_gradients(module)
    module.bias.grad = None if gradient is None else torch.tensor([gradient, gradient])
    with pytest.raises(ValueError, match=complaint):
        check_gradients(module)


def test_the_table_counts_what_runs():
    good, bad = dict.fromkeys(STAGES, "ok"), {"build": "ok", "loss": "TypeError: a | b", "predict": "ok"}
    rows = [
        dict(family="a", config="a/a.py", plain=good, enhanced=good, refused=[], reason=""),
        dict(family="b", config="b/b.py", plain=good, enhanced=bad, refused=[], reason="TypeError: a | b"),
        dict(family="c", config=None, plain={}, enhanced={}, refused=["carafe_forward"], reason="not compiled"),
    ]
    page = table(dict(rows=rows, enhancer="psenet", mmdet="3", stand_in=True, machine="a machine")).splitlines()
    assert "| config folders | 3 |" in page
    assert "| run plain | 2 |" in page
    assert "| of these run enhanced | 1 |" in page
    assert "| b | `b/b.py` | runs | no loss | TypeError: a \\| b |" in page
    assert any("c (`carafe_forward`)" in line for line in page)
