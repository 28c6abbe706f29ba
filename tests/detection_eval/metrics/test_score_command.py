"""``llie score`` and the registered metrics of detections give the values of ``CocoScores`` and ``VisDroneScores``."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from tests.support.programs import hiding

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch

from detection_eval.metrics.bootstrap import differences, intervals
from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.visdrone import VisDroneScores
from llie_preproc.commands.llie import main
from llie_preproc.registry import METRICS
from tests.support.made_detections import made_scene, pycocotools_eval, pycocotools_stats, with_rows


@pytest.fixture
def files(tmp_path):
    """A folder with a file of annotations and two files of detections, and the contents of the three files."""
    truth, detections = made_scene(11, images=8, classes=10, objects=20, found=40, distinct=True)
    with_rows(truth)
    detections.sort(key=lambda each: -each["score"])
    fewer = detections[::2]
    for name, content in (("truth", truth), ("found", detections), ("fewer", fewer)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path, truth, detections, fewer


def numbers(text, name):
    """The decimal numbers of the line that starts with ``name``."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
    return [float(each) for each in re.findall(r"(?<![\w.])[-+]?\d+\.\d+", line[len(name) :])]


def percent(interval):
    return [100 * interval.value, 100 * interval.low, 100 * interval.high]


def test_scores_and_paired_differences_are_printed(files, capsys):
    folder, truth, detections, fewer = files
    paths = [str(folder / f"{name}.json") for name in ("truth", "found", "fewer")]
    asked = ["--metrics", "coco", "visdrone", "--resamples", "60", "--bootstrap-seed", "4", "--by-class"]
    assert main(["score", *paths[:2], "--against", paths[2], *asked]) == 0
    text = capsys.readouterr().out
    assert f"8 images, {len(truth['annotations'])} annotations, {len(detections)} detections" in text
    of_coco, of_visdrone = text.split("\nvisdrone ")
    for kind, part in ((CocoScores, of_coco), (VisDroneScores, of_visdrone)):
        own, other = [kind(truth, detections)], [kind(truth, fewer)]
        for name in ("AP", "AP50", "AP75"):
            expected = [
                *percent(intervals(own, 60, 4)[name]),
                *percent(intervals(other, 60, 4)[name]),
                *percent(differences(other, own, 60, 4)[name]),
            ]
            assert numbers(part, name) == pytest.approx(expected, abs=0.00501)
    assert numbers(of_coco, "AP")[0] == pytest.approx(100 * pycocotools_stats(truth, detections)[0], abs=0.00501)
    per_class = pycocotools_eval(truth, detections).eval["precision"][:, :, 3, 0, 0].mean()
    assert numbers(of_coco, "car")[0] == pytest.approx(100 * per_class, abs=0.00501)


def test_boxes_in_another_unit_or_form_get_a_warning(files, capsys):
    folder, truth, detections, _ = files
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}

    def fractions(each):
        (x, y, w, h), (width, height) = each["bbox"], sizes[each["image_id"]]
        x, y = max(x, 0), max(y, 0)
        place = [x / width, y / height, min(w, width - x) / width, min(h, height - y) / height]
        return {**each, "bbox": [max(n, 0) for n in place]}

    def corners(each):
        (x, y, w, h), (width, height) = each["bbox"], sizes[each["image_id"]]
        return {**each, "bbox": [max(x, 0), max(y, 0), min(max(x, 0) + w, width), min(max(y, 0) + h, height)]}

    far = [{**each, "bbox": [150, 100, 140, 90]} for each in detections]
    changed = {
        "plain": (truth, detections, None),
        "fractions": (truth, [fractions(each) for each in detections], "every detected box lies within [0, 1]"),
        "truth": (
            truth | {"annotations": [fractions(each) for each in truth["annotations"]]},
            detections,
            "every annotated box lies within [0, 1]",
        ),
        "corners": (truth, [corners(each) for each in far], "these look like x1, y1, x2, y2"),
    }
    for name, (boxes, found, hint) in changed.items():
        (folder / "t.json").write_text(json.dumps(boxes))
        (folder / "f.json").write_text(json.dumps(found))
        assert main(["score", str(folder / "t.json"), str(folder / "f.json"), "--resamples", "0"]) == 0
        err = capsys.readouterr().err
        assert (err == "") if hint is None else (err.startswith("warning: ") and hint in err), name


def test_no_intervals_are_printed_without_resamples(files, capsys):
    folder = files[0]
    assert main(["score", str(folder / "truth.json"), str(folder / "found.json"), "--resamples", "0"]) == 0
    text = capsys.readouterr().out
    assert "[" not in text
    assert len(numbers(text, "AP")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["truth.json", "absent.json"], "absent.json"),
        (["found.json", "found.json"], "found.json holds a list, expected COCO annotations"),
        (["truth.json", "truth.json"], "expected COCO results: a list"),
        (["truth.json", "found.json", "--metrics", "visdrone", "--by-class"], "--by-class needs the metric coco"),
        (["truth.json", "found.json", "--resamples", "-2"], "resamples -2"),
        (["plain.json", "found.json", "--metrics", "visdrone"], "llie annotations visdrone"),
    ],
)
def test_errors_are_one_line(files, capsys, arguments, message):
    folder, truth, _, _ = files
    for image in truth["images"]:
        del image["visdrone_rows"]
    (folder / "plain.json").write_text(json.dumps(truth))
    assert main(["score", *(str(folder / each) if each.endswith(".json") else each for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert re.match(r"llie: error: .*\n\Z", error)
    assert message in error


def evaluated(metric, truth, detections):
    """Values that a metric of MMEngine computes from data samples with the detections."""
    metric.dataset_meta = {"classes": tuple(each["name"] for each in truth["categories"])}
    for image in truth["images"]:
        own = [each for each in detections if each["image_id"] == image["id"]]
        box = torch.tensor([each["bbox"] for each in own], dtype=torch.float64).reshape(-1, 4)
        box[:, 2:] += box[:, :2]
        found = dict(
            bboxes=box,
            scores=torch.tensor([each["score"] for each in own], dtype=torch.float64),
            labels=torch.tensor([each["category_id"] - 1 for each in own], dtype=torch.int64),
        )
        sample = dict(img_id=image["id"], ori_shape=(image["height"], image["width"]), pred_instances=found)
        metric.process({}, [sample])
    return metric.evaluate(len(truth["images"]))


def test_coco_interval_metric_adds_bounds_to_the_plain_values(files):
    folder, truth, detections, _ = files
    ann_file = str(folder / "truth.json")
    plain = evaluated(METRICS.build(dict(type="mmdet.CocoMetric", ann_file=ann_file)), truth, detections)
    metric = METRICS.build(
        dict(type="llie_preproc.CocoIntervalMetric", ann_file=ann_file, resamples=40, resample_seed=2)
    )
    found = evaluated(metric, truth, detections)
    assert {name: found[name] for name in plain} == plain
    bounds = intervals([CocoScores(truth, detections)], 40, 2)
    for name, key in (("AP", "mAP"), ("AP50", "mAP_50"), ("APs", "mAP_s")):
        assert (found[f"coco/bbox_{key}_low"], found[f"coco/bbox_{key}_high"]) == (bounds[name].low, bounds[name].high)
    assert len(found) == 3 * len(plain)
    assert metric.outfile_prefix is None


def test_coco_interval_metric_accepts_no_detections_and_fewer_classes(files):
    folder, truth, detections, _ = files
    build = dict(type="llie_preproc.CocoIntervalMetric", ann_file=str(folder / "truth.json"), resamples=20)
    assert evaluated(METRICS.build(build), truth, []) == {}
    some = truth | {"categories": truth["categories"][:3]}
    kept = [each for each in detections if each["category_id"] <= 3]
    found = evaluated(METRICS.build(build), some, kept)
    of_some = some | {"annotations": [each for each in truth["annotations"] if each["category_id"] <= 3]}
    assert found["coco/bbox_mAP"] == round(CocoScores(of_some, kept).values()["AP"], 3)
    assert found["coco/bbox_mAP_low"] == intervals([CocoScores(of_some, kept)], 20)["AP"].low


@pytest.mark.parametrize("option", [{"metric": "segm"}, {"iou_thrs": [0.5]}, {"proposal_nums": (1, 10, 100)}])
def test_coco_interval_metric_refuses_options_without_an_interval(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be "):
        METRICS.build(dict(type="llie_preproc.CocoIntervalMetric", **option))


def test_visdrone_metric_scores_the_sorted_detections_that_it_writes(files):
    folder, truth, detections, _ = files
    shuffled = [detections[i] for i in np.random.default_rng(0).permutation(len(detections))]
    metric = METRICS.build(
        dict(
            type="llie_preproc.VisDroneMetric",
            ann_file=str(folder / "truth.json"),
            outfile_prefix=str(folder / "written"),
            resamples=30,
        )
    )
    found = evaluated(metric, truth, shuffled)
    written = json.loads((folder / "written.bbox.json").read_text())
    assert len(written) == len(detections)
    for mode in ("toolkit", "coco"):
        expected = intervals([VisDroneScores(truth, written, mode)], 30)
        for name, each in expected.items():
            values = [found[f"visdrone/{mode}_{name}{end}"] for end in ("", "_low", "_high")]
            assert values == pytest.approx([each.value, each.low, each.high], nan_ok=True)
    assert found["visdrone/coco_AP"] == pytest.approx(
        VisDroneScores(truth, detections, "coco").values()["AP"], abs=1e-12
    )
    for image in truth["images"]:
        scores = [each["score"] for each in written if each["image_id"] == image["id"]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("kind", ["CocoIntervalMetric", "VisDroneMetric", "NameMatchedCocoMetric"])
def test_metrics_match_classes_by_name(files, kind):
    folder, truth, detections, _ = files
    rng = np.random.default_rng(1)
    order, ids = rng.permutation(10), rng.choice(1000, 10, replace=False).tolist()
    new = {truth["categories"][at]["id"]: number for at, number in zip(order, ids, strict=True)}
    other = truth | {
        "categories": [{**truth["categories"][at], "id": number} for at, number in zip(order, ids, strict=True)],
        "annotations": [{**each, "category_id": new[each["category_id"]]} for each in truth["annotations"]],
    }
    (folder / "other.json").write_text(json.dumps(other))
    options = {} if kind == "NameMatchedCocoMetric" else {"resamples": 10}

    def built(name):
        return METRICS.build(dict(type=f"llie_preproc.{kind}", ann_file=str(folder / name), **options))

    same, changed = (evaluated(built(name), truth, detections) for name in ("truth.json", "other.json"))
    assert same == pytest.approx(changed, abs=1e-12, nan_ok=True)
    for category in other["categories"]:
        category["name"] = f"{category['name'].upper()} "
        category["name"] = {"MOTOR ": "motorbike", "BICYCLE ": "bike"}.get(category["name"], category["name"])
    (folder / "other.json").write_text(json.dumps(other))
    if kind != "VisDroneMetric":
        assert evaluated(built("other.json"), truth, detections) == pytest.approx(same, abs=1e-12, nan_ok=True)
    other["categories"][3]["name"] = "tram"
    (folder / "other.json").write_text(json.dumps(other))
    with (
        pytest.raises(ValueError, match="none of VisDrone's")
        if kind == "VisDroneMetric"
        else pytest.warns(UserWarning, match=r"which the detector does not know \(tram\)")
    ):
        evaluated(built("other.json"), truth, detections)


def _merged(truth, detections):
    """The scene with pedestrian and people as one class, as another program would write it."""
    rows = [dict(image, visdrone_rows=[_one(row, 5) for row in image["visdrone_rows"]]) for image in truth["images"]]
    boxes = [dict(each, category_id=max(each["category_id"], 2)) for each in truth["annotations"]]
    kinds = [each for each in truth["categories"] if each["id"] != 1]
    found = [dict(each, category_id=max(each["category_id"], 2)) for each in detections]
    return dict(truth, images=rows, annotations=boxes, categories=kinds), found


def _one(row, at):
    return [*row[:at], max(row[at], 2) if row[at] else 0, *row[at + 1 :]]


@pytest.mark.parametrize("kind", ["CocoIntervalMetric", "VisDroneMetric", "NameMatchedCocoMetric"])
@pytest.mark.parametrize("mapping", [None, {"person": ["pedestrian", "people"]}])
def test_metrics_merge_the_classes_of_the_set_that_are_one_for_the_detector(files, kind, mapping):
    folder, truth, detections, _ = files
    by_hand, found = _merged(truth, detections)
    (folder / "by_hand.json").write_text(json.dumps(by_hand))
    options = {} if kind == "NameMatchedCocoMetric" else {"resamples": 10}
    build = dict(type=f"llie_preproc.{kind}", **options)
    # A label is an index into the detector's classes: the set lacks the first one; the second is the merged class.
    lamp = dict(image_id=truth["images"][0]["id"], category_id=1, bbox=[5, 5, 90, 90], score=0.95)
    names = ["lamp", "people", *(each["name"] for each in truth["categories"][2:])]
    expected = evaluated(
        METRICS.build(dict(build, ann_file=str(folder / "by_hand.json"))),
        dict(truth, categories=[dict(id=at, name=name) for at, name in enumerate(names, 1)]),
        found,
    )
    names[1] = "person"
    detector = dict(truth, categories=[dict(id=at, name=name) for at, name in enumerate(names, 1)])
    metric = METRICS.build(dict(build, ann_file=str(folder / "truth.json"), classes=mapping))
    scores = evaluated(metric, detector, [*found, lamp])
    assert scores == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert evaluated(metric, detector, [*found, lamp]) == pytest.approx(scores, abs=1e-12, nan_ok=True)


def test_detections_of_a_detector_of_other_classes_are_scored_by_name(files, capsys):
    folder, truth, detections, _ = files
    by_hand, found = _merged(truth, detections)
    (folder / "by_hand.json").write_text(json.dumps(by_hand))
    (folder / "merged.json").write_text(json.dumps(found))
    assert main(["score", str(folder / "by_hand.json"), str(folder / "merged.json"), "--by-class"]) == 0
    expected = capsys.readouterr().out

    named = [dict(id=90 - at, name=each["name"]) for at, each in enumerate(truth["categories"][1:])]
    named[0]["name"] = "person"
    (folder / "detector.json").write_text(
        json.dumps(dict(images=[], annotations=[], categories=[*named, dict(id=91, name="lamp")]))
    )
    other = [dict(each, category_id=92 - each["category_id"]) for each in found]
    lamp = dict(image_id=truth["images"][0]["id"], category_id=91, bbox=[5, 5, 90, 90], score=0.95)
    (folder / "other.json").write_text(json.dumps([*other, lamp]))
    given = ["score", str(folder / "truth.json"), str(folder / "other.json"), "--by-class"]
    assert main([*given, "--categories", str(folder / "detector.json")]) == 0
    text, said = capsys.readouterr()
    assert text.replace("person", "people").split() == expected.split()
    assert "classes that count as one: person is pedestrian and people" in said
    assert "left out of the scores: 1 of the detector's 10 classes, which the set does not have (lamp)" in said
    assert main(given) == 2
    assert "category_id" in capsys.readouterr().err


def test_a_mapping_needs_the_names_of_the_detectors_classes(files, capsys):
    folder, *_ = files
    given = ["score", str(folder / "truth.json"), str(folder / "found.json"), "--resamples", "0"]
    assert main([*given, "--classes", "coco-visdrone"]) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), "--classes needs --categories FILE" in err) == (1, True)
    (folder / "own.json").write_text('{"car": ["car", "van"], "van": null}')
    mapped = ["--classes", str(folder / "own.json"), "--categories", str(folder / "truth.json")]
    assert main([*given, *mapped]) == 0
    assert "left out of the scores: 1 of the detector's 10 classes, which the mapping leaves out (van)" in (
        capsys.readouterr().err
    )


@pytest.mark.examples(3)
@pytest.mark.parametrize("kind", ["CocoIntervalMetric", "VisDroneMetric", "NameMatchedCocoMetric"])
@pytest.mark.parametrize("renamed", [lambda n: n - 1, lambda n: f"box {n}", lambda n: 5_000_000_000 - n])
def test_no_score_depends_on_the_ids_of_annotations(files, kind, renamed):
    folder, truth, detections, _ = files
    numbered = [{**each, "id": n} for n, each in enumerate(truth["annotations"], start=1)]
    options = {} if kind == "NameMatchedCocoMetric" else {"resamples": 10}

    def score(name, annotations):
        (folder / name).write_text(json.dumps(truth | {"annotations": annotations}))
        metric = METRICS.build(dict(type=f"llie_preproc.{kind}", ann_file=str(folder / name), **options))
        return evaluated(metric, truth, detections)

    same = score("numbered.json", numbered)
    changed = score("renamed.json", [{**each, "id": renamed(each["id"])} for each in numbered])
    assert same == pytest.approx(changed, abs=1e-12, nan_ok=True)


def test_visdrone_metric_computes_one_mode(files):
    folder, truth, detections, _ = files
    build = dict(type="llie_preproc.VisDroneMetric", ann_file=str(folder / "truth.json"), mode="toolkit")
    found = evaluated(METRICS.build(build), truth, detections)
    assert set(found) == {f"visdrone/toolkit_{name}" for name in VisDroneScores.names}
    assert not any(math.isnan(value) for value in found.values())
    with pytest.raises(ValueError, match="got 'plain'"):
        METRICS.build(build | {"mode": ("toolkit", "plain")})


def test_scores_can_be_imported_without_mmdetection(bare_programs):
    code = """
from detection_eval.metrics import CocoScores, VisDroneScores
from llie_preproc.registry import METRICS
print(METRICS.get("ImageQuality").__name__, CocoScores.names[0], VisDroneScores.names[-1])
METRICS.get("VisDroneMetric")
"""
    done = bare_programs.run("-c", hiding(["mmdet", "pycocotools"]) + code)
    assert done.stdout == "ImageQuality AP AR500\n"
    assert 'pip install "llie-preproc[mm]"' in done.stderr
