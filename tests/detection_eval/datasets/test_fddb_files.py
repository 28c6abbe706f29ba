"""``datasets/fddb.py`` reads and writes the files of FDDB, and an error names the file and the line that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detection_eval.datasets.fddb import (
    FddbDetections,
    FddbTruth,
    from_faces,
    picture_sizes,
    read_detections,
    read_fddb,
    read_sizes,
    write_detections,
)
from llie_preproc.errors import ImageError
from llie_preproc.faces import Faces

GOOD = "2002/a\n2\n8.5 6 -0.5 20 15  1\n3 2 1.5 4 5 1\n2002/b\n1\n1 1 0 0 0 1\n"


def fold_file(folder, text, fold=1):
    path = folder / f"FDDB-fold-{fold:02d}-ellipseList.txt"
    path.write_text(text)
    return path


def test_the_published_files_are_read_whole(shared_data):
    folder = shared_data / "faces" / "fddb"
    truth = read_fddb(folder / "FDDB-folds")
    assert (len(truth), truth.faces) == (2845, 5171)
    assert next(iter(truth.ellipses)) == (folder / "FDDB-folds" / "FDDB-fold-01.txt").read_text().split()[0]
    assert [1, 1, 0, 0, 0] in truth.ellipses["2002/07/24/big/img_67"].tolist()
    for fold in range(1, 11):
        listed = folder / "FDDB-folds" / f"FDDB-fold-{fold:02d}.txt"
        if listed.is_file():
            assert [name for name, own in truth.folds.items() if own == fold] == listed.read_text().split()
    sizes = picture_sizes(truth, table=folder / "image_sizes.csv")
    assert list(sizes) == list(truth.ellipses)
    assert {max(size) for size in sizes.values()} == {409, 410, 449, 450}
    found = read_detections(folder / "official" / "MTCNN")
    assert list(found) == list(truth.ellipses)
    assert sum(map(len, found.values())) == 4884
    assert sum(len(each) == 0 for each in found.values()) == 2


def test_pictures_are_in_the_order_of_their_folds(tmp_path):
    fold_file(tmp_path, GOOD, 4)
    fold_file(tmp_path, "2001/z\n0\n\n", 2)
    truth = read_fddb(str(tmp_path), [4, 2])
    assert truth.folds == {"2001/z": 2, "2002/a": 4, "2002/b": 4}
    assert list(truth.folds) == list(truth.ellipses)
    assert truth.ellipses["2002/a"].tolist() == [[8.5, 6, -0.5, 20, 15], [3, 2, 1.5, 4, 5]]
    assert truth.ellipses["2001/z"].shape == (0, 5)
    assert truth.only([2]).folds == {"2001/z": 2}
    with pytest.raises(FileNotFoundError, match="FDDB-fold-01"):
        read_fddb(tmp_path)
    for folds in ([], [0], [11, 2]):
        with pytest.raises(ValueError, match="1 to 10"):
            read_fddb(tmp_path, folds)


BAD_LAYOUT = [
    ("{n}\n", "2: expected the number of faces of {n}, got 'the end of the file'"),
    ("{n}\ntwo\n", "2: expected the number of faces of {n}, got 'two'"),
    ("{n}\n-1\n", "2: expected the number of faces of {n}, got '-1'"),
    ("{n}\n2\n{row}\n", "4: {n} has 2 faces by the number in line 2, but fewer lines follow"),
    ("{n}\n2\n{row}\n{m}\n0\n", "4: {n} has 2 faces by the number in line 2, but fewer lines follow"),
    ("{n}\n1\n{row}\n{row}\n", "4: expected the name of a picture, got"),
    ("{n}\n0\n{n}\n0\n", "3: {n} is listed a second time, after"),
    ("{n}\n\n1\n\n{row} 7 8\n", "5: expected"),
]


@pytest.mark.parametrize(("text", "message"), BAD_LAYOUT)
@pytest.mark.parametrize("kind", ["annotations", "detections"])
def test_bad_layouts_name_file_and_line(tmp_path, text, message, kind):
    names = dict(n="2002/08/big/img_1", m="2002/08/big/img_2", row="8 6 0.5 20 15 1")
    path = fold_file(tmp_path, text.format(**names))
    with pytest.raises(ValueError) as error:
        read_fddb(tmp_path, [1]) if kind == "annotations" else read_detections(path)
    assert f"{path}:{message.format(**names)}" in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("8 6 0.5 20 15", "expected 6 values"),
        ("8 6 0.5 20 x 1", "center_y must be a number, got 'x'"),
        ("8 nan 0.5 20 15 1", "minor_radius must be a number, got 'nan'"),
        ("8 6 inf 20 15 1", "angle must be a number, got 'inf'"),
        ("8 -6 0.5 20 15 1", "radii must not be negative, got 8.0 and -6.0"),
        ("8 6 0.5 20 15 0.93", "label at the end of an annotation must be 1, got 0.93"),
        ("8 6 0.5 2_0 15 1", "center_x must be a number, got '2_0'"),
    ],
)
def test_bad_annotations_name_file_and_line(tmp_path, row, message):
    path = fold_file(tmp_path, f"a\n1\n8 6 0 20 15 1\nb\n2\n1 1 0 5 5 1\n{row}\n")
    with pytest.raises(ValueError) as error:
        read_fddb(tmp_path, [1])
    assert str(error.value).startswith(f"{path}:7: ")
    assert message in str(error.value)


def test_a_picture_in_two_folds_is_refused(tmp_path):
    paths = [fold_file(tmp_path, GOOD, fold) for fold in (1, 2)]
    with pytest.raises(ValueError) as error:
        read_fddb(tmp_path, [1, 2])
    assert str(error.value) == f"{paths[1]}:1: 2002/a is listed a second time, after {paths[0]}:1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 2 3 4", "expected 5 (left top width height score) or 6"),
        ("1 2 3 4 5 6 7", "expected 5 (left top width height score) or 6"),
        ("1 2 -3 4 0.5", "width and height must not be negative, got -3.0 and 4.0"),
        ("1 2 3 4 inf", "score must be a number, got 'inf'"),
        ("nan 2 3 4 1", "left must be a number, got 'nan'"),
        ("-1 2 3 4 5 0.5", "radii must not be negative"),
    ],
)
def test_bad_detections_name_file_and_line(tmp_path, row, message):
    path = tmp_path / "fold-03-out.txt"
    path.write_text(f"a\n0\nb\n1\n{row}\n")
    with pytest.raises(ValueError) as error:
        read_detections(tmp_path)
    assert str(error.value).startswith(f"{path}:5: ")
    assert message in str(error.value)


def test_rectangles_and_ellipses_are_read_from_a_folder(tmp_path):
    (tmp_path / "fold-01-out.txt").write_bytes(b"a\r\n2\r\n-1.5 2 3.25 0 1e-3\r\n1 2 3 4 -7\r\n")
    (tmp_path / "fold-10-out.txt").write_text("b\n1\n8 6 0.5 20 15 0.25\nc\n0\n")
    found = read_detections(tmp_path)
    assert list(found) == ["a", "b", "c"]
    assert found["a"].shapes.tolist() == [[-1.5, 2, 3.25, 0], [1, 2, 3, 4]]
    assert found["a"].scores.tolist() == [1e-3, -7]
    assert [each.elliptic for each in found.values()] == [False, True, False]
    assert found["b"].shapes.tolist() == [[8, 6, 0.5, 20, 15]]
    assert (found["b"].scores.tolist(), len(found["c"])) == ([0.25], 0)
    mixed = tmp_path / "mixed.txt"
    mixed.write_text("a\n0\nb\n2\n8 6 0.5 20 15 0.25\n1 2 3 4 0.5\n")
    with pytest.raises(ValueError) as error:
        read_detections(mixed)
    assert str(error.value).startswith(f"{mixed}:3: b has both rectangles and ellipses")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no detections"):
        read_detections(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        read_detections(tmp_path / "absent.txt")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_detections_are_read_back_to_the_last_digit(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    faces = {}
    for name in ("2002/b", "2002/a"):
        corners = rng.normal(0, 200, (int(rng.integers(0, 4)), 2))
        boxes = np.hstack([corners, corners + rng.uniform(0, 90, corners.shape)]).astype(np.float32)
        faces[name] = Faces(boxes, (1 - rng.random(len(boxes)) * 1e-6).astype(np.float32))
    path = tmp_path_factory.mktemp("written") / "found.txt"
    write_detections(path, faces)
    found = read_detections(path)
    assert list(found) == list(faces)
    for name, each in faces.items():
        assert found[name].shapes.tolist() == from_faces(each).shapes.tolist()
        assert found[name].scores.astype(np.float32).tolist() == each.scores.tolist()


def test_detections_that_cannot_be_read_back_are_not_written(tmp_path):
    bad = Faces(np.array([[0, 0, np.nan, 5]], np.float32), np.ones(1, np.float32))
    with pytest.raises(ValueError, match=r"2002/a: detections\[0\]"):
        write_detections(tmp_path / "f", {"2002/a": bad})
    for name in ("img 1", "", " a"):
        with pytest.raises(ValueError, match="white space"):
            write_detections(tmp_path / "f", {name: Faces.none()})
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("shapes", "scores", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2), r"\(2, 3\)"),
        (np.zeros((2, 4)), np.zeros(3), r"\(3,\)"),
        (np.zeros((2, 4)), np.array([0, np.nan]), r"detections\[1\]: score"),
        (np.array([[0, 0, 1, -1.0]]), np.ones(1), r"detections\[0\]: .*-1"),
        (np.array([[0, 0, np.inf, 1.0]]), np.ones(1), r"detections\[0\]: .*inf"),
        (np.array([[1, -2, 0, 0, 0.0]]), np.ones(1), r"detections\[0\]: .*-2"),
    ],
)
def test_invalid_detections_are_refused(shapes, scores, message):
    with pytest.raises(ValueError, match=message):
        FddbDetections(shapes, scores)


def test_invalid_annotations_are_refused():
    with pytest.raises(ValueError, match="b: each picture must be"):
        FddbTruth({"a": np.zeros((0, 5))}, {"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"a: ellipses must be \(n, 5\), got \(1, 4\)"):
        FddbTruth({"a": np.zeros((1, 4))}, {"a": 1})
    with pytest.raises(ValueError, match=r"a\[0\]: .*nan"):
        FddbTruth({"a": np.full((1, 5), np.nan)}, {"a": 1})


@pytest.fixture
def pictures(tmp_path):
    """The annotations of two pictures, a folder that holds the first of them, and a table with the sizes of both."""
    fold_file(tmp_path, GOOD)
    (tmp_path / "images" / "2002").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "2002" / "a.jpg")
    (tmp_path / "sizes.csv").write_text("image,width,height\n2002/a,40,30\n2002/b,50,60\n2002/c,1,1\n\n")
    return read_fddb(tmp_path, [1]), tmp_path / "images", tmp_path / "sizes.csv"


def test_sizes_come_from_pictures_or_a_table(pictures):
    truth, images, table = pictures
    assert picture_sizes(truth) == {}
    assert picture_sizes(truth, images) == {"2002/a": (40, 30)}
    both = {"2002/a": (40, 30), "2002/b": (50, 60)}
    assert picture_sizes(truth, images, table) == picture_sizes(truth, None, str(table)) == both


def test_sizes_that_disagree_are_refused(pictures):
    truth, images, table = pictures
    Image.new("RGB", (80, 60)).save(images / "2002" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is 80x60, but .*sizes\.csv says 40x30"):
        picture_sizes(truth, images, table)
    (images / "2002" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        picture_sizes(truth, images)
    with pytest.raises(FileNotFoundError, match=r"none of the 2 pictures, such as 2002/a\.jpg"):
        picture_sizes(truth, images / "2002")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected the head image,width,height"),
        ("image,height,width\n", "1: expected the head image,width,height, got image,height,width"),
        ("image,width,height\na,1\n", "2: expected 3 values"),
        ("image,width,height\na,1,2.5\n", "2: height must be a whole number, got '2.5'"),
        ("image,width,height\na,1,2\nb,0,2\n", "3: width and height must be at least 1, got 0 and 2"),
        ("image,width,height\na,1,2\na,1,2\n", "3: a is listed a second time"),
    ],
)
def test_bad_tables_of_sizes_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_sizes(path)
    assert f"{path}:{message}" in str(error.value)
