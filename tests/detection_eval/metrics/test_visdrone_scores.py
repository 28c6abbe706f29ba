"""``VisDroneScores`` follows the rules of the official program, and equals pycocotools where the rules agree."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

from PIL import Image

from detection_eval.metrics.visdrone import VisDroneScores, covered_share
from llie_preproc.class_names import match_classes
from tests.support.made_detections import VISDRONE, made_scene, pycocotools_eval, repeated, with_rows

SIZE = (100, 100)
seeds = st.integers(0, 2**32 - 1)


def truth_of(*images, size=SIZE):
    """Annotations of images; each image is a list of rows ``(left, top, width, height, score, category)``."""
    return {
        "images": [
            dict(id=i, width=size[0], height=size[1], visdrone_rows=[[*row, 0, 0] for row in rows])
            for i, rows in enumerate(images)
        ],
        "categories": [dict(id=k, name=name) for k, name in enumerate(VISDRONE, 1)],
        "annotations": [],
    }


def found(image, box, category=1, score=0.9):
    return dict(image_id=image, category_id=category, bbox=list(box), score=score)


@pytest.mark.parametrize(("left", "share"), [(14, 0.5), (15, 0.6), (16, 0.7), (13, 0.4)])
def test_the_covered_share_of_a_box_is_its_part_in_the_region(left, share):
    box, region = np.array([[left, 25, 10, 10]]), np.array([[20, 20, 40, 40]])
    assert covered_share(box, region, SIZE) == pytest.approx([share], abs=1e-15)


def test_the_covered_share_counts_no_pixel_outside_the_frame():
    everything = np.array([[1, 1, 100, 100]])
    assert covered_share(np.array([[90, 90, 20, 20]]), everything, SIZE).tolist() == [0.25]
    assert covered_share(np.array([[300, 20, 5, 5]]), everything, SIZE).tolist() == [0]
    # Halves are rounded away from zero, 2.5 to 3; values below 1 become 1.
    assert covered_share(np.array([[0, -7, 2.5, 0]]), np.array([[1, 1, 2, 2]]), SIZE) == pytest.approx([2 / 3])


@pytest.mark.further
@settings(max_examples=50, deadline=None)
@given(seeds)
def test_the_covered_share_equals_a_count_of_pixels(seed):
    rng = np.random.default_rng(seed)
    boxes, regions = rng.integers(-5, 60, (20, 4)), rng.integers(-5, 60, (3, 4))
    boxes[:, 2:], regions[:, 2:] = abs(boxes[:, 2:]), abs(regions[:, 2:])
    expected = []
    for x, y, w, h in np.maximum(boxes, 1):
        pixels = [(r, c) for r in range(y + 1, min(y + h, 50) + 1) for c in range(x + 1, min(x + w, 40) + 1)]
        inside = [any(q <= r <= q + v and p <= c <= p + u for p, q, u, v in np.maximum(regions, 1)) for r, c in pixels]
        expected.append(sum(inside) / (w * h))
    np.testing.assert_allclose(covered_share(boxes, regions, (40, 50)), expected, atol=1e-15)


def test_half_covered_objects_and_detections_are_dropped():
    region, beside, free = (20, 20, 40, 40, 0, 0), (14, 25, 10, 10, 1, 1), (80, 80, 10, 10, 1, 1)
    only_free = VisDroneScores(truth_of([region, beside, free]), [found(0, free[:4])]).values()
    assert (only_free["AP"], only_free["AR1"]) == (1, 1)
    # A dropped detection does not count towards the limit of AR1.
    both = VisDroneScores(truth_of([region, free]), [found(0, beside[:4], score=1), found(0, free[:4])]).values()
    assert (both["AP"], both["AR1"]) == (1, 1)
    # Without a region nothing is dropped.
    assert VisDroneScores(truth_of([beside, free]), [found(0, free[:4])]).values()["AP"] == 0.5


def test_limits_take_the_first_lines_of_a_file_whatever_their_scores():
    box, far = (10, 10, 20, 20), (60, 60, 20, 20)
    truth = truth_of([(*box, 1, 1), (*far, 1, 4)])
    detections = [found(0, box, 1, 0.2), found(0, far, 4, 0.9)]
    for order, recall in ((detections, (1.0, 0.0)), (detections[::-1], (0.0, 1.0))):
        scores = VisDroneScores(truth, order)
        # AR1 is the mean over two classes, and the first line finds an object of one class.
        assert scores.values()["AR1"] == np.mean(recall)
        assert scores.values()["AR10"] == 1
    filler = [found(0, (40, 5, 5, 5), 9, 0.1)]
    assert VisDroneScores(truth, filler + detections).values()["AR1"] == 0
    assert VisDroneScores(truth, filler + detections, mode="coco").values()["AR1"] == 0.5


@pytest.mark.parametrize("mode", ["toolkit", "coco"])
def test_at_most_500_detections_of_an_image_count(mode):
    box = (10, 10, 20, 20)
    others = [found(0, (60, 60, 5, 5), 2, 0.9)] * 499
    last = found(0, box, 1, 0.5)
    assert VisDroneScores(truth_of([(*box, 1, 1)]), [*others, last], mode=mode).values()["AP"] == pytest.approx(1)
    assert VisDroneScores(truth_of([(*box, 1, 1)]), [*others, others[0], last], mode=mode).values()["AP"] == 0


def test_classes_are_weighted_by_their_number_of_images():
    """Class 1 is in 548 images and half of it is found; class 2 is in 40, and a tenth is: the mean is .473, not .3."""
    images, detections = [], []
    for i in range(548):
        rows = [(10, 10, 20, 20, 1, 1), (40, 10, 20, 20, 1, 1)]
        detections.append(found(i, rows[0][:4], 1))
        if i < 40:
            rows.append((70, 70, 20, 20, 1, 2))
            detections += [found(i, rows[2][:4], 2)] * (i < 4)
        images.append(rows)
    truth = truth_of(*images)
    assert VisDroneScores(truth, detections).values()["AP"] == pytest.approx((548 * 0.5 + 40 * 0.1) / 588)
    assert VisDroneScores(truth, detections).values()["AP"] == pytest.approx(0.473, abs=5e-4)
    recall = VisDroneScores(truth, detections, mode="coco").values()["AR500"]
    assert recall == pytest.approx(0.3)


@pytest.mark.parametrize("mode", ["toolkit", "coco"])
def test_a_detection_of_an_object_of_class_others_is_false(mode):
    car, other = (10, 10, 20, 20), (60, 60, 20, 20)
    truth = truth_of([(*car, 1, 4), (*other, 1, 11)])
    alone = [found(0, car, 4, 0.5)]
    assert VisDroneScores(truth, alone, mode=mode).values()["AP"] == pytest.approx(1)
    assert VisDroneScores(truth, [found(0, other, 4, 0.9), *alone], mode=mode).values()["AP"] == pytest.approx(0.5)


def test_an_ignored_object_absorbs_detections_and_counts_as_not_found():
    group, car = (10, 10, 40, 40), (60, 60, 20, 20)
    truth = truth_of([(*group, 0, 4), (*car, 1, 4)])
    parts = [found(0, (10 + 10 * i, 10, 10, 10), 4, 0.9) for i in range(4)]
    scores = VisDroneScores(truth, [*parts, found(0, car, 4, 0.5)])
    # No detection is a false positive, but one of two objects cannot be found.
    assert scores.values() == {"AP": 0.5, "AP50": 0.5, "AP75": 0.5, "AR1": 0, "AR10": 0.5, "AR100": 0.5, "AR500": 0.5}
    coco = VisDroneScores(truth, [*parts, found(0, car, 4, 0.5)], mode="coco").values()
    assert (coco["AP"], coco["AR500"]) == (pytest.approx(1), 1)
    only_ignored = truth_of([(*group, 0, 4)])
    assert VisDroneScores(only_ignored, parts).values()["AP"] == 0
    assert np.isnan(VisDroneScores(only_ignored, parts, mode="coco").values()["AP"])


def test_ap_is_the_area_under_all_points_of_the_curve():
    """Detections are right, wrong, right: precision is 1 up to recall 1/2, then 2/3. COCO has 51 of 101 points at 1."""
    boxes = [(10, 10, 20, 20), (60, 10, 20, 20)]
    truth = truth_of([(*box, 1, 1) for box in boxes])
    detections = [found(0, boxes[0], 1, 0.9), found(0, (10, 60, 20, 20), 1, 0.8), found(0, boxes[1], 1, 0.7)]
    assert VisDroneScores(truth, detections).values()["AP50"] == pytest.approx(1 / 2 + 1 / 3)
    coco = VisDroneScores(truth, detections, mode="coco").values()["AP50"]
    assert coco == pytest.approx((51 + 50 * 2 / 3) / 101)


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_mode_coco_without_regions_equals_pycocotools(seed, distinct):
    truth, detections = made_scene(seed, images=5, classes=10, objects=20, found=40, crowd=0.2, distinct=distinct)
    scores = VisDroneScores(with_rows(truth), detections, mode="coco").values()
    evaluation = pycocotools_eval(truth, detections, limits=(500, 500, 500))
    precision = np.where(evaluation.eval["precision"] < 0, np.nan, evaluation.eval["precision"])[..., 0, 2]
    recall = np.where(evaluation.eval["recall"] < 0, np.nan, evaluation.eval["recall"])[..., 0, 2]
    expected = [np.nanmean(part) for part in (precision, precision[0], precision[5], recall)]
    values = [scores[name] for name in ("AP", "AP50", "AP75", "AR500")]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-15)


def pycocotools_areas(truth, detections):
    """Areas ``(10, classes)`` under all points of a curve, from pycocotools' precision at every recall that occurs."""
    counts = [sum(each["category_id"] == c["id"] for each in truth["annotations"]) for c in truth["categories"]]
    areas = np.full((10, len(counts)), np.nan)
    for k, count in enumerate(counts):
        if count:
            params = dict(recThrs=np.arange(1, count + 1) / count, catIds=[k + 1])
            precision = pycocotools_eval(truth, detections, (500, 500, 500), **params).eval["precision"]
            areas[:, k] = precision[:, :, 0, 0, 2].mean(axis=1)
    return areas


@pytest.mark.further
@settings(max_examples=15, deadline=None)
@given(seeds)
def test_mode_toolkit_without_regions_equals_the_area_of_pycocotools_curve(seed):
    truth, detections = made_scene(seed, images=4, classes=10, objects=25, crowd=0)
    detections.sort(key=lambda each: -each["score"])
    scores = VisDroneScores(with_rows(truth), detections)
    areas = pycocotools_areas(truth, detections)
    images = [
        len({a["image_id"] for a in truth["annotations"] if a["category_id"] == c["id"]}) for c in truth["categories"]
    ]
    there = np.array(images) > 0
    for name, table in (("AP", areas.mean(axis=0)), ("AP50", areas[0]), ("AP75", areas[5])):
        expected = np.average(table[there], weights=np.array(images)[there]) if there.any() else np.nan
        assert scores.values()[name] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.examples(1)
@pytest.mark.parametrize("mode", ["toolkit", "coco"])
@settings(max_examples=20, deadline=None)
@given(seed=seeds, weights=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_an_image_of_weight_n_counts_as_n_copies(mode, seed, weights):
    truth, detections = made_scene(seed, images=4, classes=10, distinct=True)
    truth = with_rows(truth)
    truth["images"][0]["visdrone_rows"].append([20, 20, 90, 90, 0, 0, 0, 0])
    copies, copied = repeated(truth, detections, weights)
    expected = VisDroneScores(copies, copied, mode).values()
    scores = VisDroneScores(truth, detections, mode)
    values, many = scores.values(np.array(weights)), scores.values(np.array([weights, [1, 1, 1, 1]]))
    for name in scores.names:
        assert values[name] == pytest.approx(expected[name], abs=1e-12, nan_ok=True)
        assert many[name][0] == pytest.approx(values[name], abs=1e-12, nan_ok=True)


@pytest.fixture
def texts(tmp_path):
    for folder in ("annotations", "detections", "images"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "annotations" / "a.txt").write_text(
        "20,20,40,40,0,0,0,0,\n14,25,10,10,1,1,0,0\n80,80,10,10,1,4,0,1,\n\n"
    )
    (tmp_path / "annotations" / "b.txt").write_text("60,60,20,20,1,11,0,0\n")
    (tmp_path / "detections" / "a.txt").write_text("80.0,80,10,10,0.9,4,-1,-1\n15,25,10,10,.95,1,-1,-1\n")
    (tmp_path / "detections" / "b.txt").write_text("60,60,20,20,0.99,4,-1,-1\n1,1,5,5,0.3,11,-1,-1\n")
    return tmp_path


def test_text_files_of_the_toolkit_are_scored(texts):
    folders = texts / "annotations", texts / "detections"
    scores = VisDroneScores.from_text(*folders, texts / "images")
    assert scores.image_ids == ["a", "b"]
    assert scores.values() == VisDroneScores.from_text(*folders, {"a": SIZE, "b": SIZE}).values()
    # In a.txt only the car is left, and it is found. In b.txt "others" is detected as a car, with a higher score.
    assert (scores.values()["AP"], scores.values()["AR1"]) == (0.5, 1)
    assert scores.values(np.array([1, 0]))["AP"] == 1
    rows = [[[20, 20, 40, 40, 0, 0], [14, 25, 10, 10, 1, 1], [80, 80, 10, 10, 1, 4]], [[60, 60, 20, 20, 1, 11]]]
    detections = [found(0, (80, 80, 10, 10), 4), found(0, (15, 25, 10, 10), 1), found(1, (60, 60, 20, 20), 4, 0.99)]
    assert VisDroneScores(truth_of(*rows), detections).values() == scores.values()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("annotations/a.txt", "1,2,3,4,1,1,0,0\n1,2,3,4,1", r"a\.txt:2: expected at least 6 values .* got 5"),
        ("annotations/b.txt", "\n1,2,-3,4,1,1,0,0", r"b\.txt:2: width and height must not be negative"),
        ("detections/a.txt", "1,2,3,x,1,1,-1,-1", r"a\.txt:1: could not convert"),
        ("detections/a.txt", "1,2,3,nan,1,1,-1,-1", r"a\.txt:1: values must be finite"),
        ("detections/b.txt", "1,2,3,4,1,12,-1,-1", r"b\.txt:1: category must be from 0 to 11, got 12"),
    ],
)
def test_a_bad_line_is_named(texts, file, text, message):
    (texts / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        VisDroneScores.from_text(texts / "annotations", texts / "detections", texts / "images")


def test_two_pictures_of_one_name_are_refused(texts):
    (texts / "images" / "more").mkdir()
    picture = next(path for path in (texts / "images").iterdir() if path.stem == "a")
    shutil.copy(picture, texts / "images" / "more" / picture.name)
    with pytest.raises(ValueError, match=r"have the same name: rename one, because .*a\.txt"):
        VisDroneScores.from_text(texts / "annotations", texts / "detections", texts / "images")


def test_missing_files_are_named(texts):
    with pytest.raises(FileNotFoundError, match="no annotations"):
        VisDroneScores.from_text(texts / "images", texts / "detections", texts / "images")
    with pytest.raises(FileNotFoundError, match=r"b\.txt has no picture"):
        VisDroneScores.from_text(texts / "annotations", texts / "detections", {"a": SIZE})
    (texts / "detections" / "b.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        VisDroneScores.from_text(texts / "annotations", texts / "detections", texts / "images")


def test_bad_input_is_refused():
    truth = truth_of([(1, 1, 5, 5, 1, 1)])
    with pytest.raises(ValueError, match="mode must be one of toolkit, coco, got 'plain'"):
        VisDroneScores(truth, [], mode="plain")
    with pytest.raises(ValueError, match="'cars' are none of VisDrone's"):
        VisDroneScores(truth | {"categories": [*truth["categories"], {"id": 11, "name": "cars"}]}, [])
    with pytest.raises(ValueError, match=r"detections\[0\]: category_id 12 is not in the annotation file"):
        VisDroneScores(truth, [found(0, (1, 1, 5, 5), 12)])
    with pytest.raises(ValueError, match=r"visdrone_rows\[0\]: expected at least 6 values .* got 2"):
        VisDroneScores({**truth, "images": [truth["images"][0] | {"visdrone_rows": [[1, 2]]}]}, [])
    with pytest.raises(ValueError, match="width and height must be whole numbers"):
        VisDroneScores({**truth, "images": [truth["images"][0] | {"width": None}]}, [])
    del truth["images"][0]["visdrone_rows"]
    with pytest.raises(ValueError, match="llie annotations visdrone"):
        VisDroneScores(truth, [])


def test_scores_are_zero_without_detections_and_undefined_without_objects():
    truth = truth_of([(1, 1, 5, 5, 1, 1)])
    assert set(VisDroneScores(truth, []).values().values()) == {0.0}
    assert all(np.isnan(value) for value in VisDroneScores(truth_of([]), []).values().values())


@pytest.mark.examples(5)
@pytest.mark.parametrize("mode", ["toolkit", "coco"])
@settings(max_examples=20, deadline=None)
@given(seeds)
def test_merging_and_leaving_out_classes_equals_relabelling_rows(mode, seed):
    truth, detections = made_scene(seed, images=4, classes=10, objects=12, found=20)
    with_rows(truth)
    # Pedestrian (1) and people (2) count as one class, and van (5) as "others" (11).
    new = {2: 1, 5: 11}
    by_hand = dict(truth, images=[])
    for image in truth["images"]:
        rows = [[*row[:5], new.get(row[5], row[5]), *row[6:]] for row in image["visdrone_rows"]]
        by_hand["images"].append(dict(image, visdrone_rows=rows))
    relabelled = [dict(each, category_id=new.get(each["category_id"], each["category_id"])) for each in detections]
    relabelled = [each for each in relabelled if each["category_id"] != 11]

    detector = ["person", *(name for name in VISDRONE if name not in ("pedestrian", "people", "van"))]
    match = match_classes(detector, VISDRONE, "set.json")
    named = [dict(id=at, name=name) for at, name in enumerate(detector)]
    of_detector = {VISDRONE.index(name) + 1: at for at, name in enumerate(detector[1:], 1)} | {1: 0}
    measured = match.truth(truth)
    own = match.detections(
        [dict(each, category_id=of_detector[each["category_id"]]) for each in relabelled], named, measured
    )
    scores, expected = VisDroneScores(measured, own, mode), VisDroneScores(by_hand, relabelled, mode)
    assert scores.values() == pytest.approx(expected.values(), nan_ok=True)


def test_another_programs_key_merged_changes_nothing():
    truth = truth_of([(10, 10, 20, 20, 1, 4), (50, 50, 20, 20, 1, 5)])
    detections = [found(0, (10, 10, 20, 20), 4), found(0, (50, 50, 20, 20), 4)]
    expected = VisDroneScores(truth, detections).values()
    truth["categories"][3]["merged"] = ["car", "van"]
    assert VisDroneScores(truth, detections).values() == expected


@pytest.mark.parametrize("mode", ["toolkit", "coco"])
def test_the_order_of_merged_classes_changes_no_score(mode):
    rows = [(10, 10, 20, 20, 1, 4), (50, 50, 20, 20, 1, 11), (80, 10, 10, 10, 1, 5), (0, 60, 20, 20, 0, 0)]
    truth = truth_of(rows)
    truth["categories"] += [dict(id=11, name="others"), dict(id=12, name="ignored regions")]
    detections = [found(0, row[:4], 1, score) for row, score in zip(rows, (0.9, 0.8, 0.7, 0.6), strict=True)]
    seen = []
    for order in ([3, 4, 10], [10, 3, 4], [10, 4, 3], [4, 10, 3]):
        kinds = [truth["categories"][at] for at in order]
        match = match_classes(["vehicle"], [each["name"] for each in kinds], "s", {"vehicle": ["car", "van", "others"]})
        measured = match.truth(dict(truth, categories=kinds))
        own = match.detections(detections, [dict(id=1, name="vehicle")], measured)
        seen.append(VisDroneScores(measured, own, mode).values())
    # Cars, vans and others are one class, each of whose three objects is found.
    assert seen[0]["AP"] == pytest.approx(1)
    assert all(each == seen[0] for each in seen)


def test_a_class_that_is_merged_again_is_scored_as_all_its_classes():
    truth = truth_of([(10, 10, 20, 20, 1, 4), (50, 50, 20, 20, 1, 5), (80, 10, 10, 10, 1, 9)])
    once = match_classes(["car"], VISDRONE, "s", {"car": ["car", "van"]}).truth(truth)
    again = match_classes(["car", "bus"], VISDRONE, "s", {"car": ["car", "van"]}).truth(truth)
    again = match_classes(["vehicle"], ["car", "bus"], "s", {"vehicle": ["bus", "car"]}).truth(again)
    detections = [found(0, row[:4], 4) for row in truth["images"][0]["visdrone_rows"]]
    assert VisDroneScores(again, detections).values()["AR500"] == pytest.approx(1)
    assert VisDroneScores(again, detections).values()["AP"] == pytest.approx(1)
    assert VisDroneScores(once, detections[:2]).values()["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([dict(id=1, name="car", llie_merged=["car", "tram"])], "'tram' are none of VisDrone's"),
        (
            [dict(id=1, name="car", llie_merged=[])],
            r"'car' has llie_merged \[\], expected a list of names",
        ),
        ([dict(id=1, name="car", llie_merged="car")], "llie_merged 'car', expected a list of names"),
        ([dict(id=1, name="car", llie_merged=[["van"]])], "expected a list of names"),
        ([dict(id=1, name="x", llie_merged=["car", "van"]), dict(id=2, name="van")], "objects of the class 'van'"),
        ([dict(id=1, name="x", llie_merged=["car", "ignored regions"])], "'x' joins ignored regions with objects"),
    ],
)
def test_merged_classes_that_cannot_be_scored_are_refused(categories, message):
    with pytest.raises(ValueError, match=message):
        VisDroneScores(dict(truth_of([(1, 1, 5, 5, 1, 4)]), categories=categories), [])
