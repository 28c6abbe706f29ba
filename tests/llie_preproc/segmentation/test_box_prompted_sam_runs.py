"""``BoxPromptedSAM`` keeps its detector's boxes, loads its checkpoints, and gives equal JSON at every door.

A door is the place of an enhancer: a transform, the data preprocessor, or a wrapper round the model.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from segment_anything import SamPredictor

from llie_preproc.config_nodes import nodes
from llie_preproc.detection import EnhancedDetector, add_enhancer
from llie_preproc.enhancers import GammaCorrection
from llie_preproc.errors import CheckpointError
from llie_preproc.segmentation import EnhancedSamPredictor
from llie_preproc.segmentation.box_prompted import BoxPromptedSAM
from tests.support.made_sets import boxes_of, picture_of, test_runner, write_set
from tests.support.mmdet_models import PERFECT, build, mmdet_config, raw_batch
from tests.support.sam_models import TINY, tiny_sam


@pytest.fixture(scope="module")
def retinanet():
    """The config of a narrow RetinaNet."""
    model = mmdet_config("retinanet").model
    for node in nodes(model):
        for name in ("in_channels", "out_channels", "feat_channels"):
            if node.get(name) == 256:
                node[name] = 32
    model.backbone.base_channels = 16
    model.neck.in_channels = [16, 32, 64, 128]
    return model


def test_a_detectors_boxes_scores_and_labels_stay_and_get_masks(retinanet):
    batch = raw_batch([(64, 96), (80, 64)])
    plain = build(retinanet).eval()
    sam = tiny_sam()
    model = BoxPromptedSAM(retinanet, sam, mask_score="iou").eval()
    model.load_state_dict(plain.state_dict())
    with torch.no_grad():
        expected = plain.test_step(copy.deepcopy(batch))
        found = model.test_step(copy.deepcopy(batch))
    predictor = SamPredictor(sam)
    for image, ours, theirs in zip(batch["inputs"], found, expected, strict=True):
        ours, theirs = ours.pred_instances, theirs.pred_instances
        assert len(theirs) > 3
        assert all(torch.equal(ours[key], theirs[key]) for key in ("bboxes", "scores", "labels"))
        predictor.set_image(image.permute(1, 2, 0).numpy(), "BGR")
        prompts = predictor.transform.apply_boxes(theirs.bboxes.numpy(), image.shape[1:])
        masks, ious, _ = predictor.predict_torch(None, None, torch.tensor(prompts).float(), multimask_output=False)
        assert torch.equal(ours.masks, masks[:, 0])
        assert torch.equal(ours.mask_scores, theirs.scores * ious[:, 0])
    threshold = float(expected[0].pred_instances.scores.median())
    strict = BoxPromptedSAM(retinanet, sam, score_thr=threshold).eval()
    strict.load_state_dict(plain.state_dict())
    with torch.no_grad():
        kept = strict.test_step(copy.deepcopy(batch))[0].pred_instances
    first = expected[0].pred_instances
    assert torch.equal(kept.bboxes, first.bboxes[first.scores >= threshold])
    assert len(kept) < len(first)
    assert "mask_scores" not in kept


META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=META),
]


def config_of(detector=None):
    model = dict(type="llie_preproc.BoxPromptedSAM", detector=detector, sam=dict(model="small", **TINY))
    return Config(dict(model=dict(model, data_preprocessor=dict(type="DetDataPreprocessor")), pipeline=PIPELINE))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint with only SAM's weights, for the model that ``config_of`` configures."""
    path = tmp_path_factory.mktemp("weights") / "sam.pth"
    state = {f"sam.{name}": tensor for name, tensor in tiny_sam().state_dict().items()}
    save_checkpoint({"state_dict": state, "meta": {}}, str(path))
    return str(path)


def masks_json(cfg, folder, work_dir, weights):
    """The JSON of the masks after a run of MMEngine's test loop."""
    test_runner(cfg.model, cfg.pipeline, folder, work_dir, load_from=weights).test()
    return json.loads((work_dir / "found.segm.json").read_text())


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_every_door_writes_the_masks_of_the_predictor_as_cocos_json(door, tmp_path, weights):
    sam, enhancer, sizes = tiny_sam(), dict(type="GammaCorrection", gamma=0.5), [(64, 96), (80, 64)]
    records = masks_json(add_enhancer(config_of(), enhancer, door=door), tmp_path, tmp_path / door, weights)
    truth = COCO(str(tmp_path / "set.json"))
    loaded = truth.loadRes(str(tmp_path / door / "found.segm.json"))
    assert len(loaded.anns) == len(records) == 4
    assert [r["category_id"] for r in records] == [1, 2, 1, 2]
    predictor = EnhancedSamPredictor(sam, GammaCorrection(gamma=0.5))
    for number, size in enumerate(sizes, 1):
        predictor.set_image(picture_of(*size), "BGR")
        own = [r for r in records if r["image_id"] == number]
        for record, box in zip(own, boxes_of(*size), strict=True):
            x1, y1, x2, y2 = box
            assert record["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            masks, ious, _ = predictor.predict(box=np.array(box), multimask_output=False)
            mask = mask_utils.decode(record["segmentation"]).astype(bool)
            assert (mask != masks[0]).mean() < 1e-3
            assert record["score"] == pytest.approx(float(ious[0]), rel=1e-4)


@pytest.fixture(scope="module")
def plain_masks(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("plain")
    return masks_json(config_of(PERFECT), folder, folder, weights)


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_identity_changes_no_digit(door, plain_masks, tmp_path, weights):
    cfg = add_enhancer(config_of(PERFECT), "Identity", door=door)
    assert masks_json(cfg, tmp_path, tmp_path, weights) == plain_masks
    assert len(plain_masks) == 4


def test_pictures_without_boxes_are_not_in_the_json(tmp_path, weights):
    cfg, annotations = config_of(), tmp_path / "set.json"
    write_set(annotations, tmp_path / "pictures", ("blue", "green"))
    truth = json.loads(annotations.read_text())
    for kept, expected in ((1, 2), (0, 0)):
        left = [each for each in truth["annotations"] if each["image_id"] == kept]
        annotations.write_text(json.dumps({**truth, "annotations": left}))
        runner = test_runner(cfg.model, cfg.pipeline, tmp_path, tmp_path / f"kept{kept}", load_from=weights)
        runner.test_evaluator.metrics[0].format_only = True
        runner.test()
        records = json.loads((tmp_path / f"kept{kept}" / "found.segm.json").read_text())
        assert [r["image_id"] for r in records] == [kept] * expected


def test_the_detector_inside_is_trained(retinanet):
    batch = raw_batch([(64, 96), (64, 64)])
    model = BoxPromptedSAM(retinanet, tiny_sam()).train()
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    assert {"loss_mask_bce", "loss_mask_dice", "loss_cls", "loss_bbox"} <= losses.keys()
    model.parse_losses(losses)[0].backward()
    assert any(p.grad is not None for p in model.bbox_head.parameters())
    assert all(p.grad is None for p in model.sam.parameters())


def test_a_checkpoint_of_sam_alone_is_refused():
    model = BoxPromptedSAM(sam=dict(model="small", **TINY))
    with pytest.raises(CheckpointError, match=r"BoxPromptedSAM, which has .*sam"):
        model.load_state_dict(model.sam.state_dict(), strict=False)
    model.load_state_dict(model.state_dict())


def test_a_plain_detectors_checkpoint_loads_behind_an_enhancer(tmp_path, retinanet):
    cfg = add_enhancer(config_of(retinanet), "PSENet", checkpoint=None)
    plain = build(retinanet, seed=5)
    save_checkpoint({"state_dict": plain.state_dict(), "meta": {}}, str(tmp_path / "plain.pth"))
    model = build(cfg.model, seed=6)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "sam." in name}
    load_checkpoint(model, str(tmp_path / "plain.pth"), map_location="cpu")
    loaded, own = model.detector.detector.state_dict(), model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in plain.state_dict().items())
    assert before
    assert all(torch.equal(tensor, own[name]) for name, tensor in before.items())
    whole = build(cfg.model, seed=7)
    whole.load_state_dict(model.state_dict())
    assert all(torch.equal(tensor, own[name]) for name, tensor in whole.state_dict().items())
    with pytest.raises(CheckpointError, match="not one of RetinaNet"):
        model.load_state_dict({f"backbone.{name}": tensor for name, tensor in before.items()}, strict=False)


@pytest.mark.parametrize("outermost", [EnhancedDetector, BoxPromptedSAM])
def test_a_wrappers_checkpoint_loads_inside_another_wrapper(outermost, tmp_path, retinanet):
    """A checkpoint of the inner wrapper loads whole, and so does one of both wrappers; other tensors do not change."""
    segmentor = dict(type="llie_preproc.BoxPromptedSAM", detector=retinanet, sam=dict(model="small", **TINY))
    enhanced = dict(type="llie_preproc.EnhancedDetector", detector=retinanet, enhancer="PSENet", checkpoint=None)
    inner, outer = (segmentor, enhanced) if outermost is EnhancedDetector else (enhanced, segmentor)
    saved, nest = build(inner, seed=1), dict(outer, detector=inner)
    save_checkpoint({"state_dict": saved.state_dict(), "meta": {}}, str(tmp_path / "inner.pth"))
    model = build(nest, seed=2)
    before = copy.deepcopy(model.state_dict())
    load_checkpoint(model, str(tmp_path / "inner.pth"), map_location="cpu", strict=True)
    expected = before | {f"detector.{name}": tensor for name, tensor in saved.state_dict().items()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    beside = [name for name in expected if name.startswith(("detector.sam.", "detector.enhancer."))]
    assert not all(torch.equal(expected[name], before[name]) for name in beside)
    whole = build(nest, seed=3)
    whole.load_state_dict(model.state_dict())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in whole.state_dict().items())
