"""``init_detector``, ``DetInferencer`` and ``Runner`` take configs of three lines and configs of ``add_enhancer``."""

import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import mmdet
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.runner import Runner

from llie_preproc.config_nodes import nodes
from llie_preproc.detection import add_enhancer
from tests.support.configs import read_config
from tests.support.made_sets import write_set
from tests.support.mmdet_models import build, holds, narrow_pyramid

CLASSES = CocoDataset.METAINFO["classes"]
PLAIN = dict(
    rtmdet="rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    yolox="yolox/yolox_tiny_8xb8-300e_coco.py",
    faster_rcnn="faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
)
PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=False),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
# These three lines are those of the README.
THREE_LINES = """
_base_ = "{plain}"
custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)
model = dict(_delete_=True, type="llie_preproc.EnhancedDetector", detector={{{{_base_.model}}}}, enhancer="{enhancer}")
"""


@pytest.fixture(scope="module", params=PLAIN)
def plain(request, tmp_path_factory):
    """Files of a config and of a checkpoint for it; the config is MMDetection's own, with a smaller network."""
    folder = tmp_path_factory.mktemp(request.param)
    cfg = read_config(Path(mmdet.__file__).parent / ".mim" / "configs" / PLAIN[request.param])
    narrow_pyramid(cfg.model)
    for node in nodes(cfg.model):
        if "score_thr" in node:
            node.update(score_thr=0.0, nms_pre=50, max_per_img=20)
    if request.param == "faster_rcnn":
        cfg.model.backbone.update(depth=18, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"))
        cfg.model.neck.in_channels = [64, 128, 256, 512]
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline = PIPELINE
    cfg.dump(folder / "plain.py")
    state = dict(state_dict=build(cfg.model, seed=1).state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES)))
    torch.save(state, folder / "weights.pth")
    return folder / "plain.py", folder / "weights.pth"


def by_hand(path, enhancer):
    three = path.with_name(f"three_{enhancer}.py")
    three.write_text(THREE_LINES.format(plain=path, enhancer=enhancer))
    return three


def by_function(path, enhancer):
    return add_enhancer(Config.fromfile(path), enhancer)


def dumped(path, enhancer):
    by_function(path, enhancer).dump(path.with_name(f"dumped_{enhancer}.py"))
    return path.with_name(f"dumped_{enhancer}.py")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 80, (48, 60, 3), dtype=np.uint8)


def found(model, image):
    instances = inference_detector(model, image).pred_instances
    return torch.cat([instances.bboxes, instances.scores[:, None]], dim=1)


@pytest.mark.examples(1)
@pytest.mark.parametrize("written", [by_hand, by_function])
def test_init_detector_loads_the_plain_checkpoint(plain, written, image):
    path, weights = plain
    expected = init_detector(str(path), str(weights), device="cpu")
    for enhancer in ("Identity", "PSENet"):
        config = written(path, enhancer)
        model = init_detector(config, str(weights), device="cpu")
        assert holds(model.detector, expected.state_dict())
        assert model.cfg.model.backbone is model.cfg.model.detector.backbone
        # init_detector removes pretrained weights, because the checkpoint replaces them.
        assert model.cfg.model.detector.backbone.get("init_cfg") is None
        same = torch.equal(found(model, image), found(expected, image))
        assert same == (enhancer == "Identity")


@pytest.mark.examples(1)
@pytest.mark.parametrize("written", [by_hand, dumped])
def test_the_inferencer_takes_the_config(plain, written, image):
    path, weights = plain
    model = DetInferencer(str(written(path, "Identity")), weights=str(weights), device="cpu", show_progress=False)
    expected = DetInferencer(str(path), weights=str(weights), device="cpu", show_progress=False)
    ours, theirs = (each(image, return_datasamples=False)["predictions"][0] for each in (model, expected))
    assert ours["bboxes"]
    assert ours == theirs


@pytest.mark.examples(1)
def test_a_runner_tests_the_config(plain, tmp_path):
    path, weights = plain
    cfg = Config.fromfile(by_hand(path, "PSENet"))
    write_set(tmp_path / "set.json", tmp_path, CLASSES)
    cfg.test_dataloader.dataset.update(
        ann_file=str(tmp_path / "set.json"), data_root="", data_prefix=dict(img=str(tmp_path))
    )  # fmt: skip
    cfg.test_evaluator = dict(type="CocoMetric", ann_file=str(tmp_path / "set.json"), metric="bbox")
    cfg.work_dir, cfg.load_from, cfg.experiment_name = str(tmp_path / "run"), str(weights), uuid.uuid4().hex
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    cfg.param_scheduler, cfg.custom_hooks, cfg.log_level = None, [], "ERROR"
    assert "coco/bbox_mAP" in Runner.from_cfg(cfg).test()


def test_a_config_imports_the_package_for_a_script_that_does_not(tmp_path):
    """The config's ``custom_imports`` imports the package while the config is read."""
    plain = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
    (tmp_path / "config.py").write_text(THREE_LINES.format(plain=plain, enhancer="Identity"))
    script = (
        "import sys\n"
        "from mmengine.config import Config\n"
        "assert 'llie_preproc' not in sys.modules\n"
        f"cfg = Config.fromfile({str(tmp_path / 'config.py')!r})\n"
        "assert 'init_cfg' in cfg.model.backbone\n"
        "cfg.model.backbone.init_cfg = None\n"
        "assert cfg.model.detector.backbone.init_cfg is None\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
