"""FDDB's ROC: the official program's files, digit by digit, and its definition on made pictures by exhaustion."""

from __future__ import annotations

import errno
import os
import re
import sys
from importlib import import_module

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")

from scipy.optimize import linear_sum_assignment

from detection_eval.datasets.fddb import (
    FddbDetections,
    FddbTruth,
    from_faces,
    picture_sizes,
    read_detections,
    read_fddb,
)
from detection_eval.metrics.bootstrap import intervals
from detection_eval.metrics.fddb import KINDS, FddbRoc, FddbScores, fddb_roc, mean_curve, mean_rate_at, ten_fold
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.errors import MissingExtraError
from llie_preproc.faces import Faces

seeds = st.integers(0, 2**32 - 1)
FRAME = (48, 36)
NEVER = 1.7976931348623157e308


# --- What the official program made of a published detector


@pytest.fixture(scope="module")
def fddb(shared_data):
    """The folder, its truth, MTCNN's published detections, and the sizes of the pictures."""
    folder = shared_data / "faces" / "fddb"
    truth = read_fddb(folder / "FDDB-folds")
    sizes = picture_sizes(truth, table=folder / "image_sizes.csv")
    return folder, truth, read_detections(folder / "official" / "MTCNN"), sizes


@pytest.fixture(scope="module")
def official(fddb):
    _, truth, found, sizes = fddb
    return fddb_roc(truth, found, sizes)


def test_the_files_are_the_official_programs_byte_for_byte(fddb, official, tmp_path):
    folder = fddb[0] / "official" / "MTCNN"
    official.write(tmp_path / "disc.txt", tmp_path / "cont.txt")
    for own, theirs in (("disc.txt", "MTCNNDiscROC.txt"), ("cont.txt", "MTCNNContROC.txt")):
        expected = (folder / theirs).read_bytes()
        assert len(expected.splitlines()) == 1774
        assert (tmp_path / own).read_bytes() == expected
    assert (official.faces, official.pictures, official.clipped_to, official.caution) == (5171, 2845, "frames", "")
    assert (official.true_positives[0], official.false_positives[0]) == (4635, 249)


@pytest.mark.parametrize(("number", "rate"), [(100, 0.882034), (200, 0.894218), (500, 0.896345)])
def test_published_rates(official, number, rate):
    assert official.rate_at(number) == pytest.approx(rate, abs=5e-7)


@pytest.mark.further
def test_folds_add_up_to_all(fddb, official):
    _, truth, found, sizes = fddb
    rocs = ten_fold(truth, found, sizes)
    assert len(rocs) == 10
    assert sum(roc.true_positives[0] for roc in rocs) == 4635
    assert sum(roc.false_positives[0] for roc in rocs) == 249
    assert sum(roc.faces for roc in rocs) == 5171
    assert np.sum([roc.overlap[0] for roc in rocs]) == pytest.approx(official.overlap[0])
    some = fddb_roc(truth, found, sizes, folds=[3, 7])
    assert some.faces == rocs[2].faces + rocs[6].faces
    assert some.true_positives[0] == rocs[2].true_positives[0] + rocs[6].true_positives[0]
    # What a fold reads alone is what it is among all.
    alone = read_fddb(fddb[0] / "FDDB-folds", [7])
    only = fddb_roc(alone, {name: found[name] for name in alone.ellipses}, sizes)
    np.testing.assert_array_equal(only.overlap, rocs[6].overlap)


def test_without_sizes_the_numbers_are_off_by_no_more_than_is_said(fddb, official):
    _, truth, found, _ = fddb
    roc = fddb_roc(truth, found)
    errors = [np.abs(getattr(roc, kind) - getattr(official, kind)).max() for kind in ("discrete", "continuous")]
    false = np.abs(roc.false_positives - official.false_positives).max()
    assert 0 < errors[0] <= 0.0005
    assert 0 < errors[1] <= 0.001
    assert 0 < false <= 3
    assert roc.clipped_to == "450"
    for figure in ("2845 of 2845", "0.0005", "0.001", "by 3"):
        assert figure in roc.caution


@pytest.mark.further
def test_the_annotations_as_detections_are_all_found(fddb, tmp_path):
    """493 of them leave their frame, and one has the radius 1 and the centre 0, 0."""
    folder, truth, _, sizes = fddb
    files = sorted((folder / "FDDB-folds").glob("*ellipseList.txt"))
    (tmp_path / "all.txt").write_text("".join(file.read_text() for file in files))
    roc = fddb_roc(truth, read_detections(tmp_path / "all.txt"), sizes)
    assert roc.thresholds.tolist() == [1]
    assert roc.true_positives.tolist() == [5171]
    assert roc.overlap.tolist() == [5171]
    assert roc.rate_at(0) == roc.rate_at(0, "continuous") == 1


# --- The definition, on made pictures


def made_faces(rng, count, frame=FRAME):
    """Ellipses, many of which overlap or leave the frame."""
    radii = rng.uniform(2, 14, (count, 2))
    return np.column_stack([radii, rng.uniform(-4, 4, count), rng.uniform(0, 1, (count, 2)) * np.array(frame)])


def made_detections(rng, faces, count, elliptic, scores=6):
    """Shapes near the faces and elsewhere; some have one score."""
    near = faces[rng.integers(len(faces), size=count)] if len(faces) else made_faces(rng, count)
    moved = near * rng.uniform(0.7, 1.3, near.shape) + rng.normal(0, 2, near.shape) * [0, 0, 0.1, 1, 1]
    if not elliptic:
        width, height = 2 * moved[:, 1], 2 * moved[:, 0]
        moved = np.column_stack([moved[:, 3] - width / 2, moved[:, 4] - height / 2, width, height])
    return FddbDetections(moved, rng.integers(1, scores + 1, count) / scores)


def truth_of(*pictures):
    names = [f"{at}" for at in range(len(pictures))]
    return FddbTruth(dict(zip(names, pictures, strict=True)), {name: 1 + int(name) % 3 for name in names})


def full_masks(shapes, frame):
    """Every shape drawn on a mask of the whole frame."""
    masks = []
    for shape in shapes:
        mask = np.zeros(frame[::-1], np.uint8)
        if len(shape) == 4:
            corners = [round(each) for each in (*shape[:2], *(shape[:2] + shape[2:]))]
            cv2.rectangle(mask, corners[:2], corners[2:], 1, -1)
        else:
            centre = [round(each) for each in shape[3:]]
            cv2.ellipse(mask, centre, (int(shape[0]), int(shape[1])), np.rad2deg(shape[2]), 0, 360, 1, -1)
        masks.append(mask.astype(bool))
    return np.array(masks).reshape(-1, frame[1], frame[0])


def full_overlaps(faces, found, frame):
    one, other = full_masks(faces, frame)[:, None], full_masks(found.shapes, frame)[None]
    return (one & other).sum(axis=(2, 3)) / (one | other).sum(axis=(2, 3))


def matchings(iou, row=0, taken=()):
    """The overlaps of every matching there is: each face has a detection of its own or none."""
    if row == len(iou):
        yield ()
        return
    for rest in matchings(iou, row + 1, taken):
        yield rest
    for column in range(iou.shape[1]):
        if column not in taken and iou[row, column] > 0:
            for rest in matchings(iou, row + 1, (*taken, column)):
                yield (iou[row, column], *rest)


@settings(max_examples=80, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_each_row_of_one_picture_is_the_definition_by_exhaustion(seed, elliptic, sized):
    rng = np.random.default_rng(seed)
    faces = made_faces(rng, int(rng.integers(1, 5)))
    found = made_detections(rng, faces, int(rng.integers(1, 6)), elliptic)
    frame = FRAME if sized else (450, 450)
    assume(full_masks(faces, frame).any(axis=(1, 2)).all())
    iou = full_overlaps(faces, found, frame)
    roc = fddb_roc(truth_of(faces), {"0": found}, {"0": FRAME} if sized else None)
    assert roc.thresholds.tolist() == sorted(set(found.scores.tolist()))
    for threshold, true, overlap, false in zip(
        roc.thresholds, roc.true_positives, roc.overlap, roc.false_positives, strict=True
    ):
        valid = found.scores >= threshold
        all_pairs = list(matchings(iou[:, valid]))
        best = max(map(sum, all_pairs))
        assert overlap == pytest.approx(best, abs=1e-12)
        # Several matchings may have the largest sum.
        assert true in {sum(each > 0.5 for each in pairs) for pairs in all_pairs if sum(pairs) > best - 1e-12}
        assert true + false == valid.sum()


@pytest.mark.parametrize("elliptic", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_is_the_assignment_of_all_of_it_at_each_score(seed, elliptic):
    rng, frame = np.random.default_rng(seed), (160, 120)
    faces = made_faces(rng, 25, frame)
    found = made_detections(rng, faces, 60, elliptic, scores=30)
    iou = full_overlaps(faces, found, frame)
    roc = fddb_roc(truth_of(faces), {"0": found}, {"0": frame})
    for at, threshold in enumerate(roc.thresholds):
        valid = iou[:, found.scores >= threshold]
        pairs = valid[linear_sum_assignment(-valid)]
        assert roc.overlap[at] == pytest.approx(pairs.sum(), abs=1e-9)
        assert roc.true_positives[at] == (pairs > 0.5).sum()
    assert 0 < roc.true_positives[0] < 25
    assert np.abs(faces[:, 3:] - np.array(frame) / 2).max() > 55


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_pictures_add_up_at_each_score_of_any(seed):
    rng = np.random.default_rng(seed)
    pictures = [made_faces(rng, int(count)) for count in rng.integers(0, 4, 5)]
    assume(sum(map(len, pictures)) > 0)
    truth = truth_of(*pictures)
    found = {
        name: made_detections(rng, faces, int(rng.integers(0, 5)), bool(rng.integers(2)))
        for name, faces in truth.ellipses.items()
    }
    sizes = dict.fromkeys(found, (60, 60))
    roc = fddb_roc(truth, found, sizes)
    scores = {score for each in found.values() for score in each.scores.tolist()}
    empty = any(len(each) == 0 for each in found.values())
    assert roc.thresholds.tolist() == sorted(scores | ({NEVER} if empty else set()))
    expected = sum(
        state(found[name], faces, (60, 60), threshold=roc.thresholds) for name, faces in truth.ellipses.items()
    )
    np.testing.assert_allclose([roc.true_positives, roc.overlap, roc.false_positives], expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_weight_is_so_many_copies_of_a_picture(seed):
    rng = np.random.default_rng(seed)
    pictures = [made_faces(rng, int(count)) for count in rng.integers(0, 4, 5)]
    assume(sum(map(len, pictures)) > 0)
    found = [made_detections(rng, faces, int(rng.integers(0, 5)), False) for faces in pictures]
    points = {f"{kind} at {number}": (kind, number) for kind in KINDS for number in (0, 2, 50)}
    sizes = dict.fromkeys(map(str, range(99)), (60, 60))
    scores = FddbScores(truth_of(*pictures), dict(zip("01234", found, strict=True)), sizes, points)
    weights = rng.integers(0, 4, (3, 5))
    many = scores.values(weights)
    for row, copies in enumerate(weights):
        chosen = np.repeat(np.arange(5), copies)
        if not sum(len(pictures[each]) for each in chosen):
            assert all(np.isnan(values[row]) for values in many.values())
            continue
        truth = truth_of(*(pictures[each] for each in chosen))
        roc = fddb_roc(truth, {str(at): found[each] for at, each in enumerate(chosen)}, sizes)
        for name, (kind, number) in points.items():
            assert many[name][row] == pytest.approx(roc.rate_at(number, kind), abs=1e-12)


@pytest.mark.further
def test_rates_of_the_published_detector_have_an_interval(fddb, official):
    _, truth, found, sizes = fddb
    scores = FddbScores(truth, found, sizes, {"TPR": ("discrete", 100)})
    assert scores.values() == {"TPR": official.rate_at(100)}
    interval = intervals([scores], resamples=200)["TPR"]
    assert interval.low < 0.882034 < interval.high
    # That of as many independent faces would be about 0.018 wide; faces of a picture are not independent.
    assert 0.015 < interval.high - interval.low < 0.06


def test_points_of_unknown_kinds_are_refused():
    truth = truth_of(np.array([[10, 8, 0, 20, 20]], float))
    for point, message in ((("other", 1), "kind must be"), (("discrete", -1), "must not be negative")):
        with pytest.raises(ValueError, match=message):
            FddbScores(truth, {"0": FddbDetections.none()}, None, {"x": point})


def state(found, faces, frame, threshold):
    """True positives, overlap, false positives of one picture alone at each threshold: those of its next score."""
    if not len(faces):
        return np.array([[0, 0, (found.scores >= each).sum()] for each in threshold]).T
    roc = fddb_roc(truth_of(faces), {"0": found}, {"0": frame})
    rows = np.column_stack([roc.true_positives, roc.overlap, roc.false_positives])
    return np.vstack([rows, np.zeros(3)])[np.searchsorted(roc.thresholds, threshold)].T


def test_scores_of_any_range_and_order():
    rng = np.random.default_rng(5)
    faces = made_faces(rng, 8)
    found = made_detections(rng, faces, 20, elliptic=False, scores=50)
    roc = fddb_roc(truth_of(faces), {"0": found}, {"0": FRAME})
    order = rng.permutation(20)
    other = FddbDetections(found.shapes[order], 1e4 * found.scores[order] ** 3 - 5e3)
    again = fddb_roc(truth_of(faces), {"0": other}, {"0": FRAME})
    assert again.thresholds[0] < 0 < again.thresholds[-1]
    np.testing.assert_array_equal(again.true_positives, roc.true_positives)
    np.testing.assert_array_equal(again.false_positives, roc.false_positives)
    np.testing.assert_allclose(again.overlap, roc.overlap, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans())
def test_the_faces_as_detections_are_all_found(seed, sized):
    rng = np.random.default_rng(seed)
    faces = made_faces(rng, 6)
    frame = FRAME if sized else (450, 450)
    assume(full_masks(faces, frame).any(axis=(1, 2)).all())
    scores = rng.permutation(6) / 6
    roc = fddb_roc(truth_of(faces), {"0": FddbDetections(faces, scores)}, {"0": FRAME} if sized else {})
    assert roc.true_positives.tolist() == [6, 5, 4, 3, 2, 1]
    assert roc.overlap[0] == 6
    assert roc.false_positives[0] == 0


def test_some_sizes_may_be_unknown():
    """A box that leaves the frame of 60x50 is the better for being clipped to it."""
    faces = np.array([[20.0, 15, np.pi / 2, 50, 30]])
    found = dict.fromkeys("012", found_of([[35, 10, 60, 40]], [0.5]))
    for sizes, name in (({}, "450"), ({"0": (60, 50)}, "frames and 450"), (dict.fromkeys("012", (60, 50)), "frames")):
        roc = fddb_roc(truth_of(faces, faces, faces), found, sizes)
        assert (roc.clipped_to, roc.without_size, roc.pictures) == (name, 3 - len(sizes), 3)
        assert roc.true_positives.tolist() == [len(sizes)]
        assert bool(roc.caution) == (len(sizes) < 3)
        assert f"{3 - len(sizes)} of 3 pictures" in roc.caution or not roc.caution
    # 2x2 pixels are left.
    roc = fddb_roc(truth_of(np.array([pixel(449, 449)])), {"0": found_of([square(448, 448, 50)], [1])})
    assert roc.overlap.tolist() == [1 / 4]


def square(left, top, side):
    return [left, top, side, side]


def pixel(x, y):
    """A face of the smallest ellipse, which is one pixel."""
    return [0.0, 0, 0, x, y]


def found_of(shapes, scores):
    return FddbDetections(np.array(shapes, dtype=float), np.array(scores, dtype=float))


def test_corners_are_rounded_to_even_and_both_included():
    truth, sizes = truth_of(np.array([pixel(2, 2)])), {"0": (20, 20)}
    # 2.5 and 3.5 are rounded to 2 and 4: nine pixels, of which one is the face.
    roc = fddb_roc(truth, {"0": found_of([[1.5, 2.5, 2, 1]], [1])}, sizes)
    assert roc.overlap.tolist() == [1 / 9]
    # Off the frame nothing counts: 3x3 of a square of 101x101.
    roc = fddb_roc(truth_of(np.array([pixel(19, 19)])), {"0": found_of([square(17, 17, 100)], [1])}, sizes)
    assert roc.overlap.tolist() == [1 / 9]
    roc = fddb_roc(truth, {"0": found_of([square(-50, 2, 10), square(1e300, 2, 10)], [1, 1])}, sizes)
    assert (roc.overlap.tolist(), roc.false_positives.tolist()) == ([0], [2])


def test_half_an_overlap_is_not_enough_for_the_discrete_score():
    truth, sizes = truth_of(np.array([pixel(5, 5)])), {"0": (20, 20)}
    roc = fddb_roc(truth, {"0": found_of([[5, 5, 1, 0], [5, 5, 0, 0]], [0.9, 0.8])}, sizes)
    assert roc.overlap.tolist() == [1, 0.5]
    assert roc.true_positives.tolist() == [1, 0]
    assert roc.false_positives.tolist() == [1, 1]


def test_a_second_detection_of_a_face_is_false_and_detections_can_unseat_each_other():
    # 1x1, 1x2 and 1x3 pixels side by side: what has the largest sum changes with the scores that count.
    truth, sizes = truth_of(np.array([pixel(5, 5), pixel(7, 5)])), {"0": (20, 20)}
    both, left = [5, 5, 2, 0], [5, 5, 0, 0]
    roc = fddb_roc(truth, {"0": found_of([both, left, left], [0.9, 0.5, 0.1])}, sizes)
    assert roc.thresholds.tolist() == [0.1, 0.5, 0.9]
    np.testing.assert_allclose(roc.overlap, [4 / 3, 4 / 3, 1 / 3])
    assert roc.true_positives.tolist() == [1, 1, 0]
    assert roc.false_positives.tolist() == [2, 1, 1]
    assert (roc.rate_at(0), roc.rate_at(1), roc.rate_at(7)) == (0, 0.5, 0.5)
    assert roc.rate_at(1, "continuous") == pytest.approx(2 / 3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 20), st.integers(0, 9)), min_size=1, max_size=8))
def test_the_rate_is_the_best_of_the_points_with_so_few_false_positives(points):
    """The largest sum of overlaps may find fewer faces with more detections, so rates may fall."""
    true, overlap, false = map(np.array, zip(*points, strict=True))
    roc = FddbRoc(np.arange(len(points)), true, overlap, false, faces=20, pictures=1, without_size=0)
    for number in range(11):
        few = [each for each in points if each[2] <= number]
        assert roc.rate_at(number) == max([each[0] / 20 for each in few], default=0)
        assert roc.rate_at(number, "continuous") == max([each[1] / 20 for each in few], default=0)


def test_the_mean_of_folds_is_over_equal_numbers_of_false_positives(tmp_path):
    faces = np.array([pixel(5, 5)])
    truth = FddbTruth({"a": faces, "b": faces}, {"a": 1, "b": 4})
    hit, miss = [5, 5, 0, 0], [9, 9, 0, 0]
    found = {"a": found_of([hit, miss], [0.9, 0.1]), "b": found_of([miss, hit, miss], [0.9, 0.8, 0.2])}
    rocs = ten_fold(truth, found, {"a": (20, 20), "b": (20, 20)})
    at, rates = mean_curve(rocs)
    assert (at.tolist(), rates.tolist()) == ([0, 1, 2], [0.5, 1, 1])
    assert [mean_rate_at(rocs, number) for number in (0, 1, 500)] == [0.5, 1, 1]
    assert mean_curve(rocs, "continuous", [0])[1].tolist() == [0.5]
    with pytest.raises(ValueError, match="no curves"):
        mean_curve([])


def test_no_detection_at_all(tmp_path):
    roc = fddb_roc(truth_of(np.array([pixel(5, 5)])), {"0": FddbDetections.none()})
    roc.write(tmp_path / "d", tmp_path / "c")
    assert (tmp_path / "d").read_text() == "0 0 1.79769e+308\n"
    assert (tmp_path / "c").read_text() == "0 0\n"
    assert roc.rate_at(500) == 0


# --- What is refused


def test_names_must_be_those_of_the_annotations():
    truth = truth_of(*[np.array([pixel(5, 5)])] * 5)
    found = {name: FddbDetections.none() for name in truth.ellipses}
    with pytest.raises(ValueError, match=r"not in the annotations: 2002/x$"):
        fddb_roc(truth, {**found, "2002/x": FddbDetections.none()})
    del found["0"], found["3"]
    with pytest.raises(ValueError, match=r"no entry in the detections .*: 0, 3;"):
        fddb_roc(truth, found)
    # Of the folds 1 to 3 of 0 to 4, the second has 1 and 4.
    assert fddb_roc(truth, found, folds=[2]).pictures == 2
    with pytest.raises(ValueError, match="no pictures of fold 8"):
        fddb_roc(truth, found, folds=[2, 8])
    with pytest.raises(ValueError, match="none given"):
        fddb_roc(truth, found, folds=[])
    nobody = truth_of(np.zeros((0, 5)))
    with pytest.raises(ValueError, match="no annotated face"):
        fddb_roc(nobody, {"0": FddbDetections.none()})


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5.5, 5), (float("nan"), 5)])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="0: width and height must be whole"):
        fddb_roc(truth_of(np.array([pixel(1, 1)])), {"0": FddbDetections.none()}, {"0": size})


def test_sizes_of_other_pictures():
    """A face that has no pixel in its frame: pictures were halved, or are others."""
    truth = truth_of(np.array([pixel(1, 1), [4, 3, 0, 30, 8]]))
    with pytest.raises(ValueError, match=r"0: the face \[4\.0, 3\.0.* no pixel in a frame of 20x10"):
        fddb_roc(truth, {"0": FddbDetections.none()}, {"0": (20, 10)})


def test_what_cannot_be_drawn_is_named():
    truth = truth_of(np.array([pixel(1, 1)]))
    with pytest.raises(ValueError, match=r"0: ellipse .*1e\+30"):
        fddb_roc(truth, {"0": found_of([[1e30, 1, 0, 1, 1]], [1])})


@pytest.mark.parametrize(("number", "kind", "message"), [(-1, "discrete", "-1"), (5, "both", "'both'")])
def test_rates_of_what_is_not_there(number, kind, message):
    roc = fddb_roc(truth_of(np.array([pixel(1, 1)])), {"0": FddbDetections.none()})
    with pytest.raises(ValueError, match=message):
        roc.rate_at(number, kind)


def test_boxes_of_a_detector():
    faces = Faces(np.array([[-2.5, 3, 10, 4]], np.float32), np.array([0.25], np.float32))
    found = from_faces(faces)
    assert (found.shapes.tolist(), found.scores.tolist()) == ([[-2.5, 3, 12.5, 1]], [0.25])
    assert len(from_faces(Faces.none())) == 0
    with pytest.raises(ValueError, match=r"detections\[0\].*-1"):
        from_faces(Faces(np.array([[5, 5, 4, 9]], np.float32), np.ones(1, np.float32)))


def test_without_scipy_the_extra_is_named(monkeypatch):
    for name in ("scipy", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "detection_eval.metrics.fddb")
    with pytest.raises(MissingExtraError, match=r'scipy.*pip install "llie-preproc\[mm\]"'):
        import_module("detection_eval.metrics.fddb")


# --- The command


def run(*arguments):
    args = parse_args(["fddb", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def made(tmp_path):
    """Ten folds of one picture each, whose face is found once in every one and missed once in the even ones."""
    found = []
    for fold in range(1, 11):
        name = f"2002/big/img_{fold}"
        (tmp_path / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text(f"{name}\n1\n8 6 0.5 20 15  1\n")
        rows = [f"8 6 0.5 20 15 {fold}"] + ["3 3 0 40 30 0.5"] * (fold % 2 == 0)
        found += [name, str(len(rows)), *rows]
    (tmp_path / "found.txt").write_text("\n".join(found))
    names = "".join(f"2002/big/img_{fold},60,50\n" for fold in range(1, 11))
    (tmp_path / "sizes.csv").write_text(f"image,width,height\n{names}")
    return tmp_path


def numbers(text, start):
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [float(each) for each in re.findall(r"\d\.\d+", line)]


def test_the_command(made, capsys):
    arguments = [made, made / "found.txt", "--sizes", made / "sizes.csv", "--fp", 0, 3, "--out", made / "out" / "here"]
    assert run(*arguments, "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "10 pictures, 10 faces, 15 detections: 10 true, 5 false" in text
    for start in ("at 0 false", "at 3 false", "of all", "fold 10", "mean"):
        assert numbers(text, start) == [1, 1]
    assert "450" not in text
    folder = made / "out" / "here"
    rows = [line.split() for line in (folder / "DiscROC.txt").read_text().splitlines()]
    assert rows[0] == ["1", "5", "0.5"]
    assert rows[1:] == [[f"{k / 10:g}", "0", str(11 - k)] for k in range(10, 0, -1)]
    assert (folder / "ContROC.txt").read_text().splitlines()[0] == "1 5"
    assert (folder / "fold-02-DiscROC.txt").read_text() == "1 1 0.5\n1 0 2\n"
    assert (folder / "mean-ContROC.txt").read_text() == "1 1\n1 0\n"


def test_degrees_are_told_from_radians(made, capsys):
    assert run(made, made / "found.txt", "--sizes", made / "sizes.csv") == 0
    assert capsys.readouterr().err == ""
    # A whole turn and what rounding adds to it is no degree.
    for angle, expected in (("6.2832", False), ("-6.2832", False), ("28.65", True), ("-90", True)):
        path = made / "FDDB-fold-03-ellipseList.txt"
        path.write_text(f"2002/big/img_3\n1\n8 6 {angle} 20 15  1\n")
        assert run(made, made / "found.txt", "--sizes", made / "sizes.csv") == 0
        err = capsys.readouterr().err
        hint = f"1 of 10 annotated ellipses have an angle beyond 2 pi, up to {abs(float(angle)):g} in 2002/big/img_3"
        assert (hint in err) == expected
        assert ("look like degrees" in err) == expected
        roc = fddb_roc(read_fddb(made), read_detections(made / "found.txt"))
        assert any("look like degrees" in each for each in roc.hints) == expected
    found = (made / "found.txt").read_text().replace("8 6 0.5 20 15 7", "8 6 28.65 20 15 7")
    (made / "found.txt").write_text(found)
    assert run(made, made / "found.txt") == 0
    assert re.search(r"1 of 1\d detected ellipses have an angle beyond 2 pi", capsys.readouterr().err)


def test_the_published_annotations_and_detections_give_no_hint(official):
    assert official.hints == ()


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_leaves_no_file_of_a_pair_and_is_named(made, capsys, monkeypatch, failing):
    """The fourth file that is written is the first that has no place: none of them is there."""
    whole, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == failing + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    out = made / "out"
    assert main(["fddb", str(made), str(made / "found.txt"), "--out", str(out), "--ten-fold"]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"llie: error: {out}/(fold-\d\d-|mean-)?(Disc|Cont)ROC\.txt: no space left on device\n", err)
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    assert main(["fddb", str(made), str(made / "found.txt"), "--out", str(out), "--ten-fold"]) == 0
    assert len(list(out.iterdir())) == 2 * 10 + 4


def test_the_command_on_some_folds_without_sizes(made, capsys):
    assert run(made, made / "found.txt", "--folds", 2, 5, "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "2 pictures, 2 faces, 3 detections" in text
    assert "2 of 2 pictures have no known size" in text
    assert "fold 5" in text
    assert "fold 1" not in text


def test_ten_folds_of_which_some_are_empty(made, capsys):
    (made / "FDDB-fold-04-ellipseList.txt").write_text("")
    found = (made / "found.txt").read_text().replace("2002/big/img_4\n2\n8 6 0.5 20 15 4\n3 3 0 40 30 0.5\n", "")
    (made / "found.txt").write_text(found)
    assert run(made, made / "found.txt", "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "9 pictures" in text
    assert "fold 3" in text
    assert "fold 4" not in text


def test_the_command_says_what_is_bad(made):
    (made / "found.txt").write_text("2002/big/img_1\n1\n1 2 3 4 nan\n")
    with pytest.raises(ValueError, match=r"found\.txt:3: score must be a number, got 'nan'"):
        run(made, made / "found.txt")
    (made / "FDDB-fold-07-ellipseList.txt").unlink()
    with pytest.raises(FileNotFoundError, match="FDDB-fold-07"):
        run(made, made / "found.txt")
