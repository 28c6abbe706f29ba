"""``DataAnchorSampling`` crops a picture and moves its faces along; pixels in the tests hold their coordinates."""

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from scipy.stats import chisquare

import llie_preproc  # noqa: F401  must come before mmdet's models

ANCHORS = (16, 32, 64, 128, 256, 512)


def transform(**options):
    return TRANSFORMS.build(dict(type="llie_preproc.DataAnchorSampling", **options))


def picture(height, width):
    """``(H, W, 3)`` of each pixel's column, its row and a constant."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 7)], axis=-1).astype(np.int32)


def flat(height, width):
    """A picture of any size that takes no memory."""
    return np.broadcast_to(np.uint8(0), (height, width, 3))


def results_of(image, boxes, ignored=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    results = dict(img=image, img_shape=image.shape[:2])
    results["gt_bboxes"] = HorizontalBoxes(torch.from_numpy(boxes.copy()))
    results["gt_bboxes_labels"] = np.arange(len(boxes))
    results["gt_ignore_flags"] = np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored, bool)
    return results


def run(step, image, boxes, ignored=None):
    return step(results_of(image, boxes, ignored))


def side(length):
    return st.integers(0, length - 1), st.integers(1, length)


@st.composite
def scenes(draw):
    height, width = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        (x, w), (y, h) = (tuple(draw(v) for v in side(length)) for length in (width, height))
        boxes.append([x, y, x + w, y + h])
    ignored = [draw(st.integers(0, 3)) == 0 for _ in boxes]
    return height, width, boxes, ignored, draw(st.integers(0, 2**31))


@settings(max_examples=100, deadline=None)
@given(scenes(), st.sampled_from([dict(), dict(anchor_prob=1.0, full_prob=0.0), dict(size=64, anchor_prob=0.0)]))
def test_pixels_and_faces_are_those_of_the_source(scene, options):
    height, width, boxes, ignored, seed = scene
    np.random.seed(seed)
    source = picture(height, width)
    results = run(transform(**options), source, boxes, ignored)
    image, kept = results["img"], results["gt_bboxes_labels"].tolist()
    rows, columns = image.shape[:2]
    assert results["img_shape"] == (rows, columns)
    x1, y1 = int(image[0, 0, 0]), int(image[0, 0, 1])
    np.testing.assert_array_equal(image, source[y1 : y1 + rows, x1 : x1 + columns])
    if image.shape == source.shape and kept == list(range(len(boxes))) and boxes:
        found = results["gt_bboxes"].tensor.numpy()
        assert (found == np.asarray(boxes)).all() or (found == np.clip(boxes, 0, [width, height] * 2)).all()
        return
    areas = {}
    for label, (a, b, c, d) in enumerate(boxes):
        if x1 < (a + c) / 2 < x1 + columns and y1 < (b + d) / 2 < y1 + rows:
            left, right = max(a - x1, 0), min(c - x1, columns)
            top, bottom = max(b - y1, 0), min(d - y1, rows)
            areas[label] = (right - left) * (bottom - top)
            if label in kept:
                index = kept.index(label)
                assert results["gt_bboxes"].tensor[index].tolist() == [left, top, right, bottom]
                assert results["gt_ignore_flags"][index] == ignored[label]
    limits = [0.0] if all(ignored) else [64.0, 16.0, 4.0, 1.0, 0.25]
    assert kept in [[label for label, area in areas.items() if area > limit] for limit in limits]
    if not all(ignored):
        assert any(not ignored[label] for label in kept)


@pytest.mark.parametrize(
    ("width", "height", "anchors"),
    [
        (8, 18, (16, 32)),  # the root of the area is 12
        (16, 64, (16, 32)),  # 32
        (32, 35, (16, 32, 64)),  # 33.5
        (64, 64, (16, 32, 64)),
        (100, 100, (16, 32, 64, 128)),
        (256, 256, (16, 32, 64, 128, 256)),
        (250, 270, ANCHORS),  # 259.8
        (900, 900, ANCHORS),
    ],
)
def test_a_face_gets_each_anchor_size_up_to_its_own_level_equally_often(width, height, anchors):
    np.random.seed(width)
    step = transform(anchor_prob=1.0, full_prob=0.0)
    root = (width * height) ** 0.5
    extent = 90_000
    x, y = extent // 2, extent // 2 + 7
    sides = {round(root * 640 / anchor): anchor for anchor in anchors}
    image, seen, offsets = flat(extent, extent), [], []
    for _ in range(240):
        results = run(step, image, [[x, y, x + width, y + height]])
        rows, columns = results["img_shape"]
        assert rows == columns
        seen.append(sides[rows])
        left, top, right, bottom = results["gt_bboxes"].tensor[0].tolist()
        assert (right - left, bottom - top) == (width, height)
        offsets.append((left / (rows - width), top / (rows - height)))
    assert chisquare([seen.count(anchor) for anchor in anchors]).pvalue > 1e-4
    # The face's place in the crop must be uniform on either axis.
    assert np.abs(np.mean(offsets, axis=0) - 0.5).max() < 4 * (1 / 12 / len(offsets)) ** 0.5
    assert np.max(offsets) > 0.9


def test_the_kinds_of_crop_come_with_their_probabilities():
    np.random.seed(3)
    step, image = transform(), flat(5000, 6000)
    counts = dict.fromkeys(("face", "full", "part"), 0)
    parts = []
    for _ in range(800):
        rows, columns = run(step, image, [[2980, 2480, 3040, 2540]])["img_shape"]
        assert rows == columns
        kind = "full" if rows == 5000 else "face" if rows in (600, 1200, 2400) else "part"
        counts[kind] += 1
        parts += [rows / 5000] if kind == "part" else []
    assert chisquare(list(counts.values()), np.array([0.4, 0.2, 0.4]) * 800).pvalue > 1e-4
    assert 0.3 <= min(parts) < max(parts) < 1


def test_a_crop_at_the_border_is_clipped_and_not_padded():
    np.random.seed(0)
    for _ in range(40):
        results = run(transform(anchor_prob=1.0, full_prob=0.0), picture(60, 200), [[0, 0, 20, 20]])
        # Crops with sides of 400 and 800 reach beyond the picture.
        assert results["img_shape"] == (60, 200)
        assert results["gt_bboxes"].tensor.tolist() == [[0, 0, 20, 20]]


def test_small_faces_are_dropped_beside_larger_ones():
    np.random.seed(1)
    for _ in range(30):
        results = run(transform(anchor_prob=0, full_prob=1), picture(100, 100), [[10, 10, 18, 18], [50, 50, 59, 58]])
        assert results["gt_bboxes_labels"].tolist() == [1]


def test_the_limit_is_lowered_for_a_picture_with_only_small_faces():
    np.random.seed(1)
    step = transform(anchor_prob=0, full_prob=1)
    # An area of 9 is between 2 and 4 squared, an area of 3 between 1 and 2 squared.
    assert run(step, picture(50, 50), [[10, 10, 13, 13], [20, 20, 23, 21]])["gt_bboxes_labels"].tolist() == [0]
    assert run(step, picture(50, 50), [[10, 10, 13, 13], [20, 20, 29, 29]])["gt_bboxes_labels"].tolist() == [1]


def test_a_picture_is_unchanged_if_no_crop_keeps_a_face():
    source = picture(30, 40)
    # One face has no area, the centre of the other is outside the picture.
    results = run(transform(), source, [[5, 5, 5, 20], [60, 4, 80, 20]])
    assert results["img"] is source
    assert results["gt_bboxes_labels"].tolist() == [0, 1]


@pytest.mark.parametrize("boxes", [[], [[4, 4, 20, 20]]], ids=["none", "ignored"])
def test_a_picture_without_faces_gives_a_square(boxes):
    np.random.seed(2)
    shapes = {run(transform(), picture(50, 80), boxes, [True] * len(boxes))["img_shape"] for _ in range(60)}
    assert all(rows == columns and 15 <= rows <= 50 for rows, columns in shapes)
    assert len(shapes) > 10
    assert (50, 50) in shapes


def test_masks_and_maps_are_cropped_like_the_picture():
    np.random.seed(5)
    source = picture(60, 60)
    results = results_of(source, [[10, 12, 30, 30], [35, 35, 55, 58]])
    masks = np.zeros((2, 60, 60), np.uint8)
    masks[0, 12:30, 10:30] = masks[1, 35:58, 35:55] = 1
    results.update(gt_masks=BitmapMasks(masks, 60, 60), gt_seg_map=source[..., 0] + 100 * source[..., 1])
    results = transform(anchor_prob=0.0)(results)
    assert results["img_shape"] != (60, 60)
    np.testing.assert_array_equal(results["gt_seg_map"], results["img"][..., 0] + 100 * results["img"][..., 1])
    found = results["gt_masks"].get_bboxes("hbox").tensor
    assert torch.equal(found, results["gt_bboxes"].tensor)


def test_the_seed_decides_the_crop_and_cached_randomness_repeats_it():
    step, boxes = transform(), [[40, 40, 60, 60]]

    def corner():
        image = run(step, picture(200, 240), boxes)["img"]
        return (*image[0, 0], *image[-1, -1])

    def sequence():
        np.random.seed(11)
        return [corner() for _ in range(6)]

    first = sequence()
    assert sequence() == first
    assert len(set(first)) > 3
    with cache_random_params([step]):
        assert len({corner() for _ in range(6)}) == 1


def test_plain_arrays_of_boxes_are_taken():
    np.random.seed(0)
    results = dict(img=picture(64, 64), gt_bboxes=np.array([[4, 4, 40, 40]], np.float32))
    found = transform(anchor_prob=0.0, full_prob=1.0)(results)["gt_bboxes"]
    assert np.asarray(torch.as_tensor(getattr(found, "tensor", found))).tolist() == [[4, 4, 40, 40]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(anchors=(16,)), r"anchors.*\(16,\)"),
        (dict(anchors=(32, 16)), "rising"),
        (dict(anchor_prob=0.7, full_prob=0.4), "0.7 and 0.4"),
        (dict(full_prob=-0.1), "full_prob"),
        (dict(min_crop=0.0), "min_crop.*0.0"),
        (dict(attempts=0), "attempts"),
        (dict(min_face=-1), "min_face"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        transform(**options)
