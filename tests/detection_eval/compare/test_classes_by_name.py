"""Annotated classes are matched to the detector's by name, so the order and the ids in a file change no score."""

import itertools
import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")


import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from detection_eval.compare.comparison_store import Comparison
from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import check_truth, detection_boxes
from detection_eval.metrics.visdrone import VisDroneScores
from llie_preproc.commands.llie import parse_args
from llie_preproc.detection.coco_sets import CocoSet, read_config, use_sets
from llie_preproc.registry import DATASETS, METRICS
from tests.support.made_detections import made_scene, with_rows
from tests.support.tiny_detection import write_config
from training.finetune_config import finetuning_config

CLASSES = ("car", "person", "dog")
SIDE = 64


@MODELS.register_module()
class AnsweringDetector(BaseDetector):
    """A detector that reads its boxes from a file; a label is an index into ``classes``."""

    def __init__(self, answers, classes, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.classes = list(classes)
        self.answers = json.loads(Path(answers).read_text())

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        results = []
        for sample in batch_data_samples:
            found = self.answers[sample.img_path.rsplit("/", 1)[-1]]
            boxes = torch.tensor([box for box, _ in found], dtype=torch.float32).reshape(-1, 4)
            labels = torch.tensor([self.classes.index(name) for _, name in found], dtype=torch.int64)
            results.append(InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=labels))
        return self.add_pred_to_datasample(batch_data_samples, results)

    def loss(self, batch_inputs, batch_data_samples):
        return dict(loss=self.weight.sum())

    def _forward(self, batch_inputs, batch_data_samples=None):
        return batch_inputs

    def extract_feat(self, batch_inputs):
        return batch_inputs


def write_set(folder, names=CLASSES, seed=0):
    """Write pictures with a box of each class; return COCO annotations and the (box, name) pairs of each picture."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    truth = dict(images=[], annotations=[], categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)])
    answers = {}
    for number in range(1, 4):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 40, (SIDE, SIDE, 3), np.uint8))
        truth["images"].append(dict(id=number, file_name=f"{number}.png", width=SIDE, height=SIDE))
        answers[f"{number}.png"] = []
        for label, name in enumerate(names, 1):
            left, top, width, height = (int(n) for n in (*rng.integers(0, 30, 2), *rng.integers(10, 30, 2)))
            box = dict(bbox=[left, top, width, height], area=width * height, category_id=label, iscrowd=0)
            truth["annotations"].append(dict(box, id=len(truth["annotations"]) + 1, image_id=number))
            answers[f"{number}.png"].append([[left, top, left + width, top + height], name])
    return truth, answers


def renumbered(truth, order, ids):
    """The same annotations with categories in another order and with other ids."""
    new = {truth["categories"][at]["id"]: number for at, number in zip(order, ids, strict=True)}
    categories = [dict(truth["categories"][at], id=number) for at, number in zip(order, ids, strict=True)]
    annotations = [dict(each, category_id=new[each["category_id"]]) for each in truth["annotations"]]
    return dict(truth, categories=categories, annotations=annotations), new


@pytest.fixture
def made(tmp_path):
    """The truth, the ``compare`` command and the folder of a perfect detector with another order of classes."""
    truth, answers = write_set(tmp_path / "images")
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    own = ("dog", "car", "person")
    write_config(tmp_path / "base.py")
    config = tmp_path / "answering.py"
    config.write_text(
        f"""
_base_ = "base.py"
model = dict(
    _delete_=True,
    type="AnsweringDetector",
    answers={str(tmp_path / "answers.json")!r},
    classes={own},
    data_preprocessor=dict(type="DetDataPreprocessor"),
)
"""
    )
    meta = dict(dataset_meta=dict(classes=own))
    torch.save(dict(state_dict=dict(weight=torch.zeros(2)), meta=meta), tmp_path / "detector.pth")

    def command(annotations):
        (tmp_path / "set.json").write_text(json.dumps(annotations))
        given = [tmp_path / "set.json", tmp_path / "images"]
        sets = ["--detector-checkpoint", tmp_path / "detector.pth", "--train", *given, "--test", *given]
        given = ["compare", "--detector", config, *sets, "--enhancer", "none"]
        return [*given, "--resamples", "20", "--out", tmp_path / "out"]

    return truth, command, tmp_path


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_perfect_detector_has_an_ap_of_one_whatever_the_order_in_the_file(made, llie, order):
    truth, command, folder = made
    annotations, _ = renumbered(truth, order, (7, 3, 40))
    code, _, err = llie(*command(annotations))
    assert (code, err.count("Traceback")) == (0, 0)
    assert Comparison(folder / "out").table()[0]["scores"]["coco"]["AP"]["value"] == pytest.approx(1)


def test_classes_that_the_set_lacks_are_left_out_of_the_scores_and_named(made, llie):
    truth, command, folder = made
    kept = [each for each in truth["categories"] if each["name"] != "car"]
    ids = {each["id"] for each in kept}
    some = [each for each in truth["annotations"] if each["category_id"] in ids]
    code, _, err = llie(*command(dict(truth, categories=kept, annotations=some)))
    assert code == 0
    assert "left out of the scores: 1 of the detector's 3 classes, which the set does not have (car)" in err
    assert Comparison(folder / "out").table()[0]["scores"]["coco"]["AP"]["value"] == pytest.approx(1)
    found = json.loads((folder / "out" / "cells" / "raw-seed0" / "detections.bbox.json").read_text())
    assert len(found) == len(some)


def _named(truth, *names):
    return dict(truth, categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)])


def _ap(folder):
    return Comparison(folder / "out").table()[0]["scores"]["coco"]["AP"]["value"]


@pytest.mark.parametrize("names", [("Car", "person", "dog"), ("car ", "person", "dog"), ("car", "People", "DOG")])
def test_a_class_in_another_spelling_or_with_a_synonym_changes_no_score(made, llie, names):
    truth, command, folder = made
    code, _, err = llie(*command(_named(truth, *names)))
    assert (code, err.count("left out")) == (0, 0)
    assert _ap(folder) == pytest.approx(1)
    assert ("person is People" in err) == ("People" in names)


def test_a_class_that_the_detector_does_not_know_is_left_out_and_named_in_the_table(made, llie):
    truth, command, folder = made
    code, out, err = llie(*command(_named(truth, "car", "person", "bicycle")))
    note = "left out of the scores: 1 of the set's 3 classes, which the detector does not know (bicycle)"
    assert (code, err.count(note), out.count(note)) == (0, 1, 1)
    assert err.count("left out of the scores: 1 of the detector's 3 classes, which the set does not have (dog)") == 1
    assert _ap(folder) == pytest.approx(1)
    assert Comparison(folder / "out").plan["found_as"] == {"dog": None, "car": "car", "person": "person"}


@pytest.mark.parametrize("names", [("cat", "lamp", "tree"), ("face",)])
def test_a_set_without_any_class_of_the_detector_is_refused_with_the_names_of_both_sides(made, llie, names):
    truth, command, _ = made
    annotations = [each for each in truth["annotations"] if each["category_id"] <= len(names)]
    code, _, err = llie(*command(dict(_named(truth, *names), annotations=annotations)))
    assert (code, err.count("\n")) == (2, 1)
    for part in ("set.json", f"the detector has no {', '.join(names)}", "the set has no dog, car, person"):
        assert part in err


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize(
    ("names", "mapping", "classes"),
    [
        (("vehicle", "human", "animal"), {"dog": "animal", "car": "vehicle", "person": "human"}, 3),
        (("car", "walker", "dog"), {"person": ["walker", "dog"], "dog": None}, 2),
        (("car", "person", "dog"), {"dog": None}, 2),
    ],
)
def test_a_given_mapping_decides_which_classes_are_the_same(made, llie, names, mapping, classes, suffix):
    truth, command, folder = made
    file = folder / f"classes.{suffix}"
    file.write_text(json.dumps(mapping))
    code, _, _ = llie(*command(_named(truth, *names)), "--classes", file)
    assert code == 0
    comparison = Comparison(folder / "out")
    assert len(comparison.plan["classes"]) == classes
    found = json.loads((folder / "out" / "cells" / "raw-seed0" / "detections.bbox.json").read_text())
    # The detector finds an object of each class in each picture; two of the mappings leave out its dogs.
    assert len(found) == 3 * sum(mapping.get(name, name) is not None for name in CLASSES)
    if not isinstance(mapping.get("person"), list):
        assert _ap(folder) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mapping", "parts"),
    [
        ({"persn": "person"}, ["the detector has no class 'persn'", "is 'person' meant?"]),
        ({"person": "persons"}, ["set.json has no class 'persons'", "is 'person' meant?"]),
        ({"person": 3}, ["'person': 3, expected a name, a list of names, or null"]),
    ],
)
def test_a_mapping_with_an_unknown_class_or_a_wrong_value_is_refused(made, llie, mapping, parts):
    truth, command, folder = made
    (folder / "classes.json").write_text(json.dumps(mapping))
    code, _, err = llie(*command(truth), "--classes", folder / "classes.json")
    assert (code, err.count("\n")) == (2, 1)
    for part in parts:
        assert part in err


def test_a_safetensors_file_is_no_checkpoint_of_a_detector(made, llie):
    truth, command, folder = made
    (folder / "enhancer.safetensors").write_bytes(b"any")
    given = [folder / "enhancer.safetensors" if part == folder / "detector.pth" else part for part in command(truth)]
    code, _, err = llie(*given)
    assert (code, err.count("\n")) == (2, 1)
    assert "enhancer.safetensors is a safetensors file, which holds weights alone: expected a checkpoint" in err


def test_a_folder_of_the_config_that_is_missing_is_named_by_its_key_and_its_variable(made, llie, monkeypatch):
    _, _, folder = made
    monkeypatch.setenv("MADE_ROOT", str(folder / "none"))
    (folder / "own.py").write_text(
        """
_base_ = "answering.py"
test_dataloader = dict(dataset=dict(ann_file="{{$MADE_ROOT:data}}/set.json"))
test_evaluator = dict(type="CocoMetric", ann_file="{{$MADE_ROOT:data}}/set.json")
"""
    )
    detector = ["--detector", folder / "own.py", "--detector-checkpoint", folder / "detector.pth"]
    code, _, err = llie("compare", *detector, "--enhancer", "none", "--out", folder / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{folder / 'none' / 'set.json'}: no such file or folder (" in err
    assert "ann_file of the config, set by the variable MADE_ROOT)" in err


@pytest.mark.further
@settings(max_examples=25, deadline=None)
@given(st.permutations(range(10)), st.lists(st.integers(0, 2**40), min_size=10, max_size=10, unique=True), st.data())
def test_no_score_depends_on_the_order_or_the_ids_of_categories(order, ids, data):
    truth, found = made_scene(data.draw(st.integers(0, 2**32 - 1)), images=3, classes=10)
    with_rows(truth)
    found.sort(key=lambda each: -each["score"])
    other, new = renumbered(truth, order, ids)
    same = [dict(each, category_id=new[each["category_id"]]) for each in found]
    check_truth(other)
    for scores in (CocoScores, VisDroneScores, lambda t, d: VisDroneScores(t, d, "coco")):
        before, after = scores(truth, found).values(), scores(other, same).values()
        assert after == pytest.approx(before, abs=1e-12, nan_ok=True)
    perfect = [dict(each, score=1.0) for each in other["annotations"] if not each["iscrowd"]]
    value = CocoScores(other, perfect).values()["AP"]
    assert np.isnan(value) or value == pytest.approx(1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_dataset_and_the_metric_use_the_detectors_labels(tmp_path, order):
    truth, answers = write_set(tmp_path / "images")
    annotations, _ = renumbered(truth, order, random.Random(str(order)).sample(range(90), 3))
    file = tmp_path / "set.json"
    file.write_text(json.dumps(annotations))
    own = ("dog", "car", "person", "tree")
    dataset = DATASETS.build(
        dict(
            type="llie_preproc.NameMatchedCocoDataset",
            ann_file=str(file),
            data_prefix=dict(img=str(tmp_path / "images")),
            metainfo=dict(classes=own),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=[],
        )
    )
    assert len(dataset) == 3
    metric = METRICS.build(dict(type="llie_preproc.NameMatchedCocoMetric", ann_file=str(file)))
    metric.dataset_meta = dict(classes=own)
    for at in range(3):
        info = dataset.get_data_info(at)
        named = [[each["bbox"], own[each["bbox_label"]]] for each in info["instances"]]
        assert named == answers[f"{info['img_id']}.png"]
        # The first detection is of a class that the file does not have; the metric must leave it out.
        boxes = torch.tensor([[0, 0, 64, 64], *(each["bbox"] for each in info["instances"])], dtype=torch.float32)
        labels = torch.tensor([3, *(each["bbox_label"] for each in info["instances"])])
        sample = dict(bboxes=boxes, labels=labels, scores=torch.ones(len(boxes)))
        metric.process({}, [dict(img_id=info["img_id"], ori_shape=(SIDE, SIDE), pred_instances=sample)])
    assert metric.evaluate(3)["coco/bbox_mAP"] == 1


def test_the_dataset_matches_synonyms_and_mapped_names(tmp_path):
    truth, answers = write_set(tmp_path / "images", ("pedestrian", "people", "Motorbike", "tram"))
    file = tmp_path / "set.json"
    file.write_text(json.dumps(truth))
    own = ("motorcycle", "person")
    build = dict(
        type="llie_preproc.NameMatchedCocoDataset",
        ann_file=str(file),
        data_prefix=dict(img=str(tmp_path / "images")),
        metainfo=dict(classes=own),
        pipeline=[],
    )
    names = {"pedestrian": "person", "people": "person", "Motorbike": "motorcycle"}
    for mapping in (None, {"person": ["pedestrian", "people"]}):
        dataset = DATASETS.build(dict(build, classes=mapping))
        for at in range(3):
            info = dataset.get_data_info(at)
            expected = [[box, names[name]] for box, name in answers[f"{info['img_id']}.png"] if name in names]
            assert [[each["bbox"], own[each["bbox_label"]]] for each in info["instances"]] == expected
    build["metainfo"] = dict(classes=(*own, "dog"))
    with pytest.raises(ValueError, match="the detector has no tram, the set has no dog"):
        DATASETS.build(build)
    assert len(DATASETS.build(dict(build, test_mode=True))) == 3


def test_a_configs_own_set_in_another_order_is_matched_by_name_too(tmp_path):
    truth, _ = write_set(tmp_path / "images")
    (tmp_path / "set.json").write_text(json.dumps(truth))
    dataset = dict(
        type="CocoDataset",
        ann_file=str(tmp_path / "set.json"),
        data_prefix=dict(img=str(tmp_path / "images")),
        metainfo=dict(classes=CLASSES[::-1]),
        pipeline=[],
    )
    options = {"train_dataloader.dataset": dataset, "test_dataloader.dataset": dataset}
    cfg = use_sets(read_config(str(write_config(tmp_path / "tiny.py")), options), None, None)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        first = DATASETS.build(loader.dataset).get_data_info(0)["instances"][0]
        assert CLASSES[::-1][first["bbox_label"]] == "car"
    dataset["type"] = "DeepFashionDataset"
    with pytest.raises(ValueError, match="numbers classes in the order of this file"):
        use_sets(read_config(str(tmp_path / "tiny.py"), options), None, None)


@pytest.mark.parametrize("preset", ["joint", "enhancer-only"])
def test_finetuning_keeps_the_class_order_of_its_checkpoint(tmp_path, preset):
    truth, _ = write_set(tmp_path / "images")
    (tmp_path / "set.json").write_text(json.dumps(truth))
    own = ("dog", "car", "person")
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=dict(classes=own))), tmp_path / "start.pth")
    given = ["--detector", str(write_config(tmp_path / "tiny.py")), "--enhancer", "psenet", "--preset", preset]
    given += ["--detector-checkpoint", str(tmp_path / "start.pth")]
    sets = [str(tmp_path / "set.json"), str(tmp_path / "images")]
    cfg = finetuning_config(parse_args(["finetune", *given, "--train", *sets, "--val", *sets]))
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == own
    assert tuple(cfg.val_dataloader.dataset.metainfo.classes) == own
    assert cfg.model.detector.roi_head.bbox_head.num_classes == 3
    truth["categories"][0]["name"] = "tram"
    (tmp_path / "set.json").write_text(json.dumps(truth))
    args = parse_args(["finetune", *given, "--train", *sets, "--val", *sets])
    if preset == "enhancer-only":
        # The detector is frozen and cannot learn a class that it does not know.
        with pytest.raises(ValueError, match="the detector has no tram"):
            finetuning_config(args)
    else:
        assert tuple(finetuning_config(args).train_dataloader.dataset.metainfo.classes) == ("tram", "person", "dog")


def test_a_given_set_is_checked_before_mmdetection_reads_it(tmp_path):
    truth, _ = write_set(tmp_path / "images")
    cfg = read_config(str(write_config(tmp_path / "tiny.py")), {})
    given = CocoSet(tmp_path / "set.json", tmp_path / "images")
    for field, value in (("iscrowd", "0"), ("area", "9"), ("bbox", [1, 2, "3", 4]), ("category_id", True)):
        bad = json.loads(json.dumps(truth))
        bad["annotations"][4][field] = value
        given.annotations.write_text(json.dumps(bad))
        with pytest.raises(ValueError, match=rf"set\.json: annotations\[4\]: {field}"):
            use_sets(cfg, given, given)
    for name, message in (("../1.png", r"'\.\./1\.png' leads out"), ("1.png", r"'1\.png' stands at \[0\] already")):
        bad = json.loads(json.dumps(truth))
        bad["images"][1]["file_name"] = name
        given.annotations.write_text(json.dumps(bad))
        with pytest.raises(ValueError, match=rf"set\.json: images\[1\]: file_name {message}"):
            use_sets(cfg, given, given)


def test_detections_of_unknown_categories_are_refused():
    with pytest.raises(ValueError, match=r"detections\[0\]: category_id 4 is not in the annotation file"):
        detection_boxes([dict(image_id=1, category_id=4, bbox=[0, 0, 1, 1], score=1)], [1], [1, 2, 3])
