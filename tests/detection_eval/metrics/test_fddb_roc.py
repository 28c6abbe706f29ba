"""The ROC of ``metrics/fddb.py`` follows from the best of all matchings, as FDDB defines; bad input is refused."""

from __future__ import annotations

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

from detection_eval.datasets.fddb import FddbDetections, FddbTruth, from_faces
from detection_eval.metrics.fddb import KINDS, FddbRoc, FddbScores, fddb_roc, mean_curve, mean_rate_at, ten_fold
from llie_preproc.errors import MissingExtraError
from llie_preproc.faces import Faces

seeds = st.integers(0, 2**32 - 1)
FRAME = (48, 36)
NEVER = 1.7976931348623157e308


def made_faces(rng, count, frame=FRAME):
    """Ellipses that often overlap or leave the frame."""
    radii = rng.uniform(2, 14, (count, 2))
    return np.column_stack([radii, rng.uniform(-4, 4, count), rng.uniform(0, 1, (count, 2)) * np.array(frame)])


def made_detections(rng, faces, count, elliptic, scores=6):
    """Detections near the faces; several may have the same score."""
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
    """Masks of the whole frame, ``(n, H, W)`` bool, one for each shape."""
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
    """Yield the overlaps of every matching, in which no two faces have the same detection and a face may have none."""
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
def test_the_curve_of_one_picture_equals_the_best_of_all_matchings(seed, elliptic, sized):
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
def test_the_curve_of_many_faces_equals_scipys_assignment(seed, elliptic):
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
def test_curves_of_pictures_add_up_at_every_score(seed):
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
def test_a_picture_of_weight_n_counts_as_n_copies(seed):
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


def test_points_of_unknown_kinds_are_refused():
    truth = truth_of(np.array([[10, 8, 0, 20, 20]], float))
    for point, message in ((("other", 1), "kind must be"), (("discrete", -1), "must not be negative")):
        with pytest.raises(ValueError, match=message):
            FddbScores(truth, {"0": FddbDetections.none()}, None, {"x": point})


def state(found, faces, frame, threshold):
    """True positives, overlap and false positives of one picture at each threshold."""
    if not len(faces):
        return np.array([[0, 0, (found.scores >= each).sum()] for each in threshold]).T
    roc = fddb_roc(truth_of(faces), {"0": found}, {"0": frame})
    rows = np.column_stack([roc.true_positives, roc.overlap, roc.false_positives])
    return np.vstack([rows, np.zeros(3)])[np.searchsorted(roc.thresholds, threshold)].T


def test_only_the_order_of_scores_matters():
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
def test_faces_that_are_given_as_detections_are_all_found(seed, sized):
    rng = np.random.default_rng(seed)
    faces = made_faces(rng, 6)
    frame = FRAME if sized else (450, 450)
    assume(full_masks(faces, frame).any(axis=(1, 2)).all())
    scores = rng.permutation(6) / 6
    roc = fddb_roc(truth_of(faces), {"0": FddbDetections(faces, scores)}, {"0": FRAME} if sized else {})
    assert roc.true_positives.tolist() == [6, 5, 4, 3, 2, 1]
    assert roc.overlap[0] == 6
    assert roc.false_positives[0] == 0


def test_pictures_of_unknown_size_are_clipped_to_450():
    """Each box leaves the frame of 60x50, and matches its face only when it is clipped to that frame."""
    faces = np.array([[20.0, 15, np.pi / 2, 50, 30]])
    found = dict.fromkeys("012", found_of([[35, 10, 60, 40]], [0.5]))
    for sizes, name in (({}, "450"), ({"0": (60, 50)}, "frames and 450"), (dict.fromkeys("012", (60, 50)), "frames")):
        roc = fddb_roc(truth_of(faces, faces, faces), found, sizes)
        assert (roc.clipped_to, roc.without_size, roc.pictures) == (name, 3 - len(sizes), 3)
        assert roc.true_positives.tolist() == [len(sizes)]
        assert bool(roc.caution) == (len(sizes) < 3)
        assert f"{3 - len(sizes)} of 3 pictures" in roc.caution or not roc.caution
    # Clipping to 450x450 leaves 2x2 pixels of the square.
    roc = fddb_roc(truth_of(np.array([pixel(449, 449)])), {"0": found_of([square(448, 448, 50)], [1])})
    assert roc.overlap.tolist() == [1 / 4]


def square(left, top, side):
    return [left, top, side, side]


def pixel(x, y):
    """A face whose ellipse has radii of 0, which covers one pixel."""
    return [0.0, 0, 0, x, y]


def found_of(shapes, scores):
    return FddbDetections(np.array(shapes, dtype=float), np.array(scores, dtype=float))


def test_corners_are_rounded_to_even_and_included():
    truth, sizes = truth_of(np.array([pixel(2, 2)])), {"0": (20, 20)}
    # 2.5 and 3.5 are rounded to 2 and 4: the box has nine pixels, one of which is the face.
    roc = fddb_roc(truth, {"0": found_of([[1.5, 2.5, 2, 1]], [1])}, sizes)
    assert roc.overlap.tolist() == [1 / 9]
    # Pixels outside the frame do not count: 3x3 of the square's 101x101 are inside.
    roc = fddb_roc(truth_of(np.array([pixel(19, 19)])), {"0": found_of([square(17, 17, 100)], [1])}, sizes)
    assert roc.overlap.tolist() == [1 / 9]
    roc = fddb_roc(truth, {"0": found_of([square(-50, 2, 10), square(1e300, 2, 10)], [1, 1])}, sizes)
    assert (roc.overlap.tolist(), roc.false_positives.tolist()) == ([0], [2])


def test_an_overlap_of_one_half_is_not_enough_for_the_discrete_score():
    truth, sizes = truth_of(np.array([pixel(5, 5)])), {"0": (20, 20)}
    roc = fddb_roc(truth, {"0": found_of([[5, 5, 1, 0], [5, 5, 0, 0]], [0.9, 0.8])}, sizes)
    assert roc.overlap.tolist() == [1, 0.5]
    assert roc.true_positives.tolist() == [1, 0]
    assert roc.false_positives.tolist() == [1, 1]


def test_a_second_detection_of_a_face_is_false_and_may_take_the_match():
    # Detections of 3 pixels and of 1 pixel compete for a face; which one matches depends on the threshold.
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
def test_the_rate_at_n_false_positives_is_the_highest_at_n_or_fewer(points):
    """Rates may fall along the curve: with more detections, the matching of largest overlap may find fewer faces."""
    true, overlap, false = map(np.array, zip(*points, strict=True))
    roc = FddbRoc(np.arange(len(points)), true, overlap, false, faces=20, pictures=1, without_size=0)
    for number in range(11):
        few = [each for each in points if each[2] <= number]
        assert roc.rate_at(number) == max([each[0] / 20 for each in few], default=0)
        assert roc.rate_at(number, "continuous") == max([each[1] / 20 for each in few], default=0)


def test_folds_are_averaged_at_equal_numbers_of_false_positives(tmp_path):
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


def test_a_curve_without_detections_has_one_row(tmp_path):
    roc = fddb_roc(truth_of(np.array([pixel(5, 5)])), {"0": FddbDetections.none()})
    roc.write(tmp_path / "d", tmp_path / "c")
    assert (tmp_path / "d").read_text() == "0 0 1.79769e+308\n"
    assert (tmp_path / "c").read_text() == "0 0\n"
    assert roc.rate_at(500) == 0


def test_detections_must_name_the_annotated_pictures():
    truth = truth_of(*[np.array([pixel(5, 5)])] * 5)
    found = {name: FddbDetections.none() for name in truth.ellipses}
    with pytest.raises(ValueError, match=r"not in the annotations: 2002/x$"):
        fddb_roc(truth, {**found, "2002/x": FddbDetections.none()})
    del found["0"], found["3"]
    with pytest.raises(ValueError, match=r"no entry in the detections .*: 0, 3;"):
        fddb_roc(truth, found)
    # Fold 2 has the pictures 1 and 4, which have detections.
    assert fddb_roc(truth, found, folds=[2]).pictures == 2
    with pytest.raises(ValueError, match="no pictures of fold 8"):
        fddb_roc(truth, found, folds=[2, 8])
    with pytest.raises(ValueError, match="none given"):
        fddb_roc(truth, found, folds=[])
    nobody = truth_of(np.zeros((0, 5)))
    with pytest.raises(ValueError, match="no annotated face"):
        fddb_roc(nobody, {"0": FddbDetections.none()})


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5.5, 5), (float("nan"), 5)])
def test_invalid_sizes_are_refused(size):
    with pytest.raises(ValueError, match="0: width and height must be whole"):
        fddb_roc(truth_of(np.array([pixel(1, 1)])), {"0": FddbDetections.none()}, {"0": size})


def test_a_face_outside_its_frame_is_refused():
    """Such a face shows that the sizes belong to other pictures, or to scaled ones."""
    truth = truth_of(np.array([pixel(1, 1), [4, 3, 0, 30, 8]]))
    with pytest.raises(ValueError, match=r"0: the face \[4\.0, 3\.0.* no pixel in a frame of 20x10"):
        fddb_roc(truth, {"0": FddbDetections.none()}, {"0": (20, 10)})


def test_ellipses_too_large_to_draw_are_named():
    truth = truth_of(np.array([pixel(1, 1)]))
    with pytest.raises(ValueError, match=r"0: ellipse .*1e\+30"):
        fddb_roc(truth, {"0": found_of([[1e30, 1, 0, 1, 1]], [1])})


@pytest.mark.parametrize(("number", "kind", "message"), [(-1, "discrete", "-1"), (5, "both", "'both'")])
def test_invalid_points_of_the_curve_are_refused(number, kind, message):
    roc = fddb_roc(truth_of(np.array([pixel(1, 1)])), {"0": FddbDetections.none()})
    with pytest.raises(ValueError, match=message):
        roc.rate_at(number, kind)


def test_boxes_of_a_detector_become_rectangles():
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
