"""A thin network of the face detector DSFD learns to find faces that it has not seen, by a real config made small."""

import pytest

from tests.support.places import ROOT

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("skimage", reason="needs the extra 'demo'")

import json

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner

from llie_preproc.faces import MMDetFaceDetector, VotedFaceDetector
from tests.support.made_faces import SIDE, write_faces

WIDER = ROOT / "mm_configs" / "faces" / "dsfd_r50_wider-face.py"
STEPS = 800
CHANNELS = (16, 32, 64, 128, 64, 32)


def config(folder):
    """The WIDER FACE config with a thin network, small pictures, a short schedule and no pretrained weights."""
    cfg = Config.fromfile(WIDER)
    cfg.model.backbone.update(depth=18, base_channels=16, norm_eval=False, init_cfg=None)
    cfg.model.neck.update(in_channels=CHANNELS[:4], extra_channels=((32, CHANNELS[4]), (16, CHANNELS[5])))
    cfg.model.bbox_head.in_channels = CHANNELS
    for loader, part in ((cfg.train_dataloader, "train"), (cfg.test_dataloader, "test")):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(folder / part), ann_file="annotations.json", data_prefix=dict(img=""))
    cfg.train_dataloader.batch_size = 8
    for step in cfg.train_dataloader.dataset.pipeline:
        if step["type"] == "llie_preproc.DataAnchorSampling":
            step.update(size=SIDE, anchors=[16, 32, 64, 128])
        if step["type"] == "Resize":
            step["scale"] = (SIDE, SIDE)
    cfg.test_dataloader.batch_size = 8
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.test_evaluator.ann_file = str(folder / "test" / "annotations.json")
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=STEPS)
    cfg.optim_wrapper.optimizer = dict(type="AdamW", lr=2e-3, weight_decay=0.01, foreach=True)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
        dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=False, begin=50, end=STEPS, T_max=STEPS - 50),
    ]
    cfg.auto_scale_lr.enable = False
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=STEPS, save_optimizer=False)
    cfg.default_hooks.logger.interval = 25
    cfg.randomness = dict(seed=0)
    cfg.work_dir, cfg.experiment_name = str(folder / "run"), "dsfd_made_faces"
    cfg.custom_imports = None
    return cfg


@pytest.mark.slow(100)
def test_a_thin_dsfd_learns_faces_it_has_not_seen(tmp_path):
    write_faces(tmp_path / "train", "train", 600)
    truth = json.loads(write_faces(tmp_path / "test", "test", 80).read_text())
    cfg = config(tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    for name in ("loss_cls", "loss_bbox", "loss_cls_first", "loss_bbox_first"):
        losses, _ = runner.message_hub.get_scalar(f"train/{name}").data
        assert len(losses) == STEPS
        start, end = losses[:75].mean(), losses[-125:].mean()
        assert end < 0.6 * start, name
    scores = runner.test()
    assert scores["coco/bbox_mAP_50"] > 0.9

    checkpoint = str(tmp_path / "run" / f"iter_{STEPS}.pth")
    detector = MMDetFaceDetector(cfg, checkpoint)
    pictures = [cv2.imread(str(tmp_path / "test" / image["file_name"]))[..., ::-1] for image in truth["images"]]
    for each in (detector, VotedFaceDetector(detector)):
        found = recall(truth, each.detect(pictures))
        assert found > 0.85


def recall(truth, found):
    """Share of the annotated faces that a box with a score above 0.5 overlaps with an IoU of at least 0.5."""
    hit = 0
    for annotation in truth["annotations"]:
        faces = found[annotation["image_id"] - 1].above(0.5)
        x, y, w, h = annotation["bbox"]
        sides = np.minimum(faces.boxes[:, 2:], [x + w, y + h]) - np.maximum(faces.boxes[:, :2], [x, y])
        common = sides.clip(0).prod(axis=1)
        areas = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
        hit += bool((common / (areas + w * h - common) >= 0.5).any())
    return hit / len(truth["annotations"])
