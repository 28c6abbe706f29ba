"""``llie annotations``: every format, its checks, and the splits."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detection_eval.datasets.coco import to_coco
from detection_eval.datasets.formats.darkface import darkface
from detection_eval.datasets.formats.exdark import exdark
from detection_eval.datasets.formats.visdrone import CLASSES, visdrone
from detection_eval.datasets.formats.wider_face import wider_face
from detection_eval.datasets.formats.yolo import class_names, yolo
from detection_eval.datasets.labels import Problems
from detection_eval.datasets.splits import Split
from llie_preproc.commands.llie import main

WIDTH, HEIGHT = 64, 48
EXDARK_HEADER = "% bbGt version=3\n"


def write_picture(path, size=(WIDTH, HEIGHT), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def boxes_of(truth, file_name=None):
    ids = {image["id"] for image in truth["images"] if file_name in (None, image["file_name"])}
    return [(each["category_id"], *each["bbox"]) for each in truth["annotations"] if each["image_id"] in ids]


# One picture of each format, 'a', whose annotation is the line that is given.
class Format:
    def __init__(self, root, name, good):
        self.root, self.name, self.good = root, name, good
        self.picture = root / "images" / "a.jpg"
        write_picture(self.picture)

    @property
    def text(self):
        return {
            "visdrone": self.root / "annotations" / "a.txt",
            "wider-face": self.root / "list.txt",
        }.get(self.name, self.root / "labels" / "a.txt")

    def write(self, *lines):
        before = {
            "exdark": EXDARK_HEADER,
            "darkface": f"{len(lines)}\n",
            "wider-face": f"a.jpg\n{len(lines)}\n",
        }.get(self.name, "")
        write_text(self.text, before + "".join(f"{line}\n" for line in lines))

    @property
    def first_line(self):
        return {"exdark": 2, "darkface": 2, "wider-face": 3}.get(self.name, 1)

    def run(self, *options):
        out = self.root / "out.json"
        sources = {
            "visdrone": [self.root],
            "wider-face": [self.root / "images", self.text],
            "yolo": [self.root / "images", self.text.parent, "--classes", "car", "bus"],
        }.get(self.name, [self.root / "images", self.text.parent])
        status = main(["annotations", self.name, *map(str, sources), "--out", str(out), *options])
        return status, json.loads(out.read_text()) if out.exists() else None


GOOD = {
    "visdrone": ("10,5,20,8,1,4,0,1", (4, 10, 5, 20, 8)),
    "exdark": ("Bus 10 5 20 8 0 0 0 0 0 0 0", (4, 10, 5, 20, 8)),
    "darkface": ("10 5 29 12", (1, 10, 5, 20, 8)),
    "wider-face": ("10 5 20 8 0 0 0 0 0 0", (1, 10, 5, 20, 8)),
    "yolo": ("1 0.3125 0.1875 0.3125 0.16666667", (2, 10, 5, 20, 8)),
}


@pytest.fixture(params=GOOD)
def made(request, tmp_path):
    return Format(tmp_path, request.param, GOOD[request.param][0])


BAD = [
    ("visdrone", "10,5,20,8,1,4,0", "expected 8 values"),
    ("visdrone", "10,5,20,8,1,4,0,1,2", "expected 8 values"),
    ("visdrone", "10,5,x,8,1,4,0,1", "width must be a whole number, got 'x'"),
    ("visdrone", "10,5,1_0,8,1,4,0,1", "width must be a whole number, got '1_0'"),
    ("visdrone", "10,5,,8,1,4,0,1", "width must be a whole number, got ''"),
    ("visdrone", f"{'9' * 400},5,20,8,1,4,0,1", "left must be a whole number, got '9999"),
    ("darkface", f"10 5 {'9' * 5000} 12", "x2 must be a whole number, got '9999"),
    ("visdrone", "10,5,-20,8,1,4,0,1", "must not be negative"),
    ("visdrone", "10,5,20,8,1,12,0,1", "unknown category 12"),
    ("visdrone", "10,5,20,8,1,-1,0,1", "unknown category -1"),
    ("visdrone", "10,5,20,8,0.9,4,0,1", "score must be a whole number"),
    ("visdrone", "10,5,20,8,7,4,0,1", "score must be 0 or 1"),
    ("exdark", "Lorry 10 5 20 8 0 0 0 0 0 0 0", "unknown class 'Lorry'"),
    ("exdark", "Bus 10 5 20 8", "expected 11 values"),
    ("exdark", "Bus 10 5 nan 8 0 0 0 0 0 0 0", "width must be a number, got 'nan'"),
    ("exdark", "Bus 10 5 20 -8 0 0 0 0 0 0 0", "must not be negative"),
    ("darkface", "10 5 29", "expected 4 values"),
    ("darkface", "10 5 9 12", "x2 and y2 must not be less"),
    ("darkface", "10 5 9.5 12", "x2 must be a whole number"),
    ("wider-face", "10 5 20 8", "expected 10 values"),
    ("wider-face", "10 5 20 -8 0 0 0 0 0 0", "must not be negative"),
    ("yolo", "2 0.3 0.2 0.3 0.1", "unknown class 2, expected 0 to 1: car, bus"),
    ("yolo", "-1 0.3 0.2 0.3 0.1", "unknown class -1"),
    ("yolo", "0.5 0.3 0.2 0.3 0.1", "class must be a whole number"),
    ("yolo", "1 1.3 0.2 0.3 0.1", "cx must be a fraction"),
    ("yolo", "1 0.3 0.2 -0.3 0.1", "width must be a fraction"),
    ("yolo", "1 0.3 0.2 0.3", "expected 4 values"),
    ("yolo", "1 0.3 0.2 inf 0.1", "width must be a number, got 'inf'"),
]


def test_one_line_of_each_format(made):
    made.write(made.good)
    status, truth = made.run()
    assert status == 0
    (box,) = boxes_of(truth)
    assert box == pytest.approx(GOOD[made.name][1], abs=1e-5)
    assert truth["annotations"][0]["area"] == pytest.approx(160, abs=1e-4)
    assert truth["images"][0] | {"visdrone_rows": 0} == {
        "id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT, "visdrone_rows": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "line", "message"), BAD)
def test_a_bad_line_is_named_or_skipped(name, line, message, tmp_path, capsys):
    made = Format(tmp_path, name, GOOD[name][0])
    made.write(made.good, line)
    assert made.run() == (2, None)
    err = capsys.readouterr().err
    where = f"{made.text}:{made.first_line + 1}: "
    assert err.startswith(f"llie: error: {where}")
    assert message in err
    assert err.count("\n") == 1
    status, truth = made.run("--skip-bad")
    assert status == 0
    assert len(boxes_of(truth)) == 1
    out, err = capsys.readouterr()
    assert "1 bad lines or files skipped" in out
    assert where in err
    assert message in err


def test_a_picture_or_an_annotation_alone_is_named(made, capsys):
    made.write(made.good)
    write_picture(made.root / "images" / "b.jpg")
    if made.name == "yolo":
        status, truth = made.run()
        assert (status, len(truth["images"]), boxes_of(truth, "b.jpg")) == (0, 2, [])
    else:
        assert made.run() == (2, None)
        assert "b.jpg: the picture has no annotation" in capsys.readouterr().err
        status, truth = made.run("--skip-bad")
        assert (status, [image["file_name"] for image in truth["images"]]) == (0, ["a.jpg"])
        assert "b.jpg: the picture has no annotation" in capsys.readouterr().err
    (made.root / "images" / "b.jpg").rename(made.root / "images" / "c.jpg")
    made.picture.unlink()
    assert made.run()[0] == 2
    assert str(made.text) in capsys.readouterr().err


def test_many_that_are_missing_are_counted(many, capsys):
    for text in sorted((many / "annotations").iterdir())[:8]:
        text.unlink()
    assert main(["annotations", "visdrone", str(many), "--out", str(many / "set.json")]) == 2
    err = capsys.readouterr().err
    assert err.count("the picture has no annotation") == 5
    assert err.endswith("; and 3 more\n")
    assert main(["annotations", "visdrone", str(many), "--out", str(many / "set.json"), "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert "8 bad lines or files skipped" in out
    assert err.count("the picture has no annotation") == 8


def test_a_damaged_picture_is_named(made, capsys):
    made.write(made.good)
    made.picture.write_bytes(b"nothing")
    assert made.run() == (2, None)
    assert str(made.picture) in capsys.readouterr().err
    assert made.run("--skip-bad") == (2, None)
    err = capsys.readouterr().err
    assert f"no picture below {made.root / 'images'} is left to convert; 1 bad lines or files skipped: " in err
    assert str(made.picture) in err


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_annotation_that_is_no_text_is_named(made, mark, capsys):
    made.write(made.good)
    before = made.text.read_bytes()
    made.text.write_bytes(mark + before + b"caf\xe9\n")
    assert made.run() == (2, None)
    line = before.count(b"\n") + 1
    assert capsys.readouterr().err.startswith(f"llie: error: {made.text}:{line}: no UTF-8 text (")


@pytest.mark.parametrize("name", [name for name in GOOD if name != "wider-face"])
def test_the_case_of_a_suffix_is_of_no_account(name, tmp_path):
    made = Format(tmp_path, name, GOOD[name][0])
    made.write(made.good)
    made.text.rename(made.text.with_suffix(".TXT"))
    status, truth = made.run()
    assert (status, len(boxes_of(truth))) == (0, 1)


def test_a_folder_without_texts_is_no_set_without_objects(tmp_path, capsys):
    made = Format(tmp_path, "yolo", GOOD["yolo"][0])
    write_text(tmp_path / "labels" / "classes.txt", "car\n")
    assert made.run() == (2, None)
    assert f"no annotation, NAME.txt, below {tmp_path / 'labels'}" in capsys.readouterr().err


def test_a_missing_folder_is_named(made, capsys):
    made.write(made.good)
    made.picture.unlink()
    made.picture.parent.rmdir()
    assert made.run() == (2, None)
    assert str(made.root) in capsys.readouterr().err


def test_two_pictures_of_one_name_are_an_error(made, capsys):
    made.write(made.good)
    write_picture(made.root / "images" / "a.png")
    assert made.run() == (2, None)
    err = capsys.readouterr().err
    assert "a.png" in err
    if made.name != "wider-face":
        assert "a.jpg" in err


def out_of_bounds(name, x, y, width, height):
    if name == "yolo":
        return f"1 {(x + width / 2) / WIDTH} {(y + height / 2) / HEIGHT} {width / WIDTH} {height / HEIGHT}"
    corners = f"{x} {y} {x + width - 1} {y + height - 1}"
    return {
        "visdrone": f"{x},{y},{width},{height},1,4,0,0",
        "exdark": f"Bus {x} {y} {width} {height} 0 0 0 0 0 0 0",
        "darkface": corners,
        "wider-face": f"{x} {y} {width} {height} 0 0 0 0 0 0",
    }[name]


def test_boxes_that_leave_the_picture(made, capsys):
    made.write(out_of_bounds(made.name, -4, 40, 20, 16), made.good)
    status, truth = made.run()
    assert status == 0
    assert boxes_of(truth)[0][1:] == pytest.approx((0, 40, 16, 8))
    assert truth["annotations"][0]["area"] == pytest.approx(128)
    assert "1 boxes clipped to the picture" in capsys.readouterr().out
    _, truth = made.run("--out-of-bounds", "keep")
    assert boxes_of(truth)[0][1:] == pytest.approx((-4, 40, 20, 16))
    assert "1 boxes that leave the picture kept" in capsys.readouterr().out
    (made.root / "out.json").unlink()
    assert made.run("--out-of-bounds", "error") == (2, None)
    err = capsys.readouterr().err
    assert "leaves the picture of 64x48" in err
    assert err.startswith(f"llie: error: {made.text}:{made.first_line}: box -4 40 20 16 leaves")
    status, truth = made.run("--out-of-bounds", "error", "--skip-bad")
    assert (status, len(boxes_of(truth))) == (0, 1)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "yolo"])
def test_boxes_wholly_outside_are_left_out(name, tmp_path, capsys):
    made = Format(tmp_path, name, GOOD[name][0])
    # They touch the picture's edge.
    made.write(out_of_bounds(name, WIDTH, 4, 8, 8), out_of_bounds(name, -8, 4, 8, 8), made.good)
    _, truth = made.run()
    assert len(boxes_of(truth)) == 1
    assert "2 boxes wholly outside the picture left out" in capsys.readouterr().out
    _, truth = made.run("--out-of-bounds", "keep")
    assert len(boxes_of(truth)) == 3


@pytest.mark.parametrize("name", [name for name in GOOD if name != "darkface"])
def test_boxes_of_no_size_are_left_out(name, tmp_path, capsys):
    made = Format(tmp_path, name, GOOD[name][0])
    made.write(out_of_bounds(name, 4, 4, 0, 8), out_of_bounds(name, 4, 4, 8, 0), made.good)
    _, truth = made.run()
    assert len(boxes_of(truth)) == 1
    assert "2 boxes of no size left out" in capsys.readouterr().out


def test_rounding_leaves_no_box_out_of_bounds(tmp_path, capsys):
    made = Format(tmp_path, "yolo", GOOD["yolo"][0])
    made.write("0 0.0834 0.5 0.1669 1.0000001", made.good)
    status, truth = made.run("--out-of-bounds", "error")
    assert status == 0
    x, y, width, height = truth["annotations"][0]["bbox"]
    assert (x, y) == (0, 0)
    assert x + width == pytest.approx(0.16685 * WIDTH)
    assert height <= HEIGHT
    assert "clipped" not in capsys.readouterr().out


def test_the_frame_is_that_of_mmdetection(made):
    mmcv = pytest.importorskip("mmcv", reason="needs the extra 'mm'")
    exif = Image.Exif()
    exif[274] = 6
    write_picture(made.picture, exif=exif)
    made.write(made.good)
    _, truth = made.run()
    height, width = mmcv.imread(str(made.picture)).shape[:2]
    assert (truth["images"][0]["width"], truth["images"][0]["height"]) == (width, height) == (HEIGHT, WIDTH)


# Made boxes, written in each format.
BOXES = st.lists(
    st.builds(
        lambda c, x, y, w, h: (c, x, y, min(w, WIDTH - x), min(h, HEIGHT - y)),
        st.integers(1, 10), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1),
        st.integers(1, WIDTH), st.integers(1, HEIGHT),
    ),
    max_size=8,
)  # fmt: skip
REUSED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def convert(labels):
    return to_coco(labels, Problems())


@REUSED
@given(BOXES, st.sampled_from(["", ",", ", ", " \t"]), st.booleans())
def test_visdrone_comes_back(tmp_path, boxes, end, windows):
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
def test_exdark_comes_back(tmp_path, boxes):
    names = ["Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike"]
    write_picture(tmp_path / "images" / "Bus" / "2015_00001.png")
    rows = "".join(f"{names[c - 1]} {x} {y} {w} {h} 0 0 0 0 0 0 0\n" for c, x, y, w, h in boxes)
    write_text(tmp_path / "anno" / "Bus" / "2015_00001.png.txt", EXDARK_HEADER + rows)
    assert boxes_of(convert(exdark(tmp_path / "images", tmp_path / "anno"))) == boxes


@REUSED
@given(BOXES)
def test_dark_face_comes_back(tmp_path, boxes):
    write_picture(tmp_path / "image" / "1.png")
    rows = "".join(f"{x} {y} {x + w - 1} {y + h - 1}\n" for _, x, y, w, h in boxes)
    write_text(tmp_path / "label" / "1.txt", f"{len(boxes)}\n{rows}")
    truth = convert(darkface(tmp_path / "image", tmp_path / "label"))
    assert boxes_of(truth) == [(1, *place) for _, *place in boxes]


@REUSED
@given(st.lists(BOXES, min_size=1, max_size=4))
def test_wider_face_comes_back(tmp_path, pictures):
    text = ""
    for number, boxes in enumerate(pictures):
        write_picture(tmp_path / "images" / "0--Parade" / f"{number}.jpg")
        text += f"0--Parade/{number}.jpg\n{len(boxes)}\n"
        # The real lists end their rows in a blank.
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
def test_yolo_comes_back(tmp_path, boxes):
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
    """A picture with every kind of row, and one without any."""
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


def test_rows_of_visdrone(drones):
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


def test_several_splits_of_visdrone(tmp_path, capsys):
    for split in ("VisDrone2019-DET-train", "VisDrone2019-DET-val"):
        write_picture(tmp_path / split / "images" / "a.jpg")
        write_text(tmp_path / split / "annotations" / "a.txt", "1,2,10,10,1,1,0,0\n")
    (tmp_path / "VisDrone2019-DET-test-challenge" / "images").mkdir(parents=True)
    assert main(["annotations", "visdrone", str(tmp_path), "--out", str(tmp_path / "all.json")]) == 0
    truth = json.loads((tmp_path / "all.json").read_text())
    names = [f"VisDrone2019-DET-{split}/images/a.jpg" for split in ("train", "val")]
    assert [image["file_name"] for image in truth["images"]] == names
    assert all((tmp_path / name).is_file() for name in names)
    assert main(["annotations", "visdrone", str(tmp_path / "absent"), "--out", str(tmp_path / "x.json")]) == 2
    assert "holds neither" in capsys.readouterr().err


def test_light_place_and_part_of_exdark(tmp_path, capsys):
    images, texts, names = tmp_path / "images", tmp_path / "bbGt", tmp_path / "imageclasslist.txt"
    for number in range(3):
        write_picture(images / f"2015_{number}.png")
        write_text(texts / f"2015_{number}.txt", EXDARK_HEADER + "Cat 1 1 4 4 0 0 0 0 0 1 0\n")
    head = "Name | Class | Light | In/Out | Train/Val/Test\n"
    write_text(names, head + "2015_0.png 6 1 1 1\n2015_1.JPEG 6 10 2 3\n2015_2.png 6 2 1 1\n2015_9.png 6 2 1 1\n")
    command = [
        "annotations",
        "exdark",
        str(images),
        str(texts),
        "--out",
        str(tmp_path / "out.json"),
        "--list",
        str(names),
    ]

    def run(*options):
        assert main([*command, *options]) == 0
        return json.loads((tmp_path / "out.json").read_text())

    truth = run()
    assert [image["light"] for image in truth["images"]] == ["Low", "Twilight", "Ambient"]
    assert [image["place"] for image in truth["images"]] == ["Indoor", "Outdoor", "Indoor"]
    assert all(each["iscrowd"] for each in truth["annotations"])
    assert [image["file_name"] for image in run("--part", "train")["images"]] == ["2015_0.png", "2015_2.png"]
    assert [image["file_name"] for image in run("--part", "test")["images"]] == ["2015_1.png"]
    assert main([*command[:-2], "--part", "val"]) == 2
    assert "takes the list of the parts" in capsys.readouterr().err
    for line, message in (
        ("2015_3.png 6 11 1 1", "6: Light must be from 1 to 10, got 11"),
        ("2015_3.png 6 1 1", "6: expected 4 values"),
        ("2015_0.jpg 6 1 1 1", "6: 2015_0 is listed a second time"),
    ):
        listed = names.read_text()
        write_text(names, listed + line + "\n")
        assert main(command) == 2
        assert f"{names}:{message}" in capsys.readouterr().err
        write_text(names, listed)
    write_text(names, head + "2015_0.png 6 1 1 1\n")
    assert main(command) == 2
    assert f"2015_1.png: not listed in {names}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "Cat 1 1 4 4 0 0 0 0 0 0 0\n"])
def test_a_text_of_exdark_has_its_header(tmp_path, text):
    write_picture(tmp_path / "images" / "a.png")
    write_text(tmp_path / "bbGt" / "a.txt", text)
    with pytest.raises(ValueError, match=r"a\.txt:1: expected '% bbGt version=3'"):
        convert(exdark(tmp_path / "images", tmp_path / "bbGt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected 1 values"),
        ("2\n1 1 4 4\n", "1: says 2 faces, but 1 lines follow"),
        ("1\n1 1 4 4\n1 1 4 4\n", "1: says 1 faces, but 2 lines follow"),
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
        ("./a/1.png 2 1 1 4 4 1\n", "1: says 2 faces, has 1"),
        ("./a/1.png\n", "1: says no number of faces, has 0"),
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
        ("0/a.jpg\n2\n1 1 4 4 0 0 0 0 0 0\n", "4: fewer lines than the 2 faces"),
        ("0/a.jpg\n2\n1 1 4 4 0 0 0 0 0 0\n0/b.jpg\n0\n", "4: fewer lines than the 2 faces"),
        ("a.jpg\n0\na.jpg\n0\n", "3: a.jpg is listed a second time, after line 1"),
        ("a.jpg\n1\n1 1 4 4 0 0 0 0 0 0\n1 1 4 4 0 0 0 0 0 0\n", "5: expected the number of faces of 1 1 4 4"),
    ],
)
def test_the_order_of_wider_faces_list_is_checked(tmp_path, text, message):
    write_picture(tmp_path / "images" / "a.jpg")
    write_text(tmp_path / "list.txt", text)
    with pytest.raises(ValueError, match=re.escape(f"list.txt:{message}")):
        convert(wider_face(tmp_path / "images", tmp_path / "list.txt"))


def test_names_of_classes(tmp_path):
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
        ("names: " + "[" * 5000, "no YAML"),
        ("names: [2024-13-45]\n", "no YAML"),
        # A list of 10^9 names, in a file of a few lines.
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
                for old, new in zip("abcdefgh", "bcdefghi", strict=True)
            )
            + "names: *i\n",
            "must be a list of names",
        ),
        ("names: [", "no YAML"),
        ("names: !!python/object/apply:os.getcwd []\n", "no YAML"),
        ("names: [a, a]\n", "class 'a' is there twice"),
        ("names: []\n", "no names"),
    ):
        write_text(tmp_path / "data.yaml", text)
        with pytest.raises(ValueError, match=message) as error:
            class_names([str(tmp_path / "data.yaml")])
        assert "data.yaml" in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        class_names(["absent.txt"])
    with pytest.raises(ValueError, match="'a' is there twice"):
        yolo(tmp_path, tmp_path, ["a", "a"])


# Lists and splits.
@pytest.fixture
def many(tmp_path):
    for number in range(20):
        write_picture(tmp_path / "images" / f"{number:02d}.jpg")
        write_text(tmp_path / "annotations" / f"{number:02d}.txt", f"1,2,{number + 1},10,1,1,0,0\n")
    return tmp_path


def split(root, *options):
    assert main(["annotations", "visdrone", str(root), "--out", str(root / "set.json"), "--split", *options]) == 0
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
        (["526", "131"], "takes 657 pictures, there are 20"),
        (["0.01"], "leaves one part empty"),
    ],
)
def test_splits_that_cannot_be(many, sizes, message, capsys):
    assert main(["annotations", "visdrone", str(many), "--out", str(many / "set.json"), "--split", *sizes]) == 2
    assert message in capsys.readouterr().err
    assert not list(many.glob("*.json"))


@given(st.sets(st.text(min_size=1), min_size=4), st.integers(0, 9), st.randoms(use_true_random=False), st.data())
def test_properties_of_a_split(names, seed, shuffle, data):
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
    # printf '0\n0000000.jpg' | sha256sum, and so on for all names, sorted: the last 131.
    assert test[:4] == ["0000004.jpg", "0000010.jpg", "0000011.jpg", "0000013.jpg"]
    random.shuffle(names)
    assert Split((526, 131)).draw(names) == (train, test)
    assert Split((526, 131), seed=1).draw(names)[1] != test


def test_a_list_of_names(many, capsys):
    command = [
        "annotations",
        "visdrone",
        str(many),
        "--out",
        str(many / "set.json"),
        "--names",
        str(many / "names.txt"),
    ]
    write_text(many / "names.txt", "03.jpg\n\n07.JPEG\n05\n")
    (many / "annotations" / "11.txt").unlink()
    assert main(command) == 0
    truth = json.loads((many / "set.json").read_text())
    assert [image["file_name"] for image in truth["images"]] == ["03.jpg", "05.jpg", "07.jpg"]
    capsys.readouterr()
    for text, message in (
        ("03.jpg\nabsent.jpg\n", "names.txt:2: absent.jpg is none of the 20 pictures"),
        ("03.jpg\n03.png\n", f"names.txt:2: 03.png is the picture of {many / 'names.txt'}:1"),
        ("03.jpg\n03.jpg\n", "names.txt:2: 03.jpg is there a second time"),
        ("\n", "there is no name in it"),
    ):
        write_text(many / "names.txt", text)
        assert main(command) == 2
        assert message in capsys.readouterr().err
    write_text(many / "names.txt", "03.jpg\nabsent.jpg\n")
    assert main([*command, "--skip-bad"]) == 0
    assert "absent.jpg is none of" in capsys.readouterr().err
    assert main([*command[:-1], str(many / "no.txt")]) == 2
    assert "no.txt" in capsys.readouterr().err


def test_names_that_several_pictures_have(tmp_path, capsys):
    for folder in ("x", "y"):
        write_picture(tmp_path / "images" / folder / "a.jpg")
    write_text(tmp_path / "labels" / "x" / "a.txt", "")
    write_text(tmp_path / "names.txt", "a.jpg\n")
    command = ["annotations", "yolo", str(tmp_path / "images"), str(tmp_path / "labels"), "--classes", "car"]
    command += ["--out", str(tmp_path / "out.json"), "--names", str(tmp_path / "names.txt")]
    assert main(command) == 2
    assert "a.jpg is several of the 2 pictures" in capsys.readouterr().err
    write_text(tmp_path / "names.txt", "y/a.png\n")
    assert main(command) == 0
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["file_name"] == "y/a.jpg"


def test_the_output_is_no_annotation(many, capsys):
    text = many / "annotations" / "00.txt"
    before = text.read_text()
    assert main(["annotations", "visdrone", str(many), "--out", str(text)]) == 2
    assert "--out must end in .json" in capsys.readouterr().err
    assert text.read_text() == before


# What reads the result.
def test_pycocotools_and_mmdetection_read_the_result(drones, capsys):
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from mmdet.datasets import CocoDataset
    from pycocotools.coco import COCO

    import llie_preproc  # noqa: F401

    root, _ = drones
    assert main(["annotations", "visdrone", str(root), "--out", str(root / "truth.json")]) == 0
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


# Real annotations.
def test_exdark_samples(shared_data, tmp_path, capsys):
    root, out = shared_data / "exdark", tmp_path / "exdark.json"
    command = [
        "annotations",
        "exdark",
        str(root / "images"),
        str(root / "bbGt"),
        "--list",
        str(root / "imageclasslist.txt"),
    ]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 52 images, 186 boxes, 0 crowd boxes\n  Bicycle: 29\n")
    truth = json.loads(out.read_text())
    lines = [line.split() for p in sorted((root / "bbGt").iterdir()) for line in p.read_text().splitlines()[1:]]
    names = {each["id"]: each["name"] for each in truth["categories"]}
    found = [[names[each["category_id"]], *map(str, each["bbox"])] for each in truth["annotations"]]
    assert found == [line[:5] for line in lines]
    numbers = []
    for part in ("train", "val", "test"):
        assert main([*command, "--part", part, "--out", str(out)]) == 0
        numbers.append(len(json.loads(out.read_text())["images"]))
    assert numbers == [46, 1, 5]


def test_visdrone_samples_in_yolo_text(shared_data, tmp_path):
    root = shared_data / "visdrone_samples"
    command = [
        "annotations",
        "yolo",
        str(root / "images"),
        str(root / "labels_yolo"),
        "--out",
        str(tmp_path / "out.json"),
    ]
    assert main([*command, "--classes", "car", "van", "truck", "bus", "motor", "--out-of-bounds", "error"]) == 0
    truth = json.loads((tmp_path / "out.json").read_text())
    assert len(truth["images"]) == 17
    lines = sum(len(path.read_text().splitlines()) for path in (root / "labels_yolo").iterdir())
    assert len(truth["annotations"]) == lines
    # The boxes were whole pixels once.
    edges = np.array([each["bbox"] for each in truth["annotations"]])
    assert np.abs(edges - edges.round()).max() < 0.01


def test_pseudo_labels_of_dark_face(shared_data, tmp_path, capsys):
    root = shared_data / "darkface_samples"
    command = ["annotations", "darkface", str(root), str(root / "dsfd_pseudo_labels.txt")]
    assert main([*command, "--out", str(tmp_path / "out.json")]) == 0
    assert "6 boxes clipped to the picture" in capsys.readouterr().out
    truth = json.loads((tmp_path / "out.json").read_text())
    assert [image["file_name"] for image in truth["images"]][:2] == ["1482.png", "234.png"]
    assert sum(each["pseudo_label"] for each in truth["annotations"]) == 20 + 16 + 20 + 21 + 7 + 35 + 26
    assert (1, 218, 37, 43) not in boxes_of(truth)
    assert (1, 592, 218, 37, 43) in boxes_of(truth, "252.png")
