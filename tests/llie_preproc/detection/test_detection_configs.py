"""The configs of ``mm_configs/detection`` can be read and built, and load their sets.

Each enhanced config differs from the plain one only in the enhancement.
"""

import random
from importlib.resources import files

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from detection_eval.datasets.formats import exdark, visdrone
from llie_preproc.config_nodes import nodes
from tests.support.configs import read_config, write_named_weights
from tests.support.made_sets import bright_box, write_set
from tests.support.mmdet_models import build, mmdet_config, narrow_resnet

FOLDER = files("mm_configs") / "detection"
DETECTORS = ("faster-rcnn_r50_fpn_1x", "retinanet_r50_fpn_1x", "yolox_s")
SETS = {"night-visdrone": 10, "exdark": 12}
ENHANCERS = ("psenet", "semi-llie", "iaml", "collaba-x2", "zero-dce", "sci", "clahe", "gamma")
PLAIN = [f"{detector}_{each}" for detector in DETECTORS for each in SETS]
SMALL = "faster-rcnn_r18_exdark_small"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture(scope="module", autouse=True)
def sets(tmp_path_factory):
    """Write both sets in their layouts, in the folders that the configs' environment variables name."""
    with pytest.MonkeyPatch.context() as patch:
        for each, variable in {"night-visdrone": "VISDRONE_ROOT", "exdark": "EXDARK_ROOT"}.items():
            root = tmp_path_factory.mktemp(each)
            patch.setenv(variable, str(root))
            for loader in LOADERS:
                dataset = inner(parsed(f"yolox_s_{each}")[loader].dataset)
                assert dataset.data_root == f"{root}/"
                write_set(root / dataset.ann_file, root / "images", tuple(dataset.metainfo.classes))
        yield


def parsed(name):
    return read_config(FOLDER / f"{name}.py")


def enhanced(name, enhancer):
    return read_config(FOLDER / f"{name}_enhanced.py", ENHANCER=enhancer)


def inner(dataset):
    return inner(dataset.dataset) if "dataset" in dataset else dataset


def classes_of(name):
    return next(count for each, count in SETS.items() if each in name)


def test_every_detector_and_set_has_a_plain_and_an_enhanced_config():
    names = {path.name.removesuffix(".py") for path in FOLDER.iterdir() if path.name.endswith(".py")}
    assert names == {SMALL, "faster-rcnn_r50_fpn_1x_coco_enhanced", *PLAIN, *(f"{each}_enhanced" for each in PLAIN)}


@pytest.mark.parametrize("name", [*PLAIN, SMALL])
def test_classes_schedule_and_evaluation_belong_to_the_set(name):
    cfg, count = parsed(name), classes_of(name)
    classes = {tuple(inner(cfg[loader].dataset).metainfo.classes) for loader in LOADERS}
    assert [len(each) for each in classes] == [count]
    written = {"night-visdrone": visdrone.CLASSES, "exdark": exdark.CLASSES}
    assert all({of_set} == classes for each, of_set in written.items() if each in name)
    assert {node["num_classes"] for node in nodes(cfg.model) if "num_classes" in node} == {count}
    kinds = [each["type"] for each in cfg.test_evaluator]
    assert kinds == ["llie_preproc.NameMatchedCocoMetric"] + ["llie_preproc.VisDroneMetric"] * ("visdrone" in name)
    tested = inner(cfg.test_dataloader.dataset)
    assert all(each["ann_file"] == f"{tested.data_root}{tested.ann_file}" for each in cfg.test_evaluator)
    assert inner(cfg.train_dataloader.dataset).ann_file != tested.ann_file
    if "_1x_" in name:
        assert cfg.train_cfg.max_epochs == 12
        assert cfg.model.backbone.init_cfg.checkpoint == "torchvision://resnet50"
        assert cfg.train_dataloader.batch_size == 2


@pytest.mark.parametrize("name", PLAIN)
def test_the_learning_rate_is_mmdetections_scaled_to_the_batch(name):
    cfg = parsed(name)
    own = mmdet_config({"f": "faster_rcnn", "r": "retinanet", "y": "yolox"}[name[0]])
    assert cfg.optim_wrapper.optimizer.lr == own.optim_wrapper.optimizer.lr
    assert cfg.auto_scale_lr == {**own.auto_scale_lr, "enable": True}


@pytest.mark.examples(2)
@pytest.mark.parametrize("name", [*PLAIN, SMALL])
def test_a_runner_takes_the_config(name, tree):
    cfg = parsed(name)
    cfg.work_dir, cfg.experiment_name = str(tree / "run"), name
    assert Runner.from_cfg(cfg).experiment_name.startswith(name)


@pytest.mark.examples(10)
@pytest.mark.parametrize("enhancer", ENHANCERS)
@pytest.mark.parametrize("name", PLAIN)
def test_an_enhanced_config_differs_from_the_plain_one_by_a_cached_transform_after_loading(name, enhancer):
    plain, cfg = parsed(name), enhanced(name, enhancer)
    (added,) = cfg.pop("enhanced")
    # Two enhancers must not share a work folder.
    assert cfg.pop("work_dir") == f"work_dirs/{name}_{enhancer}"
    assert added["enhancer"] == cfg.pop("enhancer")
    cfg.pop("checkpointing", None)
    assert added["type"] == "llie_preproc.Enhance"
    assert added["cache_dir"]
    for loader in LOADERS:
        pipeline = inner(cfg[loader].dataset).pipeline
        position = pipeline.index(added)
        assert all(each["type"].startswith("Load") for each in pipeline[:position])
        pipeline.pop(position)
        assert added not in pipeline
    if "tta_pipeline" in cfg:
        assert cfg.tta_pipeline.pop(1) == added
    assert cfg._cfg_dict == plain._cfg_dict


def of_quarter_size(cfg):
    """The config, changed so that it resizes pictures to a quarter of the sides that it names."""
    for loader in LOADERS:
        for step in inner(cfg[loader].dataset).pipeline:
            if step["type"] == "Resize":
                step["scale"] = tuple(side // 4 for side in step["scale"])
    return cfg


def samples(cfg, loader):
    random.seed(1)
    np.random.seed(1)
    dataset = DATASETS.build(cfg[loader].dataset)
    return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize("name", [n for n in [*PLAIN, SMALL] if "yolox" not in n])
def test_training_boxes_lie_on_their_objects(name, tree):
    found = samples(parsed(name), "train_dataloader")
    assert len(found) == 2
    for packed in found:
        picture, truth = packed["inputs"].permute(1, 2, 0).numpy(), packed["data_samples"].gt_instances
        assert truth.labels.tolist() == [0, classes_of(name) - 1]
        for channel, box in enumerate(truth.bboxes.tensor.tolist()):
            # A pixel of the stored picture becomes ten or more pixels of the resized one.
            assert box == pytest.approx(bright_box(picture, channel), abs=6)


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        *(
            pytest.param(
                "faster-rcnn_r50_fpn_1x_night-visdrone",
                name,
                marks=[pytest.mark.slow] * (name in ("semi-llie", "collaba-x2")),
            )
            for name in ENHANCERS
        ),
        *(("yolox_s_exdark", enhancer) for enhancer in ("gamma", "collaba-x2")),
    ],
)
def test_enhanced_pictures_have_the_frame_of_the_plain_ones(name, enhancer, tree):
    plain, cfg = of_quarter_size(parsed(name)), of_quarter_size(enhanced(name, enhancer))
    (added,) = cfg.enhanced
    write_named_weights(added["enhancer"])
    for loader in LOADERS[::2]:
        for ours, theirs in zip(samples(cfg, loader), samples(plain, loader), strict=True):
            assert ours["inputs"].shape == theirs["inputs"].shape
            assert not torch.equal(ours["inputs"], theirs["inputs"])
            a, b = ours["data_samples"], theirs["data_samples"]
            assert a.img_shape == b.img_shape
            if loader == "test_dataloader" or "yolox" not in name:
                assert a.ori_shape == b.ori_shape
                assert a.scale_factor == pytest.approx(b.scale_factor)
            assert torch.equal(a.gt_instances.labels, b.gt_instances.labels)
            # Mosaic and affine transforms round positions to whole pixels.
            tolerance = 2.0 if "yolox" in name else 1e-3
            assert torch.allclose(a.gt_instances.bboxes.tensor, b.gt_instances.bboxes.tensor, atol=tolerance)
    entries = list((tree / "work_dirs" / "enhanced").rglob("*.npy"))
    # The training part and the test part hold the same two pictures.
    assert len(entries) == 2


@pytest.mark.examples(2)
@pytest.mark.parametrize("name", [*PLAIN, SMALL])
def test_the_detector_builds_and_learns_from_its_set(name, tree):
    cfg = parsed(name)
    for node in nodes(cfg.model):
        node.pop("init_cfg", None)
        if "fc_out_channels" in node:
            node["fc_out_channels"] = 32
        if node.get("type") == "ResNet" and node["depth"] == 50:
            node.update(norm_eval=False, frozen_stages=-1)
            narrow_resnet(cfg.model)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (160, 160)
    model = build(cfg.model).train()
    MessageHub.get_current_instance().update_info("iter", 0)
    batch = model.data_preprocessor(pseudo_collate(samples(cfg, "train_dataloader")), True)
    total, parts = model.parse_losses(model(**batch, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    assert any("cls" in part for part in parts)
    head = model.roi_head.bbox_head.fc_cls if "rcnn" in name else model.bbox_head
    classes = head.out_features - 1 if "rcnn" in name else head.num_classes
    assert classes == classes_of(name)
