"""``llie annotations --split`` and ``--names`` choose the same pictures each time and keep the boxes of each."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection_eval.datasets.formats.visdrone import visdrone
from detection_eval.datasets.splits import Split
from tests.support.made_annotations import annotations, convert, write_picture, write_text


def test_five_of_many_missing_annotations_are_named(many, capsys):
    for text in sorted((many / "annotations").iterdir())[:8]:
        text.unlink()
    assert annotations("visdrone", many, "--out", many / "set.json") == 2
    err = capsys.readouterr().err
    assert err.count("the picture has no annotation") == 5
    assert err.endswith("; and 3 more\n")
    assert annotations("visdrone", many, "--out", many / "set.json", "--skip-bad") == 0
    out, err = capsys.readouterr()
    assert "8 bad lines or files skipped" in out
    assert err.count("the picture has no annotation") == 8


@pytest.fixture
def many(tmp_path):
    """A VisDrone set of 20 pictures; the box of picture ``n`` is ``n + 1`` pixels wide."""
    for number in range(20):
        write_picture(tmp_path / "images" / f"{number:02d}.jpg")
        write_text(tmp_path / "annotations" / f"{number:02d}.txt", f"1,2,{number + 1},10,1,1,0,0\n")
    return tmp_path


def split(root, *options):
    assert annotations("visdrone", root, "--out", root / "set.json", "--split", *options) == 0
    assert not (root / "set.json").exists()
    return [json.loads((root / f"set_{part}.json").read_text()) for part in ("train", "test")]


def test_a_split_keeps_the_annotations_with_their_pictures(many, capsys):
    whole = convert(visdrone(many))
    parts = split(many, "15", "5")
    out = capsys.readouterr().out
    assert "set_train.json: 15 images, 15 boxes" in out
    assert "set_test.json: 5 images, 5 boxes" in out
    for kind in ("images", "annotations"):
        together = sorted((each for part in parts for each in part[kind]), key=lambda each: each["id"])
        assert together == json.loads(json.dumps(whole[kind]))
    for part in parts:
        names = {image["id"]: image["file_name"] for image in part["images"]}
        assert all(each["bbox"][2] == int(names[each["image_id"]][:2]) + 1 for each in part["annotations"])
    assert split(many, "0.75") == parts
    assert split(many, "15", "5", "--seed", "1") != parts
    split(many, "6", "4")
    assert "10 images that the split left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["1.5"], "a share between 0 and 1"),
        (["0"], "a share between 0 and 1"),
        (["nan"], "a share between 0 and 1"),
        (["5", "0"], "a share between 0 and 1"),
        (["1", "2", "3"], "a share between 0 and 1"),
        (["x"], "a share between 0 and 1"),
        (["526", "131"], "needs 657 pictures, got 20"),
        (["0.01"], "leaves one part empty"),
    ],
)
def test_impossible_splits_are_refused(many, sizes, message, capsys):
    assert annotations("visdrone", many, "--out", many / "set.json", "--split", *sizes) == 2
    assert message in capsys.readouterr().err
    assert not list(many.glob("*.json"))


@given(st.sets(st.text(min_size=1), min_size=4), st.integers(0, 9), st.randoms(use_true_random=False), st.data())
def test_parts_of_a_split_are_disjoint_and_independent_of_order(names, seed, shuffle, data):
    first = data.draw(st.integers(1, len(names) - 1))
    second = data.draw(st.integers(1, len(names) - first))
    shuffled = sorted(names)
    shuffle.shuffle(shuffled)
    parts = Split((first, second), seed).draw(names)
    assert [len(part) for part in parts] == [first, second]
    assert not set(parts[0]) & set(parts[1])
    assert set(parts[0]) | set(parts[1]) <= names
    assert (first + second < len(names)) or set(parts[0]) | set(parts[1]) == names
    assert Split((first, second), seed).draw(shuffled) == parts


def test_a_split_is_the_same_everywhere():
    names = [f"{number:07d}.jpg" for number in range(657)]
    train, test = Split((526, 131)).draw(names)
    assert (len(train), len(test)) == (526, 131)
    # A shell gave the expected names: `printf '0\n0000000.jpg' | sha256sum` for each name, and the 131 largest sums.
    assert test[:4] == ["0000004.jpg", "0000010.jpg", "0000011.jpg", "0000013.jpg"]
    random.shuffle(names)
    assert Split((526, 131)).draw(names) == (train, test)
    assert Split((526, 131), seed=1).draw(names)[1] != test


def test_a_list_of_names_chooses_pictures(many, capsys):
    command = ["visdrone", many, "--out", many / "set.json", "--names", many / "names.txt"]
    write_text(many / "names.txt", "03.jpg\n\n07.JPEG\n05\n")
    (many / "annotations" / "11.txt").unlink()
    assert annotations(*command) == 0
    truth = json.loads((many / "set.json").read_text())
    assert [image["file_name"] for image in truth["images"]] == ["03.jpg", "05.jpg", "07.jpg"]
    capsys.readouterr()
    for text, message in (
        ("03.jpg\nabsent.jpg\n", "names.txt:2: absent.jpg names none of the 20 pictures"),
        ("03.jpg\n03.png\n", f"names.txt:2: 03.png names the same picture as {many / 'names.txt'}:1"),
        ("03.jpg\n03.jpg\n", "names.txt:2: 03.jpg is listed a second time"),
        ("\n", "holds no name"),
    ):
        write_text(many / "names.txt", text)
        assert annotations(*command) == 2
        assert message in capsys.readouterr().err
    write_text(many / "names.txt", "03.jpg\nabsent.jpg\n")
    assert annotations(*command, "--skip-bad") == 0
    assert "absent.jpg names none of" in capsys.readouterr().err
    assert annotations(*command[:-1], many / "no.txt") == 2
    assert "no.txt" in capsys.readouterr().err


def test_a_name_that_several_pictures_have_is_refused(tmp_path, capsys):
    for folder in ("x", "y"):
        write_picture(tmp_path / "images" / folder / "a.jpg")
    write_text(tmp_path / "labels" / "x" / "a.txt", "")
    write_text(tmp_path / "names.txt", "a.jpg\n")
    command = ["yolo", tmp_path / "images", tmp_path / "labels", "--classes", "car"]
    command += ["--out", tmp_path / "out.json", "--names", tmp_path / "names.txt"]
    assert annotations(*command) == 2
    assert "a.jpg names several of the 2 pictures" in capsys.readouterr().err
    write_text(tmp_path / "names.txt", "y/a.png\n")
    assert annotations(*command) == 0
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["file_name"] == "y/a.jpg"


def test_an_annotation_file_is_not_overwritten(many, capsys):
    text = many / "annotations" / "00.txt"
    before = text.read_text()
    assert annotations("visdrone", many, "--out", text) == 2
    assert "--out must end in .json" in capsys.readouterr().err
    assert text.read_text() == before
