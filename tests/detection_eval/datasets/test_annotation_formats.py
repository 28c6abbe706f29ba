"""Readers of annotation formats return the boxes that were written, and follow the rules of each format."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection_eval.datasets.coco import to_coco
from detection_eval.datasets.formats.darkface import darkface
from detection_eval.datasets.formats.exdark import exdark
from detection_eval.datasets.formats.visdrone import CLASSES, visdrone
from detection_eval.datasets.formats.wider_face import wider_face
from detection_eval.datasets.formats.yolo import class_names, yolo
from detection_eval.datasets.labels import Problems
from tests.support.made_annotations import (
    EXDARK_HEADER,
    HEIGHT,
    WIDTH,
    annotations,
    boxes_of,
    convert,
    write_picture,
    write_text,
)

BOXES = st.lists(
    st.builds(
        lambda c, x, y, w, h: (c, x, y, min(w, WIDTH - x), min(h, HEIGHT - y)),
        st.integers(1, 10), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1),
        st.integers(1, WIDTH), st.integers(1, HEIGHT),
    ),
    max_size=8,
)  # fmt: skip
REUSED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@REUSED
@given(BOXES, st.sampled_from(["", ",", ", ", " \t"]), st.booleans())
def test_boxes_of_visdrone_are_read(tmp_path, boxes, end, windows):
    write_picture(tmp_path / "images" / "a.jpg")
    newline = "\r\n" if windows else "\n"
    lines = [f"{x},{y},{w},{h},1,{c},1,2{end}{newline}" for c, x, y, w, h in boxes]
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "a.txt").write_bytes("".join(lines).encode())
    truth = convert(visdrone(tmp_path))
    assert boxes_of(truth) == boxes
    assert truth["images"][0]["visdrone_rows"] == [(x, y, w, h, 1, c, 1, 2) for c, x, y, w, h in boxes]
    assert all((each["truncation"], each["occlusion"]) == (1, 2) for each in truth["annotations"])


@REUSED
@given(BOXES)
def test_boxes_of_exdark_are_read(tmp_path, boxes):
    names = ["Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike"]
    write_picture(tmp_path / "images" / "Bus" / "2015_00001.png")
    rows = "".join(f"{names[c - 1]} {x} {y} {w} {h} 0 0 0 0 0 0 0\n" for c, x, y, w, h in boxes)
    write_text(tmp_path / "anno" / "Bus" / "2015_00001.png.txt", EXDARK_HEADER + rows)
    assert boxes_of(convert(exdark(tmp_path / "images", tmp_path / "anno"))) == boxes


@REUSED
@given(BOXES)
def test_boxes_of_dark_face_are_read(tmp_path, boxes):
    write_picture(tmp_path / "image" / "1.png")
    rows = "".join(f"{x} {y} {x + w - 1} {y + h - 1}\n" for _, x, y, w, h in boxes)
    write_text(tmp_path / "label" / "1.txt", f"{len(boxes)}\n{rows}")
    truth = convert(darkface(tmp_path / "image", tmp_path / "label"))
    assert boxes_of(truth) == [(1, *place) for _, *place in boxes]


@REUSED
@given(st.lists(BOXES, min_size=1, max_size=4))
def test_boxes_of_wider_face_are_read(tmp_path, pictures):
    text = ""
    for number, boxes in enumerate(pictures):
        write_picture(tmp_path / "images" / "0--Parade" / f"{number}.jpg")
        text += f"0--Parade/{number}.jpg\n{len(boxes)}\n"
        # In the real lists, each row ends in a blank.
        text += "".join(f"{x} {y} {w} {h} 2 0 1 {int(c > 5)} 1 0 \n" for c, x, y, w, h in boxes)
        text += "" if boxes else "0 0 0 0 0 0 0 0 0 0 \n"
    for left in range(len(pictures), 4):
        (tmp_path / "images" / "0--Parade" / f"{left}.jpg").unlink(missing_ok=True)
    write_text(tmp_path / "list.txt", text)
    truth = convert(wider_face(tmp_path / "images", tmp_path / "list.txt"))
    for number, boxes in enumerate(pictures):
        assert boxes_of(truth, f"0--Parade/{number}.jpg") == [(1, *place) for _, *place in boxes]
    assert [each["iscrowd"] for each in truth["annotations"]] == [
        int(box[0] > 5) for boxes in pictures for box in boxes
    ]
    assert all((each["blur"], each["occlusion"]) == (2, 1) for each in truth["annotations"])


@REUSED
@given(BOXES)
def test_boxes_of_yolo_are_read(tmp_path, boxes):
    write_picture(tmp_path / "images" / "train" / "a.jpg")
    rows = (
        f"{c - 1} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}\n"
        for c, x, y, w, h in boxes
    )
    write_text(tmp_path / "labels" / "train" / "a.txt", "".join(rows))
    write_text(tmp_path / "labels" / "classes.txt", "one\ntwo\n")
    truth = convert(yolo(tmp_path / "images", tmp_path / "labels", [f"class {i}" for i in range(10)]))
    assert truth["categories"][3] == {"id": 4, "name": "class 3"}
    for found, expected in zip(boxes_of(truth), boxes, strict=True):
        assert found == pytest.approx(expected, abs=2e-4)


@pytest.fixture
def drones(tmp_path):
    """The root of a VisDrone set of two pictures, and the rows of the first, one of each kind; the second has none."""
    for name in ("a", "b"):
        write_picture(tmp_path / "images" / f"{name}.jpg")
    rows = [
        (1, 2, 10, 10, 1, 1, 0, 0),
        (60, 40, 20, 20, 0, 0, 0, 0),
        (3, 4, 5, 6, 1, 11, 0, 1),
        (5, 5, 0, 7, 1, 4, 0, 0),
        (20, 20, 8, 8, 0, 9, 1, 2),
    ]
    write_text(tmp_path / "annotations" / "a.txt", "".join(",".join(map(str, row)) + ",\n" for row in rows))
    write_text(tmp_path / "annotations" / "b.txt", "")
    return tmp_path, rows


def test_each_kind_of_row_of_visdrone_is_converted(drones):
    root, rows = drones
    problems = Problems()
    truth = to_coco(visdrone(root), problems)
    assert truth["images"][0]["visdrone_rows"] == rows
    assert truth["images"][1]["visdrone_rows"] == []
    assert [each["name"] for each in truth["categories"]] == list(CLASSES)
    first, *region, scored_zero = truth["annotations"]
    assert (first["category_id"], first["bbox"], first["iscrowd"]) == (1, (1, 2, 10, 10), 0)
    assert [each["category_id"] for each in region] == list(range(1, 11))
    assert all(each["bbox"] == (60, 40, 4, 8) and each["iscrowd"] and each["ignored_region"] for each in region)
    assert (scored_zero["category_id"], scored_zero["iscrowd"], scored_zero["occlusion"]) == (9, 1, 2)
    assert "ignored_region" not in scored_zero
    assert dict(problems.counts) == {
        "boxes of no size left out": 1,
        'boxes of category 11, "others", left out': 1,
        "boxes clipped to the picture": 1,
    }
    dropped = to_coco(visdrone(root, ignored_regions="drop"), problems)
    assert [each["category_id"] for each in dropped["annotations"]] == [1, 9]
    assert dropped["images"] == truth["images"]
    with pytest.raises(ValueError, match="ignored_regions must be one of"):
        visdrone(root, ignored_regions="keep")


def test_several_splits_of_visdrone_are_read_as_one_set(tmp_path, capsys):
    for split in ("VisDrone2019-DET-train", "VisDrone2019-DET-val"):
        write_picture(tmp_path / split / "images" / "a.jpg")
        write_text(tmp_path / split / "annotations" / "a.txt", "1,2,10,10,1,1,0,0\n")
    (tmp_path / "VisDrone2019-DET-test-challenge" / "images").mkdir(parents=True)
    assert annotations("visdrone", tmp_path, "--out", tmp_path / "all.json") == 0
    truth = json.loads((tmp_path / "all.json").read_text())
    names = [f"VisDrone2019-DET-{split}/images/a.jpg" for split in ("train", "val")]
    assert [image["file_name"] for image in truth["images"]] == names
    assert all((tmp_path / name).is_file() for name in names)
    assert annotations("visdrone", tmp_path / "absent", "--out", tmp_path / "x.json") == 2
    assert "must hold 'images' and 'annotations'" in capsys.readouterr().err


def test_the_list_of_exdark_gives_light_place_and_part(tmp_path, capsys):
    images, texts, names = tmp_path / "images", tmp_path / "bbGt", tmp_path / "imageclasslist.txt"
    for number in range(3):
        write_picture(images / f"2015_{number}.png")
        write_text(texts / f"2015_{number}.txt", EXDARK_HEADER + "Cat 1 1 4 4 0 0 0 0 0 1 0\n")
    head = "Name | Class | Light | In/Out | Train/Val/Test\n"
    write_text(names, head + "2015_0.png 6 1 1 1\n2015_1.JPEG 6 10 2 3\n2015_2.png 6 2 1 1\n2015_9.png 6 2 1 1\n")
    command = ["exdark", images, texts, "--out", tmp_path / "out.json", "--list", names]

    def run(*options):
        assert annotations(*command, *options) == 0
        return json.loads((tmp_path / "out.json").read_text())

    truth = run()
    assert [image["light"] for image in truth["images"]] == ["Low", "Twilight", "Ambient"]
    assert [image["place"] for image in truth["images"]] == ["Indoor", "Outdoor", "Indoor"]
    assert all(each["iscrowd"] for each in truth["annotations"])
    assert [image["file_name"] for image in run("--part", "train")["images"]] == ["2015_0.png", "2015_2.png"]
    assert [image["file_name"] for image in run("--part", "test")["images"]] == ["2015_1.png"]
    assert annotations(*command[:-2], "--part", "val") == 2
    assert "needs the list of the parts" in capsys.readouterr().err
    for line, message in (
        ("2015_3.png 6 11 1 1", "6: Light must be from 1 to 10, got 11"),
        ("2015_3.png 6 1 1", "6: expected 4 values"),
        ("2015_0.jpg 6 1 1 1", "6: 2015_0 is listed a second time"),
    ):
        listed = names.read_text()
        write_text(names, listed + line + "\n")
        assert annotations(*command) == 2
        assert f"{names}:{message}" in capsys.readouterr().err
        write_text(names, listed)
    write_text(names, head + "2015_0.png 6 1 1 1\n")
    assert annotations(*command) == 2
    assert f"2015_1.png: the picture is not listed in {names}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "Cat 1 1 4 4 0 0 0 0 0 0 0\n"])
def test_a_text_of_exdark_without_its_header_is_refused(tmp_path, text):
    write_picture(tmp_path / "images" / "a.png")
    write_text(tmp_path / "bbGt" / "a.txt", text)
    with pytest.raises(ValueError, match=r"a\.txt:1: expected '% bbGt version=3'"):
        convert(exdark(tmp_path / "images", tmp_path / "bbGt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected 1 values"),
        ("2\n1 1 4 4\n", "1: the number of faces is 2, but 1 lines follow"),
        ("1\n1 1 4 4\n1 1 4 4\n", "1: the number of faces is 1, but 2 lines follow"),
        ("1 1 4 4\n", "1: expected 1 values"),
    ],
)
def test_the_number_of_dark_faces_is_checked(tmp_path, text, message):
    write_picture(tmp_path / "images" / "1.png")
    write_picture(tmp_path / "images" / "2.png")
    write_text(tmp_path / "labels" / "1.txt", text)
    write_text(tmp_path / "labels" / "2.txt", "0\n")
    labels = darkface(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(ValueError, match=re.escape(f"1.txt:{message}")):
        convert(labels)
    problems = Problems(skip_bad=True)
    assert [image["file_name"] for image in to_coco(labels, problems)["images"]] == ["2.png"]
    assert len(problems.skipped) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./a/1.png 2 1 1 4 4 1\n", "1: the number of faces is 2, but 1 follow"),
        ("./a/1.png\n", "1: the number of faces is missing, but 0 follow"),
        ("./a/1.png 1 1 1 4 4\n", "1: expected 5 values"),
        ("./a/1.png 1 1 1 x 4 1\n", "1: width must be a whole number"),
        ("./a/1.png 0\n./b/1.png 0\n", "2: ./b/1.png is listed a second time, after line 1"),
    ],
)
def test_pseudo_labels_are_checked(tmp_path, text, message):
    write_picture(tmp_path / "images" / "1.png")
    write_text(tmp_path / "list.txt", text)
    with pytest.raises(ValueError, match=re.escape(f"list.txt:{message}")):
        convert(darkface(tmp_path / "images", tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg\n", "2: expected the number of faces of a.jpg, got the end of the file"),
        ("a.jpg\nb\n", "2: expected the number of faces of a.jpg, got 'b'"),
        ("0/a.jpg\n2\n1 1 4 4 0 0 0 0 0 0\n", "4: 0/a.jpg has 2 faces by the number in line 2, but fewer lines follow"),
        (
            "0/a.jpg\n2\n1 1 4 4 0 0 0 0 0 0\n0/b.jpg\n0\n",
            "4: 0/a.jpg has 2 faces by the number in line 2, but fewer lines follow",
        ),
        ("a.jpg\n0\na.jpg\n0\n", "3: a.jpg is listed a second time, after line 1"),
        ("a.jpg\n1\n1 1 4 4 0 0 0 0 0 0\n1 1 4 4 0 0 0 0 0 0\n", "5: expected the number of faces of 1 1 4 4"),
    ],
)
def test_the_order_of_lines_in_a_wider_face_list_is_checked(tmp_path, text, message):
    write_picture(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "list.txt", text)
    with pytest.raises(ValueError, match=re.escape(f"list.txt:{message}")):
        convert(wider_face(tmp_path / "images", tmp_path / "list.txt"))


def test_class_names_are_read_from_text_and_yaml(tmp_path):
    write_text(tmp_path / "names.txt", "car\n\nbig bus\n")
    write_text(tmp_path / "data.yaml", "nc: 2\nnames: [car, big bus]\n")
    write_text(tmp_path / "map.yml", "names:\n  1: big bus\n  0: car\n")
    for given_ in (["car", "big bus"], *([str(tmp_path / n)] for n in ("names.txt", "data.yaml", "map.yml"))):
        assert class_names(given_) == ["car", "big bus"]
    assert class_names(["face"]) == ["face"]
    for text, message in (
        ("names: 3\n", "must be a list"),
        ("names: {0: a, 2: b}\n", "must be a list"),
        ("path: x\n", "got nothing"),
        ("names: " + "[" * 5000, "is not YAML"),
        ("names: [2024-13-45]\n", "is not YAML"),
        # The aliases would expand a few lines to 10^9 names.
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
                for old, new in zip("abcdefgh", "bcdefghi", strict=True)
            )
            + "names: *i\n",
            "must be a list of names",
        ),
        ("names: [", "is not YAML"),
        ("names: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        ("names: [a, a]\n", "class 'a' is given twice"),
        ("names: []\n", "no names"),
    ):
        write_text(tmp_path / "data.yaml", text)
        with pytest.raises(ValueError, match=message) as error:
            class_names([str(tmp_path / "data.yaml")])
        assert "data.yaml" in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        class_names(["absent.txt"])
    with pytest.raises(ValueError, match="'a' is given twice"):
        yolo(tmp_path, tmp_path, ["a", "a"])


def test_pycocotools_and_mmdetection_read_the_result(drones, capsys):
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from mmdet.datasets import CocoDataset
    from pycocotools.coco import COCO

    import llie_preproc  # noqa: F401

    root, _ = drones
    assert annotations("visdrone", root, "--out", root / "truth.json") == 0
    assert "truth.json: 2 images, 1 boxes, 11 crowd boxes\n  pedestrian: 1\n  people: 0\n" in capsys.readouterr().out
    coco = COCO(str(root / "truth.json"))
    assert len(coco.getAnnIds(iscrowd=True)) == 11
    assert coco.loadCats(coco.getCatIds())[8]["name"] == "bus"
    dataset = CocoDataset(
        ann_file=str(root / "truth.json"), data_prefix=dict(img=str(root / "images")), metainfo=dict(classes=CLASSES),
        pipeline=[], test_mode=True,
    )  # fmt: skip
    first = dataset.get_data_info(0)
    assert Path(first["img_path"]).is_file()
    plain = [each for each in first["instances"] if not each["ignore_flag"]]
    assert [(each["bbox"], each["bbox_label"]) for each in plain] == [([1, 2, 11, 12], 0)]
    assert len(first["instances"]) == 12
    assert dataset.get_data_info(1)["instances"] == []
