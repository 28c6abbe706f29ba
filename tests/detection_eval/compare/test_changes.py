"""``changes.py`` counts found objects and false detections as pycocotools does, and ranks pictures by their change."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection_eval.compare.changes import Change, best_threshold, changes, extremes, match


def _object(image, box, category=1, crowd=0):
    return dict(image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=crowd)


def _detection(image, box, score, category=1):
    return dict(image_id=image, category_id=category, bbox=box, score=score)


def _truth(*objects, images=1):
    annotations = [dict(each, id=i + 1) for i, each in enumerate(objects)]
    entries = [dict(id=i + 1, file_name=f"{i + 1}.png", width=100, height=100) for i in range(images)]
    return dict(images=entries, annotations=annotations, categories=[dict(id=1, name="a"), dict(id=2, name="b")])


def test_matches_in_a_picture_equal_those_found_by_hand():
    """The picture has two objects of class 1 that overlap, one of class 2 and a crowd of class 1."""
    truth = _truth(
        _object(1, [0, 0, 10, 10]),
        _object(1, [2, 0, 10, 10]),
        _object(1, [50, 50, 10, 10], category=2),
        _object(1, [0, 60, 40, 40], crowd=1),
    )
    found = match(
        truth,
        [
            _detection(1, [1, 0, 10, 10], 0.9),  # IoU 9/11 with both objects: matches the later one
            _detection(1, [0, 0, 10, 10], 0.8),  # matches the first object
            _detection(1, [0, 0, 10, 10], 0.7),  # both objects are matched already: false
            _detection(1, [50, 50, 10, 10], 0.6),  # the object there has another class: false
            _detection(1, [5, 65, 10, 10], 0.5),  # inside the crowd: not counted
            _detection(1, [35, 65, 10, 10], 0.5),  # half inside the crowd: not counted
            _detection(1, [36, 85, 10, 10], 0.5),  # less than half inside the crowd: false
        ],
    )[1]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
    assert found.found_at.tolist() == [0.8, 0.9, -np.inf]
    assert found.false_scores.tolist() == [0.7, 0.6, 0.5]
    assert found.false_boxes[0].tolist() == [0, 0, 10, 10]
    assert found.found(0.85).tolist() == [False, True, False]
    assert found.false(0.6).sum() == 2


_BOXES = st.tuples(*(st.integers(0, 20),) * 2, *(st.integers(4, 20),) * 2).map(list)
_OBJECTS = st.lists(st.builds(_object, st.integers(1, 3), _BOXES, st.integers(1, 2), st.sampled_from([0, 0, 1])))
_DETECTIONS = st.lists(
    st.builds(
        lambda image, box, percent, category: _detection(image, box, percent / 100, category),
        st.integers(1, 3),
        _BOXES,
        st.integers(1, 99),
        st.integers(1, 2),
    ),
    max_size=30,
    unique_by=lambda detection: detection["score"],
)


def _coco_counts(truth, found, threshold):
    """The numbers of found objects and of false detections in each picture, as pycocotools counts them."""
    above = [each for each in found if each["score"] >= threshold]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes([dict(each) for each in above]), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.evaluate()
    counts = {image["id"]: [0, 0] for image in truth["images"]}
    for each in evaluation.evalImgs:
        if each is not None:
            counted = ~each["dtIgnore"][0].astype(bool)
            hit = each["dtMatches"][0] > 0
            counts[each["image_id"]][0] += int((hit & counted).sum())
            counts[each["image_id"]][1] += int((~hit & counted).sum())
    return counts


@pytest.mark.further
@settings(max_examples=150, deadline=None)
@given(_OBJECTS, _DETECTIONS, st.integers(1, 99))
def test_counts_equal_pycocotools_at_every_threshold(objects, found, percent):
    truth, threshold = _truth(*objects, images=3), percent / 100
    if not any(each["score"] >= threshold for each in found):
        found = [*found, _detection(1, [90, 90, 5, 5], 1.0)]
    ours = {
        image: [int(m.found(threshold).sum()), int(m.false(threshold).sum())]
        for image, m in match(truth, found).items()
    }
    assert ours == _coco_counts(truth, found, threshold)


@settings(max_examples=100, deadline=None)
@given(_OBJECTS, _DETECTIONS)
def test_no_threshold_has_a_higher_f1_than_the_best(objects, found):
    matches = list(match(_truth(*objects, images=3), found).values())

    def f1(threshold):
        true, false = (
            sum(int(s.sum()) for s in part)
            for part in zip(*((m.found(threshold), m.false(threshold)) for m in matches), strict=True)
        )
        total = true + false + sum(len(m.boxes) for m in matches)
        return 2 * true / total if total else 0.0

    best = best_threshold(matches)
    assert f1(best) >= max((f1(each["score"]) for each in found), default=0.0) - 1e-12


def test_equal_scores_pass_a_threshold_together():
    truth = _truth(_object(1, [0, 0, 10, 10]), _object(1, [50, 50, 10, 10]))
    found = [
        _detection(1, [0, 0, 10, 10], 0.9),
        _detection(1, [50, 50, 10, 10], 0.5),
        _detection(1, [70, 0, 10, 10], 0.5),
        _detection(1, [80, 0, 10, 10], 0.4),
    ]
    # F1 at 0.9: 2/3, at 0.5: 4/5, at 0.4: 4/6.
    assert best_threshold(match(truth, found).values()) == 0.5
    assert best_threshold(match(truth, []).values()) == 0.0


@settings(max_examples=100, deadline=None)
@given(_OBJECTS, _DETECTIONS, _DETECTIONS, st.integers(0, 3))
def test_swapping_raw_and_enhanced_negates_every_change(objects, first, second, count):
    truth = _truth(*objects, images=3)
    before, after = match(truth, first), match(truth, second)
    there, back = changes(before, after, (0.3, 0.5)), changes(after, before, (0.5, 0.3))
    assert {c.image_id: c.rank for c in there} == {c.image_id: (-c.found, -c.fewer_false) for c in back}
    assert [c.rank for c in there] == sorted((c.rank for c in there), reverse=True)
    improved, worsened = extremes(there, count)
    swapped_improved, swapped_worsened = extremes(back, count)
    assert [c.rank for c in improved] == [(-c.found, -c.fewer_false) for c in swapped_worsened]
    assert [c.rank for c in worsened] == [(-c.found, -c.fewer_false) for c in swapped_improved]


def test_pictures_without_a_change_are_not_shown():
    truth = _truth(_object(1, [0, 0, 10, 10]), images=2)
    same = match(truth, [_detection(1, [0, 0, 10, 10], 0.9), _detection(2, [0, 0, 9, 9], 0.9)])
    ranked = changes(same, same, (0.5, 0.5))
    assert len(ranked) == 2
    assert extremes(ranked, 8) == ([], [])


def test_found_objects_count_before_false_detections():
    ranked = [Change(1, 1, -9), Change(2, 0, 4), Change(3, 0, 0), Change(4, 0, -1), Change(5, -2, 7)]
    improved, worsened = extremes(ranked, 8)
    assert [c.image_id for c in improved] == [1, 2]
    assert [c.image_id for c in worsened] == [5, 4]
    assert [c.image_id for c in extremes(ranked, 1)[1]] == [5]
