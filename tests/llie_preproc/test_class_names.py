"""Classes are matched by their names and meanings, whatever their order, and never by position."""

import json
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import check_truth
from llie_preproc.class_names import MAPPINGS, SYNONYMS, match_classes, read_mapping
from tests.support.made_detections import VISDRONE, made_scene

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "bench",
    "cat", "dog", "bottle", "cup", "chair", "couch", "potted plant", "dining table", "tv", "cell phone",
)  # fmt: skip
EXDARK = (
    "Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table",
)  # fmt: skip
VOC = (
    "aeroplane", "bicycle", "boat", "bottle", "bus", "car", "cat", "chair", "diningtable", "dog", "motorbike", "person",
    "pottedplant", "sofa", "train", "tvmonitor",
)  # fmt: skip
BDD = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light", "traffic sign")


def pairs(match):
    """The shared classes without their order."""
    return {(frozenset(each.detector), frozenset(each.annotated)) for each in match.shared}


def one_to_one(match):
    return {each.detector[0]: each.annotated[0] for each in match.shared if len(each.annotated) == 1}


def test_a_coco_detector_knows_every_class_of_exdark_and_voc():
    match = match_classes(COCO, EXDARK, "exdark.json")
    assert match.unknown == []
    assert one_to_one(match)["person"] == "People"
    assert one_to_one(match)["dining table"] == "Table"
    assert one_to_one(match)["motorcycle"] == "Motorbike"
    assert match_classes(COCO, VOC, "voc.json").unknown == []
    assert pairs(match_classes(COCO, EXDARK, "exdark.json", read_mapping("coco-exdark"))) == pairs(match)


def test_classes_that_only_bdd100k_has_are_left_out():
    assert match_classes(COCO, BDD, "bdd.json").unknown == ["rider", "traffic sign"]


def test_one_class_of_the_detector_merges_those_of_the_set():
    match = match_classes(COCO, VISDRONE, "visdrone.json")
    person = next(each for each in match.shared if each.name == "person")
    assert person.annotated == ("pedestrian", "people")
    assert match.unknown == ["van", "tricycle", "awning-tricycle"]
    mapped = match_classes(COCO, VISDRONE, "visdrone.json", read_mapping("coco-visdrone"))
    assert mapped.unknown == ["tricycle", "awning-tricycle"]
    assert next(each for each in mapped.shared if each.name == "car").annotated == ("car", "van")


def test_equal_names_come_before_synonyms():
    own = match_classes(VISDRONE, VISDRONE, "visdrone.json")
    assert one_to_one(own) == {name: name for name in VISDRONE}
    assert match_classes(["pedestrian"], VISDRONE, "visdrone.json").labels() == {"pedestrian": 0}
    both = match_classes(["pedestrian", "people"], ["People"], "exdark.json")
    assert both.found_as == {"pedestrian": "People", "people": "People"}


@pytest.mark.parametrize(("detector", "annotated"), [(COCO, ("face",)), (("face",), COCO), (("face",), EXDARK)])
@pytest.mark.parametrize("mapping", [None, {}])
def test_a_person_is_no_face(detector, annotated, mapping):
    with pytest.raises(ValueError, match=r"faces\.json: its classes are not the detector's: .*face"):
        match_classes(detector, annotated, "faces.json", mapping)


@given(st.permutations(COCO), st.permutations(VISDRONE), st.sampled_from([None, "coco-visdrone"]))
def test_the_order_on_either_side_changes_nothing(detector, annotated, mapping):
    expected = match_classes(COCO, VISDRONE, "set.json", read_mapping(mapping))
    match = match_classes(detector, annotated, "set.json", read_mapping(mapping))
    assert pairs(match) == pairs(expected)
    first = [min(detector.index(name) for name in each.detector) for each in match.shared]
    assert first == sorted(first)


@given(st.data())
def test_a_name_of_the_same_meaning_changes_nothing(data):
    rows = data.draw(st.lists(st.sampled_from(SYNONYMS), unique=True, min_size=1))
    spelled = st.sampled_from([str.upper, str.title, lambda n: n.replace(" ", "_"), lambda n: n.replace(" ", "")])
    detector = [data.draw(st.sampled_from(row)) for row in rows]
    annotated = [data.draw(spelled)(data.draw(st.sampled_from(row))) for row in rows]
    assert list(one_to_one(match_classes(detector, annotated, "set.json")).items()) == list(
        zip(detector, annotated, strict=True)
    )


def test_no_name_has_two_meanings():
    names = list(chain.from_iterable(SYNONYMS))
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"persn": "People"}, r"the detector has no class 'persn'; is 'person' meant\?"),
        ({"person": "Poeple"}, r"exdark\.json has no class 'Poeple'; is 'People' meant\?"),
        ({"person": "xyz"}, r"exdark\.json has no class 'xyz'; it has Bicycle, Boat, Bottle, Bus, Car and 7 more"),
        ({"person": "People", "Person": "Car"}, "'Person' is 'person', which the mapping has already"),
    ],
)
def test_unknown_names_in_a_mapping_are_refused_with_the_nearest(mapping, message):
    with pytest.raises(ValueError, match=message):
        match_classes(COCO, EXDARK, "exdark.json", mapping)


def test_two_measured_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes would be measured as 'person'"):
        match_classes(["person", "human"], ["a", "b", "person"], "s", {"person": ["a", "b"], "human": "person"})


@pytest.mark.parametrize("target", [3, [], [None], {"a": 1}, [3], True])
def test_a_mapping_to_something_else_than_names_is_refused(tmp_path, target):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"person": target}))
    for form in (path, str(path), {"person": target}):
        with pytest.raises(ValueError, match=r"'person': .*, expected a name, a list of names, or null"):
            read_mapping(form)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", "holds a list, expected an object"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"a": "b", "a": "c"}', "'a' twice"),
        ("a.yaml", "a: [b", "is not YAML"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("a.yaml", "no: b", "expected a name"),
        ("a.yaml", "- a", "holds a list, expected an object"),
    ],
)
def test_damaged_files_of_mappings_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mapping(tmp_path / name)


def test_a_mapping_is_a_file_or_the_name_of_a_shipped_one(tmp_path):
    (tmp_path / "own.yml").write_text("person: [pedestrian, people]\ndog:\n")
    assert read_mapping(tmp_path / "own.yml") == {"person": ["pedestrian", "people"], "dog": None}
    assert read_mapping(None) == {}
    for path in MAPPINGS.iterdir():
        assert read_mapping(path.stem) == json.loads(path.read_text())
    with pytest.raises(FileNotFoundError, match=r"no mapping of classes coco-nothing: .*coco-exdark, coco-visdrone"):
        read_mapping("coco-nothing")
    with pytest.raises(ValueError, match="classes is a tuple"):
        read_mapping(("a", "b"))


@given(st.integers(0, 2**32 - 1))
def test_merging_equals_scoring_relabelled_files(seed):
    truth, found = made_scene(seed, images=3, classes=4)
    named = [dict(id=10 * each["id"], name=f"found {each['id']}") for each in truth["categories"]]
    detected = [dict(each, category_id=10 * each["category_id"]) for each in found]
    mapping = {"found 1": ["class 1", "class 2"], "found 2": "class 3", "found 3": "class 3", "found 4": None}
    match = match_classes([each["name"] for each in named], [f"class {n}" for n in range(1, 5)], "set.json", mapping)
    measured = match.truth(truth)
    check_truth(measured)

    of_truth, of_found = {1: 1, 2: 1, 3: 3}, {1: 1, 2: 3, 3: 3}
    by_hand = dict(
        truth,
        categories=[dict(id=1, name="found 1"), dict(id=3, name="class 3")],
        annotations=[
            dict(each, category_id=of_truth[each["category_id"]])
            for each in truth["annotations"]
            if each["category_id"] in of_truth
        ],
    )
    kept = [dict(e, category_id=of_found[e["category_id"]]) for e in found if e["category_id"] in of_found]
    scores = CocoScores(measured, match.detections(detected, named, measured))
    expected = CocoScores(by_hand, kept)
    assert scores.values() == pytest.approx(expected.values(), nan_ok=True)
    assert scores.by_class() == pytest.approx(expected.by_class(), nan_ok=True)


@pytest.mark.parametrize(
    ("detector", "annotated", "whole", "message"),
    [
        (["person"], ["person", "car"], True, "the detector has no car"),
        (["person", "dog"], ["person", "car"], False, "the detector has no car, the set has no dog"),
        (["pedestrian", "people"], ["person"], True, "both person of the set"),
    ],
)
def test_a_set_whose_objects_have_no_label_cannot_train_a_detector(detector, annotated, whole, message):
    with pytest.raises(ValueError, match=message):
        match_classes(detector, annotated, "set.json").require_labels("set.json", whole)


def test_a_set_with_more_or_merged_classes_can_train_a_detector():
    match_classes(["person"], ["person", "car"], "set.json").require_labels("set.json", whole=False)
    match_classes(["person", "car"], ["pedestrian", "people"], "set.json").require_labels("set.json")
