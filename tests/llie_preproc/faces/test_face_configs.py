"""The configs of ``mm_configs/faces`` can be read, have the published sizes, load their sets, and learn from them."""

import copy
import json
from importlib.resources import files

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from llie_preproc.config_nodes import nodes
from tests.support.dsfd_models import build
from tests.support.marks import slow_where

FOLDER = files("mm_configs") / "faces"
PLAIN = {
    "dsfd_vgg16_wider-face": 49_793_432,
    "dsfd_r50_wider-face": 106_744_984,
    "dsfd_r101_wider-face": 125_737_112,
    "dsfd_r152_wider-face": 141_380_760,
    "dsfd_r152_release": 120_058_406,
}
ENHANCED = ("dsfd_vgg16_wider-face_enhanced", "dsfd_vgg16_darkface_enhanced")
NAMES = (*PLAIN, *ENHANCED, "dsfd_vgg16_darkface")
WIDTHS = ("widths", "fc_width", "base_channels", "in_channels", "extra_channels", "fem_width", "feat_channels")
BOXES = [[20, 30, 40, 60], [100, 80, 30, 40], [160, 10, 1, 40], [120, 20, 12, 16]]


def write_set(annotations, pictures, names):
    """Write a COCO set: grey pictures with four white faces each; the third is a pixel wide, the fourth a crowd."""
    pictures.mkdir(parents=True)
    annotations.parent.mkdir(parents=True, exist_ok=True)
    images, instances = [], []
    for number, name in enumerate(names, 1):
        picture = np.full((180, 240, 3), 60, np.uint8)
        for index, (x, y, w, h) in enumerate(BOXES):
            picture[y : y + h, x : x + w] = 250
            box = dict(bbox=[x, y, w, h], area=w * h, category_id=1, iscrowd=int(index == 3), image_id=number)
            instances.append(dict(box, id=len(instances) + 1))
        cv2.imwrite(str(pictures / name), picture)
        images.append(dict(id=number, file_name=name, width=240, height=180))
    content = dict(images=images, annotations=instances, categories=[dict(id=1, name="face")])
    annotations.write_text(json.dumps(content))


@pytest.fixture(scope="module", autouse=True)
def sets(tmp_path_factory):
    """Write both sets in their layouts and set their environment variables; returns the sets' folders."""
    with pytest.MonkeyPatch.context() as patch:
        wider, dark = tmp_path_factory.mktemp("wider"), tmp_path_factory.mktemp("dark")
        patch.setenv("WIDER_FACE_ROOT", str(wider))
        patch.setenv("DARKFACE_ROOT", str(dark))
        for part in ("train", "val"):
            write_set(wider / f"annotations/wider_{part}.json", wider / f"WIDER_{part}/images", ["a.png", "b.png"])
        write_set(dark / "annotations/darkface.json", dark / "image", ["1.png"])
        yield wider, dark


@pytest.fixture(scope="module")
def parsed(sets):
    found = {name: Config.fromfile(str(FOLDER / f"{name}.py")) for name in NAMES}
    return lambda name: copy.deepcopy(found[name])


def thin(model):
    """The model with an eighth of the width and nothing pretrained."""

    def eighth(value):
        return value // 8 if isinstance(value, int) else tuple(map(eighth, value))

    for node in nodes(model):
        node.pop("init_cfg", None)
        node.update({key: eighth(node[key]) for key in WIDTHS if key in node})
    return model


def test_every_config_is_tested():
    assert {path.stem for path in FOLDER.iterdir() if path.name.endswith(".py")} == set(NAMES)


@pytest.mark.parametrize(("name", "parameters"), PLAIN.items())
def test_the_networks_have_their_published_sizes(name, parameters, parsed):
    cfg = parsed(name)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    depths = {depth for depth in (50, 101, 152) if f"_r{depth}" in name}
    assert {cfg.model.backbone.get("depth")} == (depths or {None})
    sizes = [(640 // stride, 640 // stride) for stride in (4, 8, 16, 32, 64, 128)]
    assert sum(len(p) for p in model.bbox_head.prior_generator.grid_priors(sizes, device="cpu")) == 34_125


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule_is_the_published_one(name, parsed):
    cfg = parsed(name)
    assert cfg.train_cfg.max_iters == 60_000
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.optim_wrapper.optimizer == dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
    assert cfg.optim_wrapper.clip_grad
    steps = cfg.param_scheduler[-1]
    assert (steps.milestones, steps.gamma, steps.by_epoch) == ([40_000, 50_000], 0.1, False)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_evaluates_on_its_set(name, parsed, sets):
    cfg, dark = parsed(name), "darkface" in name
    dataset = cfg.test_dataloader.dataset
    expected = sets[1] / "annotations/darkface.json" if dark else sets[0] / "annotations/wider_val.json"
    assert cfg.test_evaluator.ann_file == str(expected) == dataset.data_root + dataset.ann_file
    (sample, *others) = DATASETS.build(dataset)
    assert len(others) == (0 if dark else 1)
    found = sample["data_samples"]
    assert found.img_shape == found.ori_shape == (180, 240)
    assert found.scale_factor == (1.0, 1.0)
    assert cfg.val_evaluator.ann_file == str(sets[0] / "annotations/wider_val.json")


def test_training_pictures_hold_their_faces(parsed):
    np.random.seed(0)
    cfg = parsed("dsfd_vgg16_wider-face")
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [step for step in pipeline if step["type"] != "PhotoMetricDistortion"]
    assert len(cfg.train_dataloader.dataset.pipeline) == len(pipeline) - 1
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    seen = 0
    for index in range(40):
        sample = dataset[index % 2]
        picture, found = sample["inputs"].float(), sample["data_samples"]
        assert picture.shape == (3, 640, 640)
        assert len(found.gt_instances) > 0
        for instances in (found.gt_instances, found.ignored_instances):
            for x1, y1, x2, y2 in instances.bboxes.tensor.tolist():
                # A face is white inside. Its edge is blurred over several pixels by the resize. The pixel-wide face is
                # dropped.
                left, top, right, bottom = (round(v) for v in (x1, y1, x2, y2))
                margin = 12 if min(right - left, bottom - top) > 48 else (right - left) // 4
                inside = picture[:, top + margin : bottom - margin, left + margin : right - margin]
                assert inside.numel() > 0
                assert inside.min() > 200
                seen += 1
        assert not found.gt_instances.labels.any()
    assert seen > 40


# These configs differ in their parts; the others differ in depth or in the set that they are tested on.
PARTS = ("dsfd_vgg16_wider-face", "dsfd_r50_wider-face", "dsfd_r152_release", "dsfd_vgg16_wider-face_enhanced")


@pytest.mark.examples(1)
@pytest.mark.parametrize("name", slow_where({*NAMES} - {*PARTS}, NAMES))
def test_a_thin_detector_gets_gradients_and_predicts(name, parsed):
    np.random.seed(1)
    cfg = parsed(name)
    inner = cfg.model.detector if name in ENHANCED else cfg.model
    thin(inner)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (128, 128)
    model = build(cfg.model).train()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    total, parts = model.parse_losses(model(**batch, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    assert total > 0
    assert sum("cls" in part for part in parts) == (3 if "release" in name else 2)
    trained = model.detector if name in ENHANCED else model
    for part in (trained.backbone, trained.neck, trained.bbox_head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    if name in ENHANCED:
        assert all(p.grad is None for p in model.enhancer.parameters())
    model.eval()
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]]))
    assert torch.isfinite(sample.pred_instances.bboxes).all()


@pytest.mark.parametrize("name", ["dsfd_vgg16_wider-face", "dsfd_vgg16_darkface_enhanced"])
def test_a_runner_takes_the_config(name, parsed, tmp_path):
    cfg = parsed(name)
    thin(cfg.model.detector if name in ENHANCED else cfg.model)
    cfg.work_dir, cfg.experiment_name = str(tmp_path), f"faces_{name}"
    assert Runner.from_cfg(cfg).experiment_name.startswith("faces")


def test_the_release_config_tests_as_the_release(parsed):
    cfg = parsed("dsfd_r152_release").model
    assert cfg.test_cfg == dict(
        score_thr=0.01, nms_pre=5000, nms=dict(type="nms", iou_threshold=0.3), max_per_img=5000, clip_priors=True
    )
    assert cfg.data_preprocessor.mean == [104.0, 117.0, 123.0]
    assert cfg.data_preprocessor.std == [1.0, 1.0, 1.0]
    assert not cfg.data_preprocessor.bgr_to_rgb


@pytest.mark.parametrize("name", ENHANCED)
def test_an_enhanced_config_holds_the_plain_detector(name, parsed):
    plain, cfg = parsed(name.removesuffix("_enhanced")), parsed(name)
    assert cfg.model.pop("enhancer") == cfg.pop("enhancer") == dict(type="PSENet")
    assert cfg.pop("work_dir") == f"work_dirs/{name.removesuffix('_enhanced')}_psenet"
    assert cfg.model.pop("type") == "llie_preproc.EnhancedDetector"
    cfg.model = cfg.model.detector
    assert cfg._cfg_dict == plain._cfg_dict
