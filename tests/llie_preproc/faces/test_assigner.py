"""``FaceAnchorAssigner`` matches anchors as its definition in plain Python and exact fractions does."""

from fractions import Fraction

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

import llie_preproc  # noqa: F401  must come before mmdet's models


def assign(priors, faces, ignored=None, labels=None, **options):
    assigner = TASK_UTILS.build(dict(type="llie_preproc.FaceAnchorAssigner", **options))
    truth = InstanceData(bboxes=boxes(faces), labels=torch.tensor(labels or [0] * len(faces)).long())
    away = None if ignored is None else InstanceData(bboxes=boxes(ignored), labels=torch.zeros(len(ignored)).long())
    return assigner.assign(InstanceData(priors=boxes(priors)), truth, away)


def boxes(values):
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 4)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def common(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def iou(a, b):
    return Fraction(common(a, b), area(a) + area(b) - common(a, b))


def defined(priors, faces, low, high, compensate=0, floor=Fraction(1, 10), ignored=(), share=None):
    """Owner of each anchor by the definition: -1 if ignored, 0 for background, else the face's number from 1."""
    owners = []
    for prior in priors:
        overlaps = [iou(face, prior) for face in faces]
        best = max(overlaps, default=Fraction(0))
        owners.append(overlaps.index(best) + 1 if overlaps and best >= high else -1 if best >= low and overlaps else 0)
    for number, face in enumerate(faces, 1):
        overlaps = [iou(face, prior) for prior in priors]
        if overlaps and max(overlaps) > 0:
            owners[overlaps.index(max(overlaps))] = number
    for number, face in enumerate(faces, 1):
        ranked = sorted(range(len(priors)), key=lambda i, face=face: (-iou(face, priors[i]), i))
        for i in ranked:
            if owners.count(number) >= compensate or iou(face, priors[i]) < floor:
                break
            if owners[i] == 0:
                owners[i] = number
    for i, prior in enumerate(priors):
        if (
            owners[i] == 0
            and share is not None
            and any(Fraction(common(prior, g), area(prior)) > share for g in ignored)
        ):
            owners[i] = -1
    return owners


def box(limit=24):
    side = st.integers(1, limit // 2)
    return st.tuples(st.integers(0, limit // 2), st.integers(0, limit // 2), side, side).map(
        lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]]
    )


PRIORS = st.lists(box(), min_size=0, max_size=24)
FACES = st.lists(box(), min_size=0, max_size=6)


@settings(max_examples=100, deadline=None)
@given(PRIORS, FACES, st.sampled_from([1, 2, 3, 5]), st.sampled_from([0, 1, 4]))
def test_matching_follows_the_definition(priors, faces, tenths, gap):
    low, high = Fraction(tenths, 10), Fraction(tenths + gap, 10)
    result = assign(priors, faces, iou_thr=[float(low), float(high)] if gap else float(low))
    assert result.gt_inds.tolist() == defined(priors, faces, low, high)
    assert result.num_gts == len(faces)


@settings(max_examples=100, deadline=None)
@given(PRIORS, FACES, st.integers(1, 7), st.sampled_from([0, 2]))
def test_compensation_follows_the_definition(priors, faces, compensate, gap):
    low, high = Fraction(4, 10), Fraction(4 + gap, 10)
    result = assign(priors, faces, iou_thr=(float(low), float(high)), compensate=compensate)
    assert result.gt_inds.tolist() == defined(priors, faces, low, high, compensate)


@settings(max_examples=60, deadline=None)
@given(PRIORS, FACES, st.lists(box(), max_size=3), st.sampled_from([0, 1, 2]))
def test_background_in_ignored_faces_is_ignored(priors, faces, ignored, quarters):
    result = assign(priors, faces, ignored, ignore_iof_thr=quarters / 4)
    low = Fraction(4, 10)
    assert result.gt_inds.tolist() == defined(priors, faces, low, low, ignored=ignored, share=Fraction(quarters, 4))


@settings(max_examples=50, deadline=None)
@given(PRIORS, FACES)
def test_labels_and_overlaps_are_those_of_the_faces(priors, faces):
    labels = [7 + n for n in range(len(faces))]
    result = assign(priors, faces, labels=labels)
    owners = result.gt_inds.tolist()
    assert result.labels.tolist() == [labels[n - 1] if n > 0 else -1 for n in owners]
    expected = [float(max((iou(face, prior) for face in faces), default=0)) for prior in priors]
    assert result.max_overlaps.tolist() == pytest.approx(expected)


def test_a_later_face_takes_an_anchor_that_is_the_best_of_both():
    # The first face loses its only anchor; with compensation it gets the next best one.
    priors = [[0, 0, 10, 10], [0, 6, 10, 16]]
    faces = [[0, 0, 10, 10], [0, 0, 10, 4]]
    assert assign(priors, faces).gt_inds.tolist() == [2, 0]
    assert assign(priors, faces, compensate=1).gt_inds.tolist() == [2, 1]
    assert assign(priors, faces[::-1]).gt_inds.tolist() == [2, 0]


def test_below_the_threshold_each_face_has_only_its_best_anchor():
    priors = [[x, 0, x + 16, 16] for x in range(0, 64, 16)]
    assert assign(priors, [[2, 2, 5, 5], [40, 1, 44, 4]]).gt_inds.tolist() == [1, 0, 2, 0]


def test_a_face_that_overlaps_no_anchor_gets_none():
    assert assign([[0, 0, 4, 4]], [[10, 10, 12, 12]]).gt_inds.tolist() == [0]


def test_box_types_of_mmdetection_are_taken():
    assigner = TASK_UTILS.build(dict(type="llie_preproc.FaceAnchorAssigner"))
    priors, faces = HorizontalBoxes(boxes([[0, 0, 4, 4], [8, 8, 12, 12]])), HorizontalBoxes(boxes([[0, 0, 4, 4]]))
    result = assigner.assign(InstanceData(priors=priors), InstanceData(bboxes=faces, labels=torch.tensor([0])))
    assert result.gt_inds.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(iou_thr=0.0), "iou_thr.*0.0"),
        (dict(iou_thr=(0.5, 0.3)), "iou_thr.*in order"),
        (dict(iou_thr=(0.3, 0.4, 0.5)), "two such values"),
        (dict(compensate=-1), "compensate.*-1"),
        (dict(compensate=6, compensate_thr=0.0), "compensate_thr"),
        (dict(ignore_iof_thr=1.0), "ignore_iof_thr.*1.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        assign([], [], **options)
