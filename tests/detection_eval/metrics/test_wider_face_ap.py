"""``wider_face.py`` gives the same AP as plain loops by the rules of DARK FACE's and WIDER FACE's tools."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

scipy_io = pytest.importorskip("scipy.io", reason="needs the extra 'mm'")

from detection_eval.datasets.wider_difficulty import (  # noqa: E402
    DIFFICULTIES,
    read_darkface_predictions,
    read_difficulties,
    read_difficulty,
    read_wider_predictions,
    write_darkface_predictions,
    write_wider_predictions,
)
from detection_eval.metrics.wider_face import area_under, darkface_ap, darkface_scores, wider_ap, wider_scores  # noqa: E402
from llie_preproc.faces import Faces  # noqa: E402


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def _slow_ap(truth, found, kept):
    """AP by the tools' rules, in loops over pictures, detections and thresholds."""
    everything = [score for faces in found.values() for score in faces.scores.tolist()]
    low, high = (min(everything), max(everything)) if everything else (0, 1)
    runs, total = [], sum(len(each) for each in kept.values())
    for name, boxes in truth.items():
        faces = found.get(name, Faces.none())
        if not len(boxes) or not len(faces):
            continue
        order = sorted(range(len(faces)), key=lambda i: -faces.scores[i])
        taken, run = set(), []
        for i in order:
            overlaps = [_iou(faces.boxes[i].tolist(), box) for box in boxes]
            best = overlaps.index(max(overlaps))
            score = (float(faces.scores[i]) - low) / (high - low) if high > low else 1.0
            proposal, hit = 1, 0
            if overlaps[best] >= 0.5:
                if best not in kept[name]:
                    proposal = 0
                elif best not in taken:
                    taken.add(best)
                    hit = 1
            run.append((score, proposal, hit))
        runs += run
    points = []
    for k in range(1, 1001):
        threshold = 1 - k / 1000
        proposals = sum(p for score, p, _ in runs if score >= threshold)
        hits = sum(h for score, _, h in runs if score >= threshold)
        points.append((hits / total if total else math.nan, hits / proposals if proposals else 0.0))
    if not total:
        return math.nan
    area, best = 0.0, 0.0
    for (recall, precision), (before, _) in zip(points[::-1], [*points[-2::-1], (0.0, 0.0)], strict=True):
        best = max(best, precision)
        area += (recall - before) * best
    return area


@st.composite
def _scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 3, 1000]))
    truth, found, kept = {}, {}, {}
    for i in range(draw(st.integers(1, 4))):
        name = f"event/{i}"
        corners = rng.integers(0, 40, (int(rng.integers(0, 5)), 2))
        boxes = np.concatenate([corners, corners + rng.integers(0, 25, corners.shape)], axis=1).astype(float)
        truth[name] = boxes
        kept[name] = np.flatnonzero(rng.random(len(boxes)) < 0.6)
        near = [b + rng.integers(-3, 4, 4) for b in boxes for _ in range(int(rng.integers(0, 4)))]
        far = rng.integers(0, 60, (int(rng.integers(0, 3)), 4))
        rows = np.array([*near, *far], np.float32).reshape(-1, 4)
        rows = np.concatenate([np.minimum(rows[:, :2], rows[:, 2:]), np.maximum(rows[:, :2], rows[:, 2:])], axis=1)
        if rng.random() < 0.9:
            found[name] = Faces(rows, rng.integers(0, levels, len(rows)).astype(np.float32) / levels)
    return truth, found, kept


@settings(deadline=None, max_examples=40)
@given(_scenes())
def test_darkface_ap_equals_the_loops(scene):
    truth, found, _ = scene
    everything = {name: list(range(len(boxes))) for name, boxes in truth.items()}
    expected = _slow_ap({n: b.tolist() for n, b in truth.items()}, found, everything)
    assert darkface_ap(truth, found).ap == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(_scenes())
def test_wider_ap_equals_the_loops(scene):
    corners, found, kept = scene
    truth = {n: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1) for n, b in corners.items()}
    indices = {name: set(each.tolist()) for name, each in kept.items()}
    expected = _slow_ap({n: b.tolist() for n, b in corners.items()}, found, indices)
    assert wider_ap(truth, found, kept).ap == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=25)
@given(_scenes(), st.integers(0, 2**32 - 1))
def test_a_picture_of_weight_n_counts_as_n_copies(scene, seed):
    truth, found, kept = scene
    # No weight is 0, because a left-out picture could change the range of the scores.
    weights = np.random.default_rng(seed).integers(1, 4, (2, len(truth)))
    dark, wide = darkface_scores(truth, found).values(weights), wider_scores(truth, found, kept).values(weights)
    for row, copies in enumerate(weights):
        many = [(name, f"{name}/{k}") for name, count in zip(truth, copies, strict=True) for k in range(count)]
        boxes = {copy: truth[name] for name, copy in many}
        faces = {copy: found[name] for name, copy in many if name in found}
        lists = {copy: kept[name] for name, copy in many}
        assert dark["AP"][row] == pytest.approx(darkface_ap(boxes, faces).ap, abs=1e-12, nan_ok=True)
        assert wide["AP"][row] == pytest.approx(wider_ap(boxes, faces, lists).ap, abs=1e-12, nan_ok=True)


def test_a_weight_of_zero_leaves_a_picture_out():
    truth = {"a": _row(2), "b": _row(1)}
    found = {"a": _faces(_row(2)[:1], [0.9]), "b": _faces([[0, 100, 10, 110]], [0.5])}
    scores = darkface_scores(truth, found)
    np.testing.assert_allclose(scores.values(np.array([[1, 0], [0, 1], [1, 1]]))["AP"], [0.5, 0, 1 / 3])
    assert np.isnan(scores.values(np.array([0, 0]))["AP"])


def _row(count, offset=0.0):
    """Boxes of ``count`` faces of 20 x 20 pixels in a row."""
    left = 50.0 * np.arange(count) + offset
    return np.stack([left, np.zeros(count), left + 19, np.full(count, 19.0)], axis=1)


def _faces(boxes, scores):
    return Faces(np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32))


def test_the_ap_equals_one_worked_out_by_hand():
    # Two faces are found with scores 1.0 and 0.5; a false one has 0.8. Precision is 1 up to recall 1/2, then 2/3.
    found = {"a": _faces([*_row(2), [0, 100, 10, 110], [0, 200, 9, 209]], [1.0, 0.5, 0.8, 0.0])}
    result = darkface_ap({"a": _row(2)}, found)
    assert result.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (result.faces, result.found, result.proposals) == (2, 2, 4)
    assert result.recall[0] == 0.5
    assert result.precision[-1] == 0.5


def test_perfect_detections_score_one_and_none_score_zero():
    truth = {"a": _row(3), "b": _row(2)}
    assert darkface_ap(truth, {n: _faces(b, np.linspace(0.2, 0.9, len(b))) for n, b in truth.items()}).ap == 1
    nothing = darkface_ap(truth, {})
    assert (nothing.ap, nothing.faces, nothing.proposals) == (0, 5, 0)
    assert math.isnan(darkface_ap({"a": np.zeros((0, 4))}, {}).ap)


def test_a_duplicate_costs_precision():
    truth = {"a": _row(2)}
    once = darkface_ap(truth, {"a": _faces(_row(2), [1, 0.1])})
    twice = darkface_ap(truth, {"a": _faces([*_row(2), _row(2)[0] + 1], [1, 0.1, 0.9])})
    assert once.ap == 1
    assert twice.ap == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_second_detection_of_a_face_is_not_matched_to_another_face():
    # Both detections overlap the first face most, so the second is not found. By COCO's rules it would be found.
    truth = {"a": np.array([[0, 0, 99, 99], [20, 0, 119, 99]], float)}
    found = {"a": _faces([[0, 0, 99, 99], [8, 0, 107, 99]], [0.9, 0.8])}
    assert darkface_ap(truth, found).found == 1


def test_detections_in_a_picture_without_faces_only_widen_the_range_of_scores():
    truth = {"a": _row(2), "empty": np.zeros((0, 4))}
    base = {"a": _faces([*_row(2), [0, 100, 10, 110]], [1.0, 0.0, 0.5])}
    more = base | {"empty": _faces(_row(9), np.linspace(0, 1, 9))}
    assert darkface_ap(truth, more).ap == darkface_ap(truth, base).ap
    assert darkface_ap(truth, more).proposals == 3


def test_an_iou_of_one_half_is_enough_and_last_pixels_count():
    # 10 x 10 and 10 x 5 pixels have an IoU of 0.5; if last pixels did not count, it would be (9 x 4) / (9 x 9).
    truth = {"a": np.array([[0, 0, 9, 9]], float)}
    assert darkface_ap(truth, {"a": _faces([[0, 0, 9, 4]], [1])}).ap == 1
    assert darkface_ap(truth, {"a": _faces([[0, 0, 9, 3.99]], [1])}).ap == 0
    # A WIDER face of width 9 ends at pixel 9.
    assert wider_ap({"a": np.array([[0, 0, 9, 9]], float)}, {"a": _faces([[0, 0, 9, 4]], [1])}).ap == 1


def test_the_range_of_scores_does_not_matter():
    truth, boxes = {"a": _row(2)}, [*_row(2), [0, 100, 10, 110]]
    small = darkface_ap(truth, {"a": _faces(boxes, [0.5, 0.5, 0.5])})
    assert small.ap == pytest.approx(2 / 3)
    one = darkface_ap(truth, {"a": _faces(boxes, [3, -1, 1])})
    other = darkface_ap(truth, {"a": _faces(boxes, [0.75, 0.25, 0.5])})
    assert one.ap == other.ap


def test_detections_of_faces_of_another_difficulty_do_not_count():
    xywh = _row(3)
    xywh[:, 2:] = 19
    found = {"a": _faces([*_row(3), [0, 100, 10, 110]], [1.0, 0.9, 0.8, 0.0])}
    hard = wider_ap({"a": xywh}, found, {"a": np.array([2])})
    assert (hard.faces, hard.found, hard.proposals, hard.ap) == (1, 1, 2, 1)
    # In a picture without a kept face, detections of faces do not count, but one that hits no face is false.
    truth = {"a": xywh, "b": xywh}
    some = wider_ap(truth, {"a": found["a"], "b": found["a"]}, {"a": np.array([2]), "b": np.zeros(0, int)})
    assert (some.faces, some.proposals) == (1, 3)


def test_the_area_follows_the_rule_of_voc():
    falling = area_under(np.array([1.0, 0.5, 0.6]), np.array([0.2, 0.4, 0.8]))
    assert falling == pytest.approx(0.2 * 1 + 0.2 * 0.6 + 0.4 * 0.6)
    assert area_under(np.array([np.nan, 1.0]), np.array([0.0, 0.5])) == 0.5


@pytest.mark.parametrize(
    ("truth", "found", "kept", "message"),
    [
        ({"a": _row(1)}, {"b": _faces([], [])}, None, "b.*not among the 1"),
        ({"a": np.zeros((2, 3))}, {}, None, r"a: boxes must be \(n, 4\), got \(2, 3\)"),
        ({"a": _row(1)}, {"a": _faces(_row(1), [np.nan])}, None, "a: scores must be finite"),
        ({"a": _row(1)}, {"a": _faces(_row(1) + np.inf, [1])}, None, "a: boxes must be finite"),
        ({"a": _row(1)}, {}, {}, "a: the list of kept faces has no such picture"),
        ({"a": _row(1)}, {}, {"a": np.array([0, 1])}, "a: kept faces are 0 to 1, but it has 1"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(truth, found, kept, message):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        wider_ap(truth, found, kept)


def write_mat(path, lists):
    """Write a file in MATLAB's layout: cells in columns, indices from 1."""

    def cell(values):
        array = np.empty((len(values), 1), dtype=object)
        for i, value in enumerate(values):
            array[i, 0] = value
        return array

    events = list(lists)
    content = {
        "event_list": cell(events),
        "file_list": cell([cell(list(lists[event])) for event in events]),
        "gt_list": cell([cell([np.array(v, float).reshape(-1, 1) for v in lists[e].values()]) for e in events]),
    }
    scipy_io.savemat(path, content)


def test_indices_of_difficulty_files_become_zero_based(tmp_path):
    lists = {"0--Parade": {"one_1": [1, 3], "one_2": []}, "9--Press": {"two_1": [2]}}
    for level in DIFFICULTIES:
        write_mat(tmp_path / f"wider_{level}_val.mat", lists)
    found = read_difficulties(tmp_path)
    assert list(found) == ["easy", "medium", "hard"]
    for each in found.values():
        assert {name: indices.tolist() for name, indices in each.items()} == {
            "0--Parade/one_1": [0, 2],
            "0--Parade/one_2": [],
            "9--Press/two_1": [1],
        }


def test_bad_difficulty_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"wider_easy_val\.mat"):
        read_difficulties(tmp_path)
    (tmp_path / "x.mat").write_bytes(b"no MATLAB file")
    with pytest.raises(ValueError, match=r"x\.mat is not a MATLAB file"):
        read_difficulty(tmp_path / "x.mat")
    scipy_io.savemat(tmp_path / "y.mat", {"event_list": 1, "file_list": 2, "ignore_list": 3})
    with pytest.raises(ValueError, match=r"y\.mat must have the field 'gt_list', got event_list, file_list"):
        read_difficulty(tmp_path / "y.mat")
    write_mat(tmp_path / "z.mat", {"e": {"one": [0, 1]}})
    with pytest.raises(ValueError, match=r"z\.mat: gt_list of one must hold whole numbers from 1, got 0"):
        read_difficulty(tmp_path / "z.mat")


@pytest.fixture
def some_faces():
    rng = np.random.default_rng(3)
    corners = rng.uniform(-5, 300, (7, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 90, (7, 2))], axis=1).astype(np.float32)
    return {"0--Parade/a": Faces(boxes, np.linspace(0.999, 0.001, 7, dtype=np.float32)), "0--Parade/b": Faces.none()}


def test_prediction_files_of_both_tools_are_read_as_they_were_written(tmp_path, some_faces):
    write_darkface_predictions(tmp_path / "dark", some_faces)
    write_wider_predictions(tmp_path / "wider", some_faces)
    dark, wider = read_darkface_predictions(tmp_path / "dark"), read_wider_predictions(tmp_path / "wider")
    assert dark.keys() == wider.keys() == some_faces.keys()
    for name, faces in some_faces.items():
        np.testing.assert_array_equal(dark[name].boxes, faces.boxes)
        np.testing.assert_array_equal(dark[name].scores, faces.scores)
        np.testing.assert_allclose(wider[name].boxes, faces.boxes, atol=1e-4)
        np.testing.assert_array_equal(wider[name].scores, faces.scores)
    lines = (tmp_path / "wider" / "0--Parade" / "a.txt").read_text().splitlines()
    assert lines[:2] == ["a", "7"]
    x1, y1, x2, y2 = some_faces["0--Parade/a"].boxes[0].astype(float)
    np.testing.assert_allclose([float(v) for v in lines[2].split()], [x1, y1, x2 - x1, y2 - y1, 0.999], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n2\n1 2 3 4 0.5\n", r"a\.txt:2: the number of faces is 2, but 1 lines follow"),
        ("b\n0\n", r"a\.txt:1: the picture must be 'a', .* got 'b'"),
        ("a\n1\n1 2 -3 4 0.5\n", r"a\.txt:3: width and height must not be negative"),
        ("a\n1\n1 2 3 4\n", r"a\.txt:3: expected 5 values"),
        ("a\n", r"a\.txt: expected the picture's name"),
        ("a\nx\n", r"a\.txt:2: number of faces must be a whole number, got 'x'"),
    ],
)
def test_bad_prediction_files_are_named(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_wider_predictions(tmp_path)
    (tmp_path / "a.txt").write_text("1 2 3 x 0.5\n")
    with pytest.raises(ValueError, match=r"a\.txt:1: y2 must be a number, got 'x'"):
        read_darkface_predictions(tmp_path)
