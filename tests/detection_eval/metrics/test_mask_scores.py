"""Scores of ``masks.py`` equal counts of pixels, the best of all matchings, torchvision and segment-anything."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from torchvision.ops import box_iou

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")

from detection_eval.metrics.bootstrap import differences, intervals
from detection_eval.metrics.masks import (
    ItemScores,
    MaskScores,
    box_agreement,
    check_rle,
    decode_masks,
    encode_masks,
    mask_boxes,
    mask_iou,
    match_masks,
    match_scores,
    prompt_scores,
    stability_scores,
)

_SIZE = (5, 7)
_relaxed = settings(deadline=None, max_examples=60)


def masks(most=4, least=0):
    """Strategy for sets of masks ``(n, 5, 7)``, in which empty and equal masks occur."""
    return st.integers(least, most).flatmap(lambda n: hypothesis_numpy.arrays(bool, (n, *_SIZE)))


def _iou(a, b):
    union = (a | b).sum()
    return (a & b).sum() / union if union else 0.0


def _table(a, b):
    return np.array([[_iou(x, y) for y in b] for x in a]).reshape(len(a), len(b))


def _best_total(table):
    """Largest sum of a one-to-one matching, found by trying all of them."""
    table = table if table.shape[0] <= table.shape[1] else table.T
    rows = range(table.shape[0])
    return max(sum(table[r, c] for r, c in zip(rows, each, strict=True))
               for each in itertools.permutations(range(table.shape[1]), len(rows)))  # fmt: skip


@_relaxed
@given(masks(), masks())
def test_iou_counts_pixels_and_is_symmetric(a, b):
    table = mask_iou(a, b)
    np.testing.assert_allclose(table, _table(a, b), atol=1e-12)
    np.testing.assert_array_equal(table.T, mask_iou(b, a))
    np.testing.assert_array_equal(table, mask_iou(encode_masks(a), encode_masks(b)))


@_relaxed
@given(masks(), masks())
def test_the_matching_is_one_to_one_and_has_the_largest_sum(found, reference):
    matched = match_masks(found, reference)
    table = _table(reference, found)
    assert matched.iou.sum() == pytest.approx(_best_total(table), abs=1e-9)
    assert len(set(matched.found)) == len(set(matched.reference)) == len(matched.iou)
    np.testing.assert_allclose(matched.iou, table[matched.reference, matched.found])
    assert (matched.iou > 0).all()
    assert (np.diff(matched.reference) > 0).all()


@_relaxed
@given(masks(least=1), masks())
def test_scores_are_means_over_the_reference_masks(reference, found):
    items = match_scores(found, reference)
    iou = np.zeros(len(reference))
    matched = match_masks(found, reference)
    iou[matched.reference] = matched.iou
    scores = MaskScores({"a": found}, {"a": reference}).values()
    assert scores["mean_iou"] == pytest.approx(_best_total(_table(reference, found)) / len(reference))
    assert scores["recall50"] == pytest.approx(np.mean(iou >= 0.5))
    assert scores["recall75"] == pytest.approx(np.mean(iou >= 0.75))
    assert all(len(each) == len(reference) for each in items.values())


@_relaxed
@given(masks(least=1).filter(lambda each: each.any(axis=(1, 2)).all()), st.randoms(use_true_random=False))
def test_the_same_masks_in_any_order_score_one(reference, random):
    order = list(range(len(reference)))
    random.shuffle(order)
    assert MaskScores({"a": reference[order]}, {"a": reference}).values() == dict(mean_iou=1, recall50=1, recall75=1)


@_relaxed
@given(masks(), masks(least=1), st.randoms(use_true_random=False))
def test_the_order_of_masks_does_not_matter(found, reference, random):
    orders = [random.sample(range(len(each)), len(each)) for each in (found, reference)]
    one = match_scores(found, reference)["mean_iou"].sum()
    assert match_scores(found[orders[0]], reference[orders[1]])["mean_iou"].sum() == pytest.approx(one)


@_relaxed
@given(masks(), masks(least=1), hypothesis_numpy.arrays(bool, _SIZE))
def test_an_added_mask_never_lowers_the_mean_and_a_wrong_one_keeps_the_recall(found, reference, other):
    before = match_scores(found, reference)
    more = match_scores(np.concatenate([found, other[None]]), reference)
    assert more["mean_iou"].sum() >= before["mean_iou"].sum() - 1e-9
    wrong = other & ~reference.any(axis=0)
    after = match_scores(np.concatenate([found, wrong[None]]), reference)
    for name in ("recall50", "recall75"):
        assert after[name].sum() == before[name].sum()


@settings(max_examples=60, deadline=None)
@given(masks(least=1), st.data())
def test_an_rle_must_cover_its_frame_exactly(given_masks, data):
    rle = data.draw(st.sampled_from(encode_masks(given_masks)))
    check_rle(rle)
    height, width = rle["size"]
    for size in ([height + 1, width], [height, width - 1], [height]):
        with pytest.raises(ValueError, match="frame"):
            check_rle({**rle, "size": size})
    counts = rle["counts"]
    for wrong in (counts + "1", counts + "P", counts[:-1], "\x20" + counts):
        with pytest.raises(ValueError, match="mask"):
            check_rle({**rle, "counts": wrong})


def test_pictures_count_by_their_reference_masks():
    one, two = np.zeros((2, 4, 4), bool)
    one[:2], two[2:] = True, True
    reference = {"a": [one, two], "b": [one], "none": []}
    scores = MaskScores({"a": [one], "b": [], "none": [one, two]}, reference)
    assert scores.values() == pytest.approx(dict(mean_iou=1 / 3, recall50=1 / 3, recall75=1 / 3))
    assert scores.values(np.array([1, 0, 5]))["mean_iou"] == 0.5
    assert math.isnan(scores.values(np.array([0, 0, 5]))["mean_iou"])


@_relaxed
@given(
    st.lists(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=4), min_size=1, max_size=5),
    st.data(),
)
def test_a_picture_of_weight_n_counts_as_n_copies(values, data):
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values))))
    pooled = [x for each, n in zip(values, weights, strict=True) for x in each * n if not math.isnan(x)]
    items = {number: dict(score=np.array(each)) for number, each in enumerate(values)}
    got = ItemScores(items).values(weights)["score"]
    assert got == pytest.approx(np.mean(pooled) if pooled else math.nan, nan_ok=True)


def test_intervals_hold_the_value_and_equal_scores_have_no_difference():
    rng = np.random.default_rng(0)
    items = {number: dict(score=rng.random(5)) for number in range(40)}
    better = {number: dict(score=each["score"] + 0.1) for number, each in items.items()}
    scores, others = ItemScores(items), ItemScores(better)
    interval = intervals([scores])["score"]
    assert interval.low < interval.value < interval.high
    same = differences([scores], [ItemScores(items)])["score"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    gain = differences([scores], [others])["score"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


@_relaxed
@given(masks())
def test_encoded_masks_are_decoded_unchanged(some):
    np.testing.assert_array_equal(decode_masks(encode_masks(some), _SIZE), some)


@_relaxed
@given(masks(least=1), st.data())
def test_boxes_end_at_the_edges_of_pixels(some, data):
    expected = []
    for mask in some:
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        expected.append(box)
    corners = np.array(expected, float)
    boxes = mask_boxes(some)
    np.testing.assert_array_equal(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), corners)
    numbers = st.tuples(st.integers(-2, 6), st.integers(-2, 6), st.integers(1, 8), st.integers(1, 8))
    prompts = np.array(data.draw(st.lists(numbers, min_size=len(some), max_size=len(some))), float)
    edges = np.concatenate([prompts[:, :2], prompts[:, :2] + prompts[:, 2:]], axis=1)
    expected_iou = box_iou(torch.from_numpy(corners), torch.from_numpy(edges)).diagonal()
    np.testing.assert_allclose(box_agreement(some, prompts), expected_iou, atol=1e-12)


@_relaxed
@given(hypothesis_numpy.arrays(np.float32, (3, 4, 6), elements=st.floats(-4, 4, width=32)))
def test_stability_equals_segment_anything(logits):
    amg = pytest.importorskip("segment_anything.utils.amg", reason="needs the extra 'sam'")
    theirs = amg.calculate_stability_score(torch.from_numpy(logits), 0.0, 1.0).numpy()
    np.testing.assert_allclose(stability_scores(logits), np.nan_to_num(theirs), rtol=1e-6)


def test_prompts_without_an_annotated_mask_have_no_iou():
    mask = np.zeros((2, 6, 6), bool)
    mask[0, 1:3, 1:5] = mask[1, 0, 0] = True
    boxes = np.array([[1, 1, 4, 2], [3, 3, 1, 1]])
    given_scores = (np.array([0.9, 0.2]), np.array([1.0, 0.5]))
    scores = prompt_scores(mask, boxes, *given_scores, [mask[0] | mask[1], None])
    assert scores["box_agreement"].tolist() == [1, 0]
    assert scores["iou"][0] == pytest.approx(8 / 9)
    assert math.isnan(scores["iou"][1])
    assert "iou" not in prompt_scores(mask, boxes, *given_scores)
    assert ItemScores({"a": scores}).values()["iou"] == pytest.approx(8 / 9)


def test_arguments_that_do_not_fit_together_are_refused():
    mask = np.zeros((1, 4, 4), bool)
    with pytest.raises(ValueError, match=r"different frames.*\(4, 4\), \(4, 5\)"):
        mask_iou(mask, np.zeros((1, 4, 5), bool))
    with pytest.raises(ValueError, match="a mask is float64 of shape"):
        mask_iou(mask.astype(float), mask)
    with pytest.raises(ValueError, match="a mask with the fields size"):
        mask_iou([{"size": [4, 4]}], mask)
    with pytest.raises(ValueError, match="1 stability_score for 2 masks"):
        prompt_scores([*mask, *mask], np.zeros((2, 4)), np.zeros(2), np.zeros(1))
    with pytest.raises(ValueError, match="for 1 masks"):
        box_agreement(mask, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="different pictures: 1 and 2"):
        MaskScores({"a": mask}, {"a": mask, "b": mask})
    with pytest.raises(ValueError, match="no pictures"):
        ItemScores({})
    with pytest.raises(ValueError, match="b has the scores y, the first: x"):
        ItemScores({"a": {"x": np.zeros(1)}, "b": {"y": np.zeros(1)}})
