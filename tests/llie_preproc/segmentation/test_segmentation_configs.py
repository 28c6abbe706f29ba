"""The configs of ``mm_configs/segmentation`` can be read and built, test on their sets, and write COCO's JSON."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from mmengine.runner import Runner
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from llie_preproc.config_nodes import nodes
from llie_preproc.detection import add_enhancer
from llie_preproc.segmentation import PUBLIC_CHECKPOINTS
from tests.support.configs import read_config, write_named_weights
from tests.support.made_sets import boxes_of, write_set
from tests.support.sam_models import TINY

FOLDER = files("mm_configs") / "segmentation"
LABELS = "sam_vit-b_darkface-labels"
ENHANCED = {
    f"{LABELS}_psenet": dict(type="PSENet"),
    f"{LABELS}_collaba-x2": dict(type="CollaBA", scale=2, checkpoint="weights/collaba_x2.safetensors"),
}
FOUND = "faster-rcnn_r50_sam_vit-b_exdark"
SIZE = (32, 48)
NAMES = (LABELS, *ENHANCED, FOUND)


@pytest.fixture(scope="module", autouse=True)
def sets(tmp_path_factory):
    """Write both sets in their layouts and set their environment variables; one picture of DARK FACE has no faces."""
    with pytest.MonkeyPatch.context() as patch:
        dark, exdark = tmp_path_factory.mktemp("dark"), tmp_path_factory.mktemp("exdark")
        patch.setenv("DARKFACE_ROOT", str(dark))
        patch.setenv("EXDARK_ROOT", str(exdark))
        annotations = dark / "annotations/darkface.json"
        write_set(annotations, dark / "image", ("face",), [SIZE, (40, 50)])
        truth = json.loads(annotations.read_text())
        for each in truth["annotations"]:
            each.update(category_id=1, image_id=1)
            del each["segmentation"]
        truth["annotations"] = truth["annotations"][:2]
        annotations.write_text(json.dumps(truth))
        classes = tuple(read_config(FOLDER / f"{FOUND}.py").classes_of_set)
        for part in ("val", "test"):
            write_set(exdark / f"annotations/exdark_{part}.json", exdark / "images", classes)
        yield dark, exdark


def parsed(name):
    """A config by its name, which is ``PLAIN_ENHANCER`` for an enhanced config."""
    if name not in ENHANCED:
        return read_config(FOLDER / f"{name}.py")
    return read_config(FOLDER / f"{LABELS}_enhanced.py", ENHANCER=name.rpartition("_")[2])


def made_small(cfg):
    """The config with a tiny SAM and detector, random weights and no workers."""
    for node in nodes(cfg.model):
        if "sam" in node:
            node.sam = dict(model="small", **TINY)
        if node.get("type") == "ResNet":
            node.pop("init_cfg")
            node.depth = 18
            node.base_channels = 16
        for width in ("in_channels", "out_channels", "feat_channels"):
            if node.get(width) == 256:
                node[width] = 32
        if node.get("type") == "FPN":
            node.in_channels = [16, 32, 64, 128]
        if "fc_out_channels" in node:
            node.fc_out_channels = 32
        if "score_thr" in node:
            node.update(score_thr=0.0)
        if node.get("type") == "CollaBA":
            node.modulation = None
        if "max_per_img" in node:
            node.max_per_img = 20
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    return cfg


def masks_file(cfg, folder):
    """Path of the masks' JSON after ``Runner.test`` in ``folder``."""
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(folder / "run"), folder.name, "ERROR"
    Runner.from_cfg(cfg).test()
    evaluator = cfg.test_evaluator if isinstance(cfg.test_evaluator, dict) else cfg.test_evaluator[0]
    return Path(f"{evaluator.outfile_prefix}.segm.json")


@pytest.mark.parametrize("name", NAMES)
def test_sam_is_the_public_vit_b(name):
    (segmentor,) = [node for node in nodes(parsed(name).model) if "sam" in node]
    assert segmentor.sam == dict(model="vit_b", checkpoint=PUBLIC_CHECKPOINTS["vit_b"])
    assert segmentor.type == "llie_preproc.BoxPromptedSAM"
    assert (segmentor.detector is None) == (name != FOUND)


@pytest.mark.parametrize("name", ENHANCED)
def test_an_enhanced_config_holds_the_plain_segmentor(name):
    plain, cfg = parsed(LABELS), parsed(name)
    assert cfg.model.pop("enhancer") == cfg.pop("enhancer") == ENHANCED[name]
    assert cfg.pop("work_dir") == f"work_dirs/{name}"
    cfg.pop("checkpointing", None)
    assert cfg.model.type == "llie_preproc.EnhancedDetector"
    cfg.model = cfg.model.detector
    assert cfg.test_evaluator.outfile_prefix != plain.test_evaluator.outfile_prefix
    cfg.test_evaluator.outfile_prefix = plain.test_evaluator.outfile_prefix
    assert cfg._cfg_dict == plain._cfg_dict


def test_the_detectors_config_is_the_plain_one():
    cfg = parsed(FOUND)
    plain = read_config(files("mm_configs") / "detection" / "faster-rcnn_r50_fpn_1x_exdark.py")
    assert cfg.model.detector == plain.model
    assert cfg.test_dataloader == plain.test_dataloader


@pytest.mark.parametrize("name", [LABELS, *ENHANCED])
def test_labelled_faces_get_masks_in_the_stored_frame(name, tree, sets):
    cfg = made_small(parsed(name))
    write_named_weights(cfg.model.get("enhancer", {}))
    path = masks_file(cfg, tree)
    loaded = COCO(str(sets[0] / "annotations/darkface.json")).loadRes(str(path))
    assert len(loaded.anns) == 2
    for record, (x1, y1, x2, y2) in zip(loaded.anns.values(), boxes_of(*SIZE), strict=True):
        assert (record["image_id"], record["category_id"]) == (1, 1)
        assert record["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert mask_utils.decode(record["segmentation"]).shape == SIZE


@pytest.mark.parametrize("door", [None, "preprocessor", "detector"])
def test_detected_boxes_get_masks_behind_an_enlarging_enhancer_too(door, tree, sets):
    cfg = made_small(parsed(FOUND))
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (130, 80)
    cfg = add_enhancer(cfg, dict(type="Upscale", scale=2), door=door) if door else cfg
    torch.manual_seed(0)
    path = masks_file(cfg, tree)
    loaded = COCO(str(sets[1] / "annotations/exdark_test.json")).loadRes(str(path))
    assert {each["image_id"] for each in loaded.anns.values()} == {1, 2}
    sizes = {1: (64, 96), 2: (80, 64)}
    for record in loaded.anns.values():
        height, width = sizes[record["image_id"]]
        assert record["segmentation"]["size"] == [height, width]
        x, y, w, h = record["bbox"]
        assert min(x, y) >= -1e-3
        assert x + w <= width + 1e-3
        assert y + h <= height + 1e-3
