"""``CocoScores`` equals pycocotools, weighted or not; errors name the bad entry and field of an annotation file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import read_detections, read_truth
from tests.support.made_detections import made_scene, pycocotools_eval, pycocotools_stats, repeated

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_values_equal_pycocotools_to_the_last_digit(seed, images, classes, distinct):
    truth, detections = made_scene(seed, images, classes, distinct=distinct)
    expected = pycocotools_stats(truth, detections)
    np.testing.assert_array_equal(list(CocoScores(truth, detections).values().values()), expected)


def test_ap50_and_ap75_count_up_to_1000_detections_as_pycocotools_does():
    truth, detections = made_scene(5, images=2, classes=1, objects=30, found=1500, distinct=True)
    per_image = [sum(each["image_id"] == image["id"] for each in detections) for image in truth["images"]]
    assert max(per_image) > 1000
    expected = pycocotools_stats(truth, detections)
    assert expected[1] != pycocotools_eval(truth, detections, (1, 10, 100)).eval["precision"][0, :, 0, 0, 2].mean()
    np.testing.assert_array_equal(list(CocoScores(truth, detections).values().values()), expected)


def test_scores_without_detections_equal_pycocotools_and_without_objects_are_undefined():
    truth, detections = made_scene(0)
    np.testing.assert_array_equal(list(CocoScores(truth, []).values().values()), pycocotools_stats(truth, []))
    empty = CocoScores(truth | {"annotations": []}, detections).values()
    assert all(np.isnan(value) for value in empty.values())


@pytest.mark.further
@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_an_image_of_weight_n_counts_as_n_copies(seed, weights):
    truth, detections = made_scene(seed, images=4, distinct=True)
    copies, found = repeated(truth, detections, weights)
    expected = pycocotools_stats(copies, found) if copies["images"] else np.full(6, np.nan)
    values = CocoScores(truth, detections).values(np.array(weights))
    np.testing.assert_array_equal(list(values.values()), expected)


@pytest.mark.further
@settings(max_examples=4, deadline=None)
@given(seeds)
def test_scoring_many_weightings_at_once_equals_scoring_each_alone(seed):
    truth, detections = made_scene(seed, images=5)
    scores = CocoScores(truth, detections)
    weights = np.random.default_rng(seed).integers(0, 4, (34, 5)).astype(np.uint16)
    together = scores.values(weights)
    for b, row in enumerate(weights):
        np.testing.assert_array_equal([together[name][b] for name in scores.names], list(scores.values(row).values()))


def test_weights_of_one_change_nothing_and_images_are_in_the_order_of_ids():
    truth, detections = made_scene(7)
    truth["images"].reverse()
    scores = CocoScores(truth, detections)
    assert scores.image_ids == sorted(image["id"] for image in truth["images"])
    np.testing.assert_array_equal(list(scores.values(np.ones(4)).values()), list(scores.values().values()))


@pytest.mark.parametrize("weights", [np.ones(3), np.ones((2, 3)), np.ones((1, 1, 4)), [1, 1, 1, -1], [1, 0.5, 1, 1]])
def test_bad_weights_are_refused(weights):
    scores = CocoScores(*made_scene(1))
    with pytest.raises(ValueError, match="weights"):
        scores.values(np.asarray(weights))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_classes_and_curves_equal_pycocotools(seed):
    truth, detections = made_scene(seed, images=5)
    scores = CocoScores(truth, detections)
    precision = pycocotools_eval(truth, detections).eval["precision"]
    precision = np.where(precision < 0, np.nan, precision)
    by_class = scores.by_class()
    assert list(by_class) == ["class 1", "class 2", "class 3"]
    np.testing.assert_allclose(list(by_class.values()), precision[..., 0, 0].mean(axis=(0, 1)), rtol=1e-12)
    for i, iou in enumerate((0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)):
        curves = scores.precision_recall(iou)
        np.testing.assert_array_equal(np.stack(list(curves.values()), axis=1), precision[i, :, :, 0, 2])
    with pytest.raises(ValueError, match=r"iou is 0\.51"):
        scores.precision_recall(0.51)


def test_an_annotation_with_id_0_counts():
    truth, detections = made_scene(3)
    expected = CocoScores(truth, detections).values()
    for each in truth["annotations"]:
        each["id"] -= 1
    np.testing.assert_array_equal(list(CocoScores(truth, detections).values().values()), list(expected.values()))


def test_annotations_and_results_are_read_from_files(tmp_path):
    truth, detections = made_scene(2)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    (tmp_path / "none.json").write_text("[]")
    assert read_truth(tmp_path / "truth.json") == truth
    assert read_detections(tmp_path / "found.json", truth) == detections
    assert read_detections(tmp_path / "none.json", truth) == []
    with pytest.raises(FileNotFoundError):
        read_truth(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("[1,")
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_detections(tmp_path / "bad.json", truth)


def _with(entry, **fields):
    entry = {**entry, **fields}
    return {name: value for name, value in entry.items() if value is not ...}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("annotations", {"bbox": ...}, r"annotations\[1\] has no field 'bbox'"),
        ("annotations", {"area": ...}, r"annotations\[1\] has no field 'area'"),
        ("annotations", {"area": -1}, r"annotations\[1\]: area -1"),
        ("annotations", {"area": "big"}, r"annotations\[1\]: area 'big' is not numeric"),
        ("annotations", {"id": 1}, r"annotations\[1\]: id 1 stands at \[0\] already"),
        ("annotations", {"id": [1]}, r"annotations\[1\]: id \[1\] is neither"),
        ("annotations", {"image_id": 77}, r"annotations\[1\]: image_id 77 is not in the annotation file"),
        ("annotations", {"category_id": None}, r"annotations\[1\]: category_id None is not in the annotation file"),
        ("annotations", {"bbox": [1, 2, -3, 4]}, r"annotations\[1\]: bbox \[1, 2, -3, 4\].*no negative size"),
        ("annotations", {"bbox": [1, 2, 3]}, r"annotations\[1\]: bbox \[1, 2, 3\], expected \[left"),
        ("annotations", {"bbox": [1, 2, 3, "4 px"]}, r"annotations\[1\]: bbox .* is not numeric"),
        ("images", {"id": 3}, r"images\[1\]: id 3 stands at \[0\] already"),
        ("images", {"id": "b"}, r"images\[1\]: id 'b': some are"),
        ("categories", {"name": "class 1"}, r"categories\[1\]: name 'class 1' stands at \[0\] already"),
    ],
)
def test_a_bad_annotation_file_is_named_with_entry_and_field(tmp_path, kind, fields, message):
    truth, _ = made_scene(2)
    truth[kind][1] = _with(truth[kind][1], **fields)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=rf"truth\.json: {message}"):
        read_truth(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": ...}, "has no field 'score'"),
        ({"score": float("nan")}, "score nan, expected finite"),
        ({"bbox": [0, 0, float("inf"), 1]}, "bbox .*inf.*, expected finite"),
        ({"bbox": [0, 0, 1, -0.5]}, "bbox .*no negative size"),
        ({"image_id": 0}, "image_id 0 is not in the annotation file"),
        ({"category_id": [1]}, r"category_id \[1\] is not in the annotation file"),
    ],
)
def test_bad_detections_are_named_with_entry_and_field(tmp_path, fields, message):
    truth, detections = made_scene(2)
    detections[2] = _with(detections[2], **fields)
    (tmp_path / "found.json").write_text(json.dumps(detections))
    with pytest.raises(ValueError, match=rf"found\.json\[2\]:? {message}"):
        read_detections(tmp_path / "found.json", truth)


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "'images' is nothing"), ([], "holds a list"), ({"images": [], "categories": {}}, "'categories' is a dict")],
)
def test_files_of_another_format_are_refused(tmp_path, content, message):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_truth(tmp_path / "truth.json")
    (tmp_path / "found.json").write_text("{}")
    with pytest.raises(ValueError, match="expected COCO results: a list"):
        read_detections(tmp_path / "found.json", made_scene(2)[0])
