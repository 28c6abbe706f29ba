"""With MMDetection's test-time augmentation (``tools/test.py --tta``), the detector sees enhanced pictures."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from importlib.resources import files

import mmdet
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from llie_preproc.config_nodes import nodes
from llie_preproc.detection import add_enhancer
from tests.support.configs import read_config

OWN = files("mm_configs")
THEIRS = Path(mmdet.__file__).parent / ".mim" / "configs"
SHIPPED = {
    "detection/yolox_s_exdark": ("psenet", "clahe", "gamma"),
    "detection/yolox_s_night-visdrone": ("psenet",),
    "detection/faster-rcnn_r50_fpn_1x_exdark": ("psenet",),
    "detection/retinanet_r50_fpn_1x_night-visdrone": ("psenet",),
}
WRAPPED = (
    "detection/faster-rcnn_r50_fpn_1x_coco_enhanced",
    "joint/faster-rcnn_r50_fpn_exdark_joint",
    "joint/retinanet_r50_fpn_darkface_joint",
)
FAMILIES = {
    "yolox": "yolox/yolox_tiny_8xb8-300e_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "no tta_pipeline": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}

NARROW = {
    "ResNet": dict(depth=18, base_channels=4, stem_channels=4),
    "CSPDarknet": dict(widen_factor=0.125),
    "CSPNeXt": dict(widen_factor=0.125),
    "FPN": dict(out_channels=8),
    "Shared2FCBBoxHead": dict(fc_out_channels=8),
}


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A dark picture on disk, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    dark = np.random.default_rng(0).integers(0, 40, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    return tmp_path / "dark.png"


def with_tta(cfg):
    """The config as ``tools/test.py --tta`` changes it."""
    cfg = copy.deepcopy(cfg)
    if "tta_model" not in cfg:
        cfg.tta_model = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100))
    if "tta_pipeline" not in cfg:
        cfg.tta_pipeline = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
        flips = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
        cfg.tta_pipeline[-1] = dict(
            type="TestTimeAug", transforms=[flips, [dict(type="PackDetInputs", meta_keys=keys)]]
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    return cfg


class Seen(Exception):
    """Raised to end a test step once the detector's data preprocessor has got its images."""


def views_of(cfg, picture):
    """Mean level of each view that the detector sees, by the config's own pipeline and model."""
    cfg = with_tta(cfg)
    for node in nodes(cfg.model):
        node.pop("init_cfg", None)
        # Layers behind the data preprocessor do not run, so their widths need not match.
        node.update(NARROW.get(node.get("type"), {}))
    # Small pictures are enough, since only the brightness is compared.
    shrink(cfg.test_dataloader.dataset.pipeline)
    with DefaultScope.overwrite_default_scope("mmdet"):
        steps = [step for step in cfg.test_dataloader.dataset.pipeline if "Annotations" not in step["type"]]
        packed = Compose(steps)(dict(img_path=str(picture), img_id=1, instances=[], height=60, width=80))
        model = MODELS.build(cfg.model).eval()
    detector = model.module.detector if "Enhanced" in type(model.module).__name__ else model.module
    shown = []

    def look(module, arguments):
        shown.append(torch.stack(list(arguments[0]["inputs"])).float())
        raise Seen

    inner = detector.data_preprocessor
    if "Enhanced" in type(inner).__name__:
        images = [inner.enhance_images([view])[0] for view in packed["inputs"]]
        return [float(image.mean()) for image in images]
    inner.register_forward_pre_hook(look)
    for view, sample in zip(packed["inputs"], packed["data_samples"], strict=True):
        with pytest.raises(Seen), torch.no_grad():
            model.module.test_step(dict(inputs=[view], data_samples=[sample]))
    return [float(image[image != 114].mean()) for image in shown]


def shrink(node):
    for step in node if isinstance(node, list) else [node]:
        if isinstance(step, list):
            shrink(step)
        elif step.get("type") == "Resize":
            step["scale"] = (96, 96)
        elif "size" in step:
            step["size"] = (96, 96)
        elif step.get("type") == "TestTimeAug":
            step["transforms"] = [
                [each for each in inner if "Annotations" not in each["type"]] for inner in step["transforms"]
            ]
            step["transforms"] = [inner for inner in step["transforms"] if inner]
            shrink(step["transforms"])


def assert_brighter(enhanced, raw):
    assert len(enhanced) == len(raw) > 1
    assert all(level < 40 for level in raw)
    assert all(level > 55 for level in enhanced), (enhanced, raw)


@pytest.mark.examples(2)
@pytest.mark.parametrize(("name", "enhancer"), [(n, e) for n, enhancers in SHIPPED.items() for e in enhancers])
def test_views_of_shipped_configs_with_a_transform_are_enhanced(name, enhancer, picture):
    plain, cfg = read_config(OWN / f"{name}.py"), read_config(OWN / f"{name}_enhanced.py", ENHANCER=enhancer)
    if enhancer == "clahe":
        # CLAHE changes contrast rather than brightness.
        assert views_of(cfg, picture) != views_of(plain, picture)
    else:
        assert_brighter(views_of(cfg, picture), views_of(plain, picture))


@pytest.mark.parametrize("name", WRAPPED)
def test_views_of_shipped_configs_with_a_wrapper_are_enhanced(name, picture):
    cfg = read_config(OWN / f"{name}.py")
    plain = copy.deepcopy(cfg)
    plain.model = cfg.model.detector
    assert_brighter(views_of(cfg, picture), views_of(plain, picture))


def test_shipped_configs_with_their_own_views_enhance_them():
    names = [path.name for path in (OWN / "detection").iterdir() if path.name.startswith("yolox_s_")]
    assert len(names) == 4
    for name in names:
        cfg = read_config(OWN / "detection" / name)
        kinds = [step["type"] for step in cfg.tta_pipeline]
        assert kinds.count("llie_preproc.Enhance") == ("enhanced" in cfg)
        assert [step[0]["type"] for step in cfg.tta_pipeline[-1].transforms][-2:] == [
            "llie_preproc.RestoreScaleFactor",
            "PackDetInputs",
        ]


@pytest.mark.examples(5)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "door", [dict(door="transform"), dict(door="transform", position="after_load"), dict(door="preprocessor"), dict()]
)
def test_add_enhancer_reaches_the_views(family, door, picture):
    cfg = read_config(THEIRS / FAMILIES[family])
    enhanced = add_enhancer(cfg, "PSENet", **door)
    assert_brighter(views_of(enhanced, picture), views_of(cfg, picture))


@pytest.mark.parametrize("position", ["before_pack", "after_load"])
def test_views_of_an_enlarging_enhancer_are_in_the_raw_frame(position, picture):
    cfg = read_config(THEIRS / FAMILIES["rtmdet"])
    new = add_enhancer(cfg, dict(type="Upscale", scale=2), door="transform", position=position)
    shrink(new.tta_pipeline)
    with DefaultScope.overwrite_default_scope("mmdet"):
        packed = Compose(list(new.tta_pipeline))(dict(img_path=str(picture), img_id=1))
    for sample in packed["data_samples"]:
        assert sample.ori_shape == (60, 80)
        # 'before_pack' resizes the picture to 96 pixels and then doubles it; 'after_load' doubles it first.
        assert sample.scale_factor == pytest.approx((1.2 * (2 if position == "before_pack" else 1),) * 2)
