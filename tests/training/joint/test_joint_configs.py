"""The configs of ``mm_configs/joint`` build and train; presets in ``_base_/joint`` change only the keys they name."""

import copy
import json
import uuid
from importlib.resources import files

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from llie_preproc.config_nodes import nodes
from llie_preproc.enhancers.names import enhancer_classes
from tests.support.configs import read_config, write_named_weights
from tests.support.made_sets import write_set
from tests.support.mmdet_models import build, mmdet_config, narrow_resnet

CONFIGS = files("mm_configs")
SETS = {"night-visdrone": ("VISDRONE_ROOT", 10), "exdark": ("EXDARK_ROOT", 12), "darkface": ("DARKFACE_ROOT", 1)}
DETECTORS = {
    "faster-rcnn_r50_fpn_night-visdrone": "FasterRCNN",
    "faster-rcnn_r50_fpn_exdark": "FasterRCNN",
    "retinanet_r50_fpn_darkface": "RetinaNet",
    "dsfd_vgg16_darkface": "llie_preproc.DSFD",
}
ENHANCERS = {
    "psenet": "PSENet",
    "zero-dce": "ZeroDCE",
    "sci": "SCI",
    "iaml": "IAMLUNet",
    "semi-llie": "SemiLLIE",
    "collaba-x2": "CollaBA",
}
NAMES = [f"{detector}_{enhancer}" for detector in DETECTORS for enhancer in ENHANCERS]
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
PRESETS = {
    "joint": {"model.train_detector": True},
    "frozen": {"model.trainable": False, "model.train_detector": True},
    "enhancer_only": {"model.train_detector": False},
    "staged": {
        "model.train_detector": True,
        "default_hooks.staged.type": "llie_preproc.StagedTraining",
        "default_hooks.staged.begin": 5,
        "find_unused_parameters": True,
    },
}


@pytest.fixture(scope="module", autouse=True)
def sets(tmp_path_factory):
    """Write the data sets in their layouts, and set the environment variables with their roots."""
    with pytest.MonkeyPatch.context() as patch:
        for each, (variable, _) in SETS.items():
            root = tmp_path_factory.mktemp(each)
            patch.setenv(variable, str(root))
            cfg = parsed(next(name for name in NAMES if each in name))
            for loader in LOADERS:
                dataset = cfg[loader].dataset
                assert dataset.data_root == f"{root}/"
                pictures = root / dataset.data_prefix.img
                write_set(root / dataset.ann_file, pictures, tuple(dataset.metainfo.classes))
        yield


def parsed(name):
    """The config of a name ``DETECTOR_SET_ENHANCER``."""
    detector, _, enhancer = name.rpartition("_")
    return read_config(CONFIGS / "joint" / f"{detector}_joint.py", ENHANCER=enhancer)


def fragment(name):
    return read_config(CONFIGS / "_base_" / "joint" / f"{name}.py").to_dict()


def flat(node, prefix=""):
    if not isinstance(node, dict):
        return {prefix: node}
    return {key: value for k, v in node.items() for key, value in flat(v, f"{prefix}.{k}" if prefix else k).items()}


def changes(before, after):
    """Dotted keys that differ, with their values in ``after``; None for a key that ``after`` lacks."""
    before, after = flat(before.to_dict()), flat(after.to_dict())
    missing = object()
    keys = [key for key in {**before, **after} if before.get(key, missing) != after.get(key, missing)]
    return {key: after.get(key) for key in keys}


def narrow(cfg):
    """Make the detector narrow, without pretrained parts, and pictures 96 pixels a side; return the config."""

    def eighth(value):
        return value // 8 if isinstance(value, int) else tuple(map(eighth, value))

    detector = cfg.model.detector
    dsfd = "DSFD" in detector.type
    for node in nodes(detector):
        node.pop("init_cfg", None)
        if "score_thr" in node:
            node["score_thr"] = 0.0
        if "fc_out_channels" in node:
            node["fc_out_channels"] = 32
        widths = ("widths", "fc_width", "in_channels", "extra_channels")
        node.update({k: eighth(node[k]) for k in widths if k in node and dsfd})
    if not dsfd:
        detector.backbone.update(norm_eval=False, frozen_stages=-1)
        narrow_resnet(detector)
    for loader in LOADERS:
        for step in cfg[loader].dataset.pipeline:
            if step["type"] == "Resize" and "scale" in step:
                step["scale"] = (96, 96)
    return cfg


def test_there_is_a_config_for_every_detector_and_set():
    found = {path.name.removesuffix(".py") for path in (CONFIGS / "joint").iterdir() if path.name.endswith(".py")}
    assert found == {f"{detector}_joint" for detector in DETECTORS}


@pytest.mark.examples(8)
@pytest.mark.parametrize("name", NAMES)
def test_detector_enhancer_classes_and_checkpoints_match_the_name(name):
    cfg = parsed(name)
    detector, enhancer = next((d, e) for d in DETECTORS for e in ENHANCERS if name == f"{d}_{e}")
    classes = next(count for each, (_, count) in SETS.items() if each in name)
    model = cfg.model
    assert (model.type, model.trainable) == ("llie_preproc.EnhancedDetector", True)
    assert model.detector.type == DETECTORS[detector]
    spec = model.enhancer
    assert spec["type"] == ENHANCERS[enhancer]
    assert spec["type"] in enhancer_classes()
    assert spec.get("scale", 1) == (2 if enhancer == "collaba-x2" else 1)
    # PSENet's weights are shipped, so its config names none.
    stored = f"weights/{enhancer.replace('-', '_')}.safetensors"
    assert spec.get("checkpoint") == (None if enhancer == "psenet" else stored)
    assert cfg.work_dir == f"work_dirs/{detector}_joint_{enhancer}"
    assert model.checkpointing == (enhancer in ("iaml", "semi-llie", "collaba-x2"))
    assert {node["num_classes"] for node in nodes(model) if "num_classes" in node} == {classes}
    assert {len(cfg[loader].dataset.metainfo.classes) for loader in LOADERS} == {classes}
    start = {"FasterRCNN": "faster_rcnn_r50_fpn_1x_coco", "RetinaNet": "retinanet_r50_fpn_1x_coco"}
    assert cfg.load_from.startswith(f"weights/{start.get(model.detector.type, 'dsfd_vgg16_wider-face.pth')}")


@pytest.mark.parametrize("name", NAMES)
def test_pipelines_do_not_enhance(name):
    cfg = parsed(name)
    tested = cfg.test_dataloader.dataset
    for loader in LOADERS:
        kinds = [step["type"] for step in cfg[loader].dataset.pipeline]
        assert kinds[-1] == "PackDetInputs"
        assert "llie_preproc.Enhance" not in kinds
        assert not {f"llie_preproc.{each}" for each in enhancer_classes()} & set(kinds)
    assert cfg.train_dataloader.dataset.ann_file != tested.ann_file
    assert all(each["ann_file"] == f"{tested.data_root}{tested.ann_file}" for each in cfg.test_evaluator)
    kinds = [each["type"] for each in cfg.test_evaluator]
    assert kinds == ["llie_preproc.NameMatchedCocoMetric"] + ["llie_preproc.VisDroneMetric"] * ("visdrone" in name)


@pytest.mark.examples(24)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_changes_only_its_keys(name, preset):
    cfg = parsed(name)
    cfg.merge_from_dict(fragment(preset))
    assert changes(parsed(name), cfg) == PRESETS[preset]


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule_equals_its_fragment(name):
    """IAT (BMVC 2022) has SGD at 1e-3 for 8 pictures, 25 epochs, a tenth of the rate after 18 and again after 23."""
    cfg = parsed(name)
    cfg.merge_from_dict(fragment("schedule"))
    assert changes(parsed(name), cfg) == {}
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ("SGD", 1e-3)
    assert cfg.train_cfg.max_epochs == 25
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=8)
    steps = cfg.param_scheduler[-1]
    assert (steps.milestones, steps.gamma, steps.by_epoch) == ([18, 23], 0.1, True)
    assert "_delete_" not in json.dumps(cfg.to_dict(), default=str)


def demo():
    return read_config(CONFIGS / "demo" / "faster_rcnn_r18_night.py")


@pytest.mark.parametrize("plain", [lambda: mmdet_config("detr"), demo, lambda: mmdet_config("yolox")])
def test_the_schedule_replaces_that_of_other_configs(plain):
    """No setting of AdamW, of a loop by iterations or of an endless sampler is left."""
    cfg = plain()
    cfg.merge_from_dict(fragment("schedule"))
    assert cfg.optim_wrapper.optimizer == dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
    assert cfg.train_cfg == dict(type="EpochBasedTrainLoop", max_epochs=25, val_interval=1)
    assert cfg.train_dataloader.sampler == dict(type="DefaultSampler", shuffle=True)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys["enhancer."] == dict(lr_mult=0.1, decay_mult=0.0)
    assert cfg.default_hooks.checkpoint.type == "llie_preproc.AtomicCheckpointHook"
    assert cfg.default_hooks.checkpoint.by_epoch


# Names that cover every detector and every enhancer.
BUILT = [
    "faster-rcnn_r50_fpn_night-visdrone_semi-llie",
    "faster-rcnn_r50_fpn_exdark_iaml",
    "retinanet_r50_fpn_darkface_collaba-x2",
    "retinanet_r50_fpn_darkface_zero-dce",
    "dsfd_vgg16_darkface_psenet",
    "dsfd_vgg16_darkface_sci",
]
RATES = {"detector": {(1e-3, 5e-4)}, "enhancer": {(1e-4, 0.0)}}


@pytest.mark.examples(2)
@pytest.mark.parametrize("name", BUILT)
def test_a_config_builds_and_its_enhancer_has_a_tenth_of_the_rate(name):
    cfg = narrow(parsed(name))
    if "checkpoint" in cfg.model.enhancer:
        cfg.model.enhancer.checkpoint = None
    model = build(cfg.model)
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    settings = {id(p): (g["lr"], g["weight_decay"]) for g in wrapper.optimizer.param_groups for p in g["params"]}
    trained = {part: [p for p in getattr(model, part).parameters() if p.requires_grad] for part in RATES}
    assert {part: {settings[id(p)] for p in parameters} for part, parameters in trained.items()} == RATES
    # Semi-LLIE has a fixed filter among its parameters.
    fixed = {n for n, p in model.enhancer.named_parameters() if not p.requires_grad}
    assert fixed <= {"gradient_kernel"}


class Watch(Hook):
    """Hook that records the losses, and the model before and after training."""

    def __init__(self):
        self.losses = []

    def before_train(self, runner):
        self.before = copy.deepcopy(runner.model.state_dict())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs["loss"]))

    def after_train(self, runner):
        self.after = copy.deepcopy(runner.model.state_dict())

    def moved(self, part):
        names = [n for n in self.before if n.startswith(part) and "running_" not in n and "num_batches" not in n]
        return any(not torch.equal(self.before[n], self.after[n]) for n in names)


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    ("name", "preset", "steps"),
    [
        ("faster-rcnn_r50_fpn_exdark_zero-dce", "joint", 2),
        ("retinanet_r50_fpn_darkface_psenet", "enhancer_only", 2),
        ("dsfd_vgg16_darkface_sci", "joint", 1),
    ],
)
def test_a_narrow_config_trains_from_its_checkpoints(name, preset, steps, tmp_path, monkeypatch):
    """It trains one epoch and validates; where the config loads COCO's detector, the checkpoint has 80 classes."""
    monkeypatch.chdir(tmp_path)
    cfg = narrow(parsed(name))
    cfg.merge_from_dict(fragment(preset))
    (tmp_path / "weights").mkdir()
    write_named_weights(cfg.model.enhancer)
    plain = copy.deepcopy(cfg.model.detector)
    for node in nodes(plain):
        if "num_classes" in node and "dsfd" not in name:
            node["num_classes"] = 80
    detector = build(plain, seed=7)
    torch.save(dict(state_dict=detector.state_dict(), meta={}), cfg.load_from)
    for loader in LOADERS:
        cfg[loader].update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2 // steps
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir, cfg.experiment_name, cfg.log_level = "run", uuid.uuid4().hex, "ERROR"
    cfg.randomness = dict(seed=0)
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    assert len(watch.losses) == steps
    assert all(0 < loss < float("inf") for loss in watch.losses)
    for key, value in detector.backbone.state_dict().items():
        assert torch.equal(watch.before[f"detector.backbone.{key}"], value)
    assert watch.moved("enhancer.")
    assert watch.moved("detector.") == (preset != "enhancer_only")
    if preset == "enhancer_only":
        # The frozen detector keeps its running statistics too.
        assert all(torch.equal(watch.after[n], v) for n, v in watch.before.items() if n.startswith("detector."))
    assert (tmp_path / "run" / "epoch_1.pth").is_file()
    assert any("bbox_mAP" in key for key in runner.message_hub.log_scalars)
