"""In MMEngine's test loop with ``CocoMetric``, a perfect detector stays perfect, and Identity changes no digit."""

import json

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from mmengine.config import Config
from mmengine.runner.checkpoint import save_checkpoint

from llie_preproc.detection import add_enhancer
from tests.support.made_sets import test_runner
from tests.support.mmdet_models import build, mmdet_config

UPSCALE = {"type": "Upscale", "scale": 2}
META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
# Annotations are loaded before all geometric steps, so that the perfect detector gets them in the frame of its input.
LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
PACK = [dict(type="PackDetInputs", meta_keys=META)]
GEOMETRY = {
    "plain": [],
    "resize": [dict(type="Resize", scale=(70, 50), keep_ratio=False)],
    "enlarge": [dict(type="Resize", scale=(300, 200), keep_ratio=True)],
    "resize and pad": [
        dict(type="Resize", scale=(100, 100), keep_ratio=True),
        dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    ],
}
DOORS = {
    "after loading": dict(door="transform", position="after_load"),
    "before packing": dict(door="transform"),
    "preprocessor": dict(door="preprocessor"),
    "detector": dict(door="detector"),
}


def perfect(steps):
    preprocessor = dict(type="DetDataPreprocessor", pad_size_divisor=32)
    return Config(
        dict(model=dict(type="PerfectDetector", data_preprocessor=preprocessor), pipeline=LOAD + steps + PACK)
    )


def metrics(cfg, folder, work_dir, **more):
    return test_runner(cfg.model, cfg.pipeline, folder, work_dir, **more).test()


@pytest.mark.examples(4)
@pytest.mark.parametrize("steps", GEOMETRY.values(), ids=GEOMETRY)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_perfect_detector_behind_an_enlarging_enhancer_has_an_ap_of_one(door, steps, tmp_path):
    found = metrics(add_enhancer(perfect(steps), UPSCALE, **door), tmp_path, tmp_path / "run")
    assert found["coco/bbox_mAP"] == 1.0
    assert found["coco/bbox_mAP_75"] == 1.0


@pytest.mark.parametrize("door", ["preprocessor", "detector"])
def test_flips_of_test_time_augmentation_are_undone_in_the_raw_frame(door, tmp_path):
    cfg = add_enhancer(perfect([]), UPSCALE, door=door)
    views = [[dict(type="Resize", scale=(s, s), keep_ratio=True) for s in (60, 150)]]
    views += [[dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)], PACK]
    cfg.pipeline = [*LOAD, dict(type="TestTimeAug", transforms=views)]
    # NMS leaves two boxes for each picture only if the boxes of all four views coincide.
    tta = dict(nms=dict(type="nms", iou_threshold=0.95), max_per_img=100)
    cfg.model = dict(type="DetTTAModel", module=cfg.model, tta_cfg=tta)
    assert metrics(cfg, tmp_path, tmp_path / "run")["coco/bbox_mAP"] == 1.0
    assert len(json.loads((tmp_path / "run" / "found.bbox.json").read_bytes())) == 4


def test_a_scale_factor_that_is_not_restored_spoils_the_scores(tmp_path):
    cfg = perfect(GEOMETRY["resize"])
    cfg.pipeline.insert(2, dict(type="llie_preproc.Enhance", enhancer=UPSCALE))
    assert metrics(cfg, tmp_path, tmp_path / "run")["coco/bbox_mAP"] < 0.5


def test_identity_gives_the_plain_detectors_detections_and_scores_to_the_last_digit(tmp_path):
    plain = mmdet_config("retinanet")
    plain.model.bbox_head.num_classes = 2
    plain.pipeline = [LOAD[0], dict(type="Resize", scale=(128, 96), keep_ratio=True), LOAD[1], *PACK]
    weights = str(tmp_path / "weights.pth")
    save_checkpoint({"state_dict": build(plain.model).state_dict(), "meta": {}}, weights)
    results = {}
    for name, options in {"plain": None, **DOORS}.items():
        cfg = plain if options is None else add_enhancer(plain, "Identity", **options)
        scores = metrics(cfg, tmp_path, tmp_path / name, load_from=weights)
        results[name] = scores, (tmp_path / name / "found.bbox.json").read_bytes()
    assert len(json.loads(results["plain"][1])) > 20
    assert all(result == results["plain"] for result in results.values())
