"""Classes are matched by their names and meanings, whatever their order, and never by position."""

import json
import re
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import check_truth
from llie_preproc.class_mapping_files import read_mapping
from llie_preproc.class_names import match_classes
from llie_preproc.class_synonyms import SYNONYMS
from tests.support.made_detections import VISDRONE, made_scene
from tests.support.places import ROOT

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


def test_the_mapping_of_the_docs_leads_from_coco_to_visdrone():
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```$", page, re.M | re.S)
    match = match_classes(COCO, VISDRONE, "visdrone.json", read_mapping(json.loads(block)))
    assert match.found_as["train"] == match.found_as["truck"] == "truck"
    assert (match.found_as["person"], match.found_as["boat"]) == ("person", None)
    assert match.unknown == ["tricycle", "awning-tricycle"]


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
    both = match_classes(["pedestrian", "people"], ["Person"], "voc.json")
    assert both.found_as == {"pedestrian": "Person", "people": "Person"}


@pytest.mark.parametrize("spell", [str, str.title, str.upper, lambda n: f"{n} "])
def test_another_spelling_of_a_name_matches_what_the_name_matches(spell):
    one = match_classes(["person", "car"], [spell("person"), "pedestrian", "car"], "set.json")
    assert (one.found_as, one.unknown) == ({"person": spell("person"), "car": "car"}, ["pedestrian"])
    other = match_classes(["pedestrian", "people"], [spell("people")], "set.json")
    assert other.found_as == {"pedestrian": None, "people": spell("people")}


@pytest.mark.parametrize(("name", "other"), [("class 1 1", "class 11"), ("1-1", "11"), ("lane_2_10", "lane 21 0")])
def test_a_separator_between_digits_is_part_of_a_name(name, other):
    with pytest.raises(ValueError, match="its classes are not the detector's"):
        match_classes([name], [other], "set.json")
    spelled = name.upper().replace(" ", "_")
    assert match_classes([name], [other, spelled], "set.json").found_as == {name: spelled}


def test_several_names_on_both_sides_match_nothing():
    match = match_classes(["tv", "television", "cup"], ["tv monitor", "TV-Monitor", "cup"], "set.json")
    assert (match.ignored, match.unknown) == (["tv", "television"], ["tv monitor", "TV-Monitor"])


@pytest.mark.parametrize(("detector", "annotated"), [(COCO, ("face",)), (("face",), COCO), (("face",), EXDARK)])
@pytest.mark.parametrize("mapping", [None, {}])
def test_a_person_is_no_face(detector, annotated, mapping):
    with pytest.raises(ValueError, match=r"faces\.json: its classes are not the detector's: .*face"):
        match_classes(detector, annotated, "faces.json", mapping)


@settings(deadline=None)
@given(st.permutations(COCO), st.permutations(VISDRONE), st.sampled_from([None, "coco-visdrone"]))
def test_the_order_on_either_side_changes_nothing(detector, annotated, mapping):
    expected = match_classes(COCO, VISDRONE, "set.json", read_mapping(mapping))
    match = match_classes(detector, annotated, "set.json", read_mapping(mapping))
    assert pairs(match) == pairs(expected)
    first = [min(detector.index(name) for name in each.detector) for each in match.shared]
    assert first == sorted(first)


@settings(deadline=None)
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
        (
            {"People": "person", "Car": "car"},
            "the detector has no class 'People'; the mapping is reversed: it must lead from the det",
        ),
        ({"People": None}, "the mapping is reversed"),
        (
            read_mapping("coco-visdrone"),
            "no class 'pedestrian'; coco-visdrone is for a detector of COCO and the set VisDrone$",
        ),
    ],
)
def test_unknown_names_in_a_mapping_are_refused_with_the_nearest(mapping, message):
    with pytest.raises(ValueError, match=message):
        match_classes(COCO, EXDARK, "exdark.json", mapping)


def test_no_other_mapping_is_called_reversed_or_shipped():
    for mapping in ({"People": "persn"}, {"Peeple": "person"}, {"People": "person", "truck": "Car"}):
        with pytest.raises(ValueError, match="no class") as refused:
            match_classes(COCO, EXDARK, "exdark.json", mapping)
        assert not re.search("reversed|coco-", str(refused.value))


def test_a_name_of_a_mapping_that_may_be_several_is_refused_with_all_of_them():
    message = "classes: 'CAR' may be 'Car' or 'car' of the detector: write the name exactly as the detector has it"
    with pytest.raises(ValueError, match=message):
        match_classes(["Car", "car"], ["vehicle"], "set.json", {"CAR": "vehicle"})
    with pytest.raises(ValueError, match=r"'CAR' may be 'Car' or 'car' of set\.json"):
        match_classes(["vehicle"], ["Car", "car"], "set.json", {"vehicle": "CAR"})
    assert match_classes(["Car", "car"], ["vehicle"], "s", {"car": "vehicle"}).found_as == {
        "Car": None,
        "car": "vehicle",
    }


def test_classes_that_a_mapping_does_not_name_are_matched_by_name_to_those_that_it_names_too():
    for names in (["car", "people"], ["Car", "person"]):
        match = match_classes(["car", "truck", "person", "rider"], names, "s", {"truck": names[0], "rider": names[1]})
        assert [set(each.detector) for each in match.shared] == [{"car", "truck"}, {"person", "rider"}]


def test_notes_name_the_mapping_where_the_mapping_leaves_a_class_out():
    match = match_classes(
        ["person", "car", "dog", "lamp"],
        ["pedestrian", "people", "automobile", "dog", "cup"],
        "set.json",
        {"person": "pedestrian", "dog": None, "car": "automobile"},
    )
    assert match.notes == [
        "classes with other names: person is pedestrian, car is automobile",
        "left out of the scores: 1 of the set's 5 classes, which the detector does not know (cup)",
        "left out of the scores: 2 of the set's 5 classes, which the mapping leaves without a match (people, dog)",
    ]
    assert match.ignored_note == [
        "left out of the scores: 1 of the detector's 4 classes, which the set does not have (lamp)",
        "left out of the scores: 1 of the detector's 4 classes, which the mapping leaves out (dog)",
    ]
    with pytest.raises(ValueError, match=r"the detector has no cup, the set has no lamp, the mapping leaves out dog$"):
        match_classes(["lamp", "dog"], ["dog", "cup"], "set.json", {"dog": None})


def test_notes_tell_what_several_classes_are_and_name_the_first_of_many():
    merged = match_classes(["car", "bus"], ["vehicle"], "set.json", {"car": "vehicle", "bus": "vehicle"})
    assert merged.notes == ["classes that count as one: car and bus are vehicle"]
    assert match_classes(["person"], VISDRONE, "set.json").notes[0].endswith(": person is pedestrian and people")
    many = match_classes(["car", *(f"kind {n}" for n in range(79))], ["car"], "set.json").ignored_note
    shown = ", ".join(f"kind {n}" for n in range(10))
    assert many == [
        f"left out of the scores: 79 of the detector's 80 classes, which the set does not have ({shown} and 69 more)"
    ]


def test_two_measured_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes would be measured as 'person'"):
        match_classes(["person", "human"], ["a", "b", "person"], "s", {"person": ["a", "b"], "human": "person"})


@settings(deadline=None)
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


def test_a_class_that_is_merged_again_names_all_its_own_classes():
    kinds = [dict(id=n, name=name) for n, name in enumerate(["car", "van", "bus", "cup"], 1)]
    truth = dict(images=[], categories=kinds, annotations=[])
    mapping = {"vehicle": ["car", "van"], "large vehicle": "bus"}
    once = match_classes(["vehicle", "large vehicle", "cup"], ["car", "van", "bus", "cup"], "s", mapping).truth(truth)
    again = match_classes(["thing"], ["vehicle", "bus", "cup"], "s", {"thing": ["bus", "vehicle"]}).truth(once)
    assert once["categories"] == [
        dict(id=1, name="vehicle", llie_merged=["car", "van"]),
        dict(id=3, name="bus"),
        dict(id=4, name="cup"),
    ]
    assert again["categories"] == [dict(id=1, name="thing", llie_merged=["car", "van", "bus"])]


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


@pytest.mark.parametrize("detector", [["car", "car", "person"], ["car", "person", "car"]])
def test_a_detector_with_two_classes_of_one_name_is_refused(detector: list[str]) -> None:
    with pytest.raises(ValueError, match=r"set\.json: the detector has the class 'car' twice"):
        match_classes(detector, ["car", "person"], "set.json")
