"""``llie annotations`` converts one line of every format, and an error names the file and the line that is bad."""

import json

import pytest
from PIL import Image

from tests.support.made_annotations import (
    EXDARK_HEADER,
    HEIGHT,
    WIDTH,
    annotations,
    boxes_of,
    write_picture,
    write_text,
)


class Format:
    """A set of one picture, a.jpg, in the format ``name``; ``write`` writes its annotation from the given lines."""

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
        status = annotations(self.name, *sources, "--out", out, *options)
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


def test_one_line_of_each_format_is_converted(made):
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


def test_a_picture_without_annotation_and_an_annotation_without_picture_are_named(made, capsys):
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
def test_a_line_that_is_not_utf8_is_named(made, mark, capsys):
    made.write(made.good)
    before = made.text.read_bytes()
    made.text.write_bytes(mark + before + b"caf\xe9\n")
    assert made.run() == (2, None)
    line = before.count(b"\n") + 1
    assert capsys.readouterr().err.startswith(f"llie: error: {made.text}:{line}: not UTF-8 text (")


@pytest.mark.parametrize("name", [name for name in GOOD if name != "wider-face"])
def test_the_suffix_of_an_annotation_may_be_upper_case(name, tmp_path):
    made = Format(tmp_path, name, GOOD[name][0])
    made.write(made.good)
    made.text.rename(made.text.with_suffix(".TXT"))
    status, truth = made.run()
    assert (status, len(boxes_of(truth))) == (0, 1)


def test_a_folder_without_annotations_is_refused(tmp_path, capsys):
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


def test_boxes_that_leave_the_picture_are_clipped_kept_or_refused(made, capsys):
    made.write(out_of_bounds(made.name, -4, 40, 20, 16), made.good)
    status, truth = made.run()
    assert status == 0
    assert boxes_of(truth)[0][1:] == pytest.approx((0, 40, 16, 8))
    assert truth["annotations"][0]["area"] == pytest.approx(128)
    assert "1 boxes clipped to the picture" in capsys.readouterr().out
    _, truth = made.run("--out-of-bounds", "keep")
    assert boxes_of(truth)[0][1:] == pytest.approx((-4, 40, 20, 16))
    assert "1 boxes kept although they leave the picture" in capsys.readouterr().out
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
    # Both boxes touch the picture's edge from outside.
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


def test_a_box_that_is_outside_only_by_rounding_is_not_out_of_bounds(tmp_path, capsys):
    made = Format(tmp_path, "yolo", GOOD["yolo"][0])
    made.write("0 0.0834 0.5 0.1669 1.0000001", made.good)
    status, truth = made.run("--out-of-bounds", "error")
    assert status == 0
    x, y, width, height = truth["annotations"][0]["bbox"]
    assert (x, y) == (0, 0)
    assert x + width == pytest.approx(0.16685 * WIDTH)
    assert height <= HEIGHT
    assert "clipped" not in capsys.readouterr().out


def test_sizes_follow_the_exif_orientation_as_in_mmcv(made):
    mmcv = pytest.importorskip("mmcv", reason="needs the extra 'mm'")
    exif = Image.Exif()
    exif[274] = 6
    write_picture(made.picture, exif=exif)
    made.write(made.good)
    _, truth = made.run()
    height, width = mmcv.imread(str(made.picture)).shape[:2]
    assert (truth["images"][0]["width"], truth["images"][0]["height"]) == (width, height) == (HEIGHT, WIDTH)
