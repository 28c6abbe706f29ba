"""Behind an enlarging enhancer, a perfect detector's boxes are in the raw frame, and a scaled sample is a copy."""

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import PackDetInputs, Pad, RandomFlip, Resize
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes, bbox_project
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import PixelData

from llie_preproc.detection import Enhance, RestoreScaleFactor
from llie_preproc.detection.geometry import scale_data_sample
from llie_preproc.errors import ImageError
from tests.support.mmdet_models import MODELS, raw_batch

PREPROCESSOR = {"type": "DetDataPreprocessor", "pad_size_divisor": 32, "pad_mask": True}


def box_iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(dim=1)
    area = [(x[:, 2:] - x[:, :2]).prod(dim=1) for x in (a, b)]
    return inter / (area[0] + area[1] - inter)


def picture(height, width, polygons):
    boxes = np.array([[2, 3, width // 2, height // 2], [width // 4, height // 3, width - 1, height]], np.float32)
    if polygons:
        rings = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in boxes]
        masks = PolygonMasks(rings, height, width)
    else:
        bitmaps = np.zeros((2, height, width), np.uint8)
        for bitmap, (x1, y1, x2, y2) in zip(bitmaps, boxes.astype(int), strict=True):
            bitmap[y1:y2, x1:x2] = 1
        masks = BitmapMasks(bitmaps, height, width)
    return {
        "img": np.full((height, width, 3), 90, np.uint8),
        "img_shape": (height, width),
        "ori_shape": (height, width),
        "gt_bboxes": HorizontalBoxes(boxes),
        "gt_bboxes_labels": np.array([0, 1]),
        "gt_ignore_flags": np.zeros(2, bool),
        "gt_masks": masks,
    }


def pipeline(steps, results):
    for step in [*steps, PackDetInputs()]:
        results = step(results)
    return {"inputs": [results["inputs"]], "data_samples": [results["data_samples"]]}


def raw_frame(sample, width):
    """Predictions in the frame of ``ori_shape``, with the flip undone as DetTTAModel undoes it."""
    boxes, masks = sample.pred_instances.bboxes.clone(), sample.pred_instances.masks
    if sample.get("flip"):
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        masks = masks.flip(-1)
    return boxes, masks


@settings(max_examples=60, deadline=None)
@given(
    scale=st.sampled_from([1, 2, 4]),
    door=st.sampled_from(["first", "last", "preprocessor", "detector"]),
    resize=st.sampled_from([None, (96, 64), (50, 70), (33, 200)]),
    keep_ratio=st.booleans(),
    flip=st.booleans(),
    pad=st.booleans(),
    polygons=st.booleans(),
    height=st.integers(24, 70),
    width=st.integers(24, 70),
)
def test_ground_truth_comes_out_in_the_raw_frame(scale, door, resize, keep_ratio, flip, pad, polygons, height, width):
    enhancer = {"type": "Upscale", "scale": scale, "mode": "nearest"}
    enhance = [Enhance(enhancer)]
    steps = [Resize(scale=resize, keep_ratio=keep_ratio)] if resize else []
    steps += [RandomFlip(prob=1.0)] if flip else []
    steps += [Pad(size_divisor=16)] if pad else []
    steps = enhance * (door == "first") + steps + enhance * (door == "last") + [RestoreScaleFactor()]
    raw = picture(height, width, polygons)
    expected = torch.as_tensor(raw["gt_bboxes"].tensor.clone())
    expected_masks = torch.as_tensor(raw["gt_masks"].to_ndarray()).bool()
    if door == "detector":
        plain = {"type": "PerfectDetector", "data_preprocessor": PREPROCESSOR}
        model = MODELS.build({"type": "llie_preproc.EnhancedDetector", "detector": plain, "enhancer": enhancer})
    else:
        kind = "DetDataPreprocessor" if door != "preprocessor" else "llie_preproc.EnhancedDetDataPreprocessor"
        front = {**PREPROCESSOR, "type": kind} | ({"enhancer": enhancer} if door == "preprocessor" else {})
        model = MODELS.build({"type": "PerfectDetector", "data_preprocessor": front})
    batch = pipeline(steps, raw)
    before = batch["data_samples"][0].gt_instances.bboxes.tensor.clone()
    sample = model.eval().test_step(batch)[0]

    assert sample.ori_shape == (height, width)
    boxes, masks = raw_frame(sample, width)
    assert box_iou(boxes, expected).min() > 0.999
    if resize is None and not pad and not polygons:
        assert torch.equal(masks, expected_masks)
    if door == "detector" and scale > 1:
        assert torch.equal(batch["data_samples"][0].gt_instances.bboxes.tensor, before)


@given(scale=st.sampled_from([2, 4]), n=st.integers(0, 5))
def test_a_scaled_sample_is_a_copy(scale, n):
    sample = raw_batch([(40, 60)])["data_samples"][0]
    sample.gt_instances = sample.gt_instances[: min(n, 2)]
    boxes = sample.gt_instances.bboxes.tensor.clone()
    scaled = scale_data_sample(sample, scale)
    assert scaled.img_shape == (40 * scale, 60 * scale)
    assert scaled.scale_factor == (scale, scale)
    assert torch.equal(scaled.gt_instances.bboxes.tensor, boxes * scale)
    assert torch.equal(sample.gt_instances.bboxes.tensor, boxes)
    assert sample.img_shape == (40, 60)
    assert scaled.gt_instances.masks.masks.shape == (len(boxes), 40 * scale, 60 * scale)


def test_scale_one_returns_the_sample_itself():
    sample = raw_batch()["data_samples"][0]
    assert scale_data_sample(sample, 1) is sample


def test_scale_factor_is_set_where_absent():
    results = {"img": np.zeros((8, 10, 3), np.uint8), "img_shape": (8, 10), "ori_shape": (8, 10)}
    enlarged = Enhance({"type": "Upscale", "scale": 2})(results)
    assert enlarged["scale_factor"] == (2.0, 2.0)
    assert enlarged["img"].shape == (16, 20, 3)
    assert enlarged["ori_shape"] == (8, 10)


def test_a_networks_name_is_also_a_transform():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    gamma = MMDET_TRANSFORMS.build({"type": "llie_preproc.GammaCorrection", "gamma": 0.5, "channel_order": "rgb"})
    assert isinstance(gamma, Enhance)
    expected = (255 * (image / 255.0) ** 0.5).round().astype(np.uint8)
    assert np.array_equal(gamma({"img": image})["img"], expected)
    assert MMDET_TRANSFORMS.build({"type": "llie_preproc.PSENet", "checkpoint": None}).options.channel_order == "bgr"
    assert MMDET_TRANSFORMS.get("llie_preproc.NoSuchThing") is None


@pytest.mark.parametrize(
    ("image", "error", "match"),
    [
        (np.zeros((4, 4), np.uint8), ImageError, r"a\.jpg.*\(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), ImageError, r"a\.jpg.*\(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.int64), ImageError, r"a\.jpg.*in uint8 or floating point"),
    ],
)
def test_wrong_images_are_refused_by_name(image, error, match):
    with pytest.raises(error, match=match):
        Enhance("Identity")({"img": image, "img_path": "a.jpg"})


def test_every_map_of_a_sample_is_enlarged_and_keeps_its_ignored_index():
    maps = torch.randint(0, 5, (1, 4, 6), dtype=torch.uint8)
    whole = DetDataSample(metainfo=dict(img_shape=(4, 6)))
    whole.gt_sem_seg = PixelData(metainfo=dict(ignore_index=7), sem_seg=maps)
    whole.gt_panoptic_seg = PixelData(panoptic_seg=maps.long() * 1000)
    scaled = scale_data_sample(whole, 3)
    repeated = maps.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(scaled.gt_sem_seg.sem_seg, repeated)
    assert scaled.gt_sem_seg.ignore_index == 7
    assert torch.equal(scaled.gt_panoptic_seg.panoptic_seg, repeated.long() * 1000)
    assert torch.equal(whole.gt_sem_seg.sem_seg, maps)


def test_a_homography_leads_from_the_raw_frame_to_the_enlarged_one():
    turned = np.array([[0.8, -0.1, 5.0], [0.2, 1.1, -3.0], [0, 0, 1]], np.float32)
    boxes = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    scaled = scale_data_sample(DetDataSample(metainfo=dict(img_shape=(99, 99), homography_matrix=turned)), 2)
    assert scaled.homography_matrix.dtype == np.float32
    there = bbox_project(boxes, torch.from_numpy(scaled.homography_matrix), (198, 198))
    assert torch.allclose(there, 2 * bbox_project(boxes, torch.from_numpy(turned), (99, 99)))
