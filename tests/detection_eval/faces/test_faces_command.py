"""``llie faces``: every data set, with a detector that finds coloured squares; MTCNN in small."""

import io
import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

import llie_preproc  # noqa: F401  before mmdet, which takes mmcv's operators from it where none are compiled

# isort: split
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from scipy import io as scipy_io

from detection_eval.datasets.wider_difficulty import read_darkface_predictions, read_wider_predictions
from detection_eval.faces import detectors
from detection_eval.faces.retention import RetentionScores
from detection_eval.metrics.wider_face import darkface_ap, wider_ap
from detection_eval.shared.enhancers import enhancer_specs
from llie_preproc import build_enhancer
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.faces import Faces
from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.pictures import Picture, write_picture

# Squares of a picture: left, top, right, bottom, the last pixel included. The second one's contrast is the weaker.
SQUARES = {"a": [(10, 10, 29, 29), (60, 20, 89, 49)], "b": [(30, 40, 69, 79)], "c": []}
_STRONG, _WEAK, _GROUND = (220, 120, 110), (190, 130, 120), (120, 120, 110)


class _Squares:
    """Finds patches that are redder than their ground, with the more confidence the redder they are."""

    def __init__(self):
        self.seen = 0
        self.stop_after = None

    def detect(self, images):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return [self._one(image.astype(int)) for image in images]

    def _one(self, image):
        red = image[..., 0] - image[..., 1]
        count, _, boxes, _ = cv2.connectedComponentsWithStats((red > 20).astype(np.uint8))
        found = [(x, y, x + w, y + h, red[y + h // 2, x + w // 2]) for x, y, w, h, _ in boxes[1:count]]
        rows = np.array(found, np.float32).reshape(-1, 5)
        return Faces(rows[:, :4], np.minimum(0.75 + rows[:, 4] / 400, 0.999))


@pytest.fixture
def detector(monkeypatch):
    squares = _Squares()
    monkeypatch.setattr(detectors.DetectorChoice, "_build_base", lambda self: squares)
    return squares


def _draw(path, squares, colours=(_STRONG, _WEAK)):
    image = np.full((100, 120, 3), _GROUND, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(squares):
        image[y1 : y2 + 1, x1 : x2 + 1] = colours[number % 2]
    write_picture(path, Picture(image))


@pytest.fixture
def pictures(tmp_path):
    return _draw_all(tmp_path / "pictures")


def _draw_all(folder):
    for name, squares in SQUARES.items():
        _draw(folder / f"{name}.png", squares)
    return folder


@pytest.fixture
def undo(tmp_path):
    """An enhancer that undoes a shift by 0.1."""
    (tmp_path / "undo.py").write_text("enhancer = dict(type='GammaCorrection', gamma=10.0)")
    return f"undo={tmp_path / 'undo.py'}"


@pytest.fixture
def faces(llie):
    def run(dataset, images, out, *arguments):
        return llie("faces", "--dataset", dataset, "--images", images, "--out", out, *arguments)

    return run


def _rows(out):
    rows = json.loads((out / "results.json").read_text())["rows"]
    return {(r["enhancer"], r["gamma"]): {name: s["value"] for name, s in r["scores"].items()} for r in rows}


def test_a_folder_by_retention(detector, pictures, undo, faces, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = faces("folder", pictures, out, "--enhancer", "none", undo, "--gammas", 0.1, 1, 3)
    assert code == 0
    rows = _rows(out)
    # The weaker square is no reference: its confidence in the unchanged picture is 0.9.
    assert rows["none", 1] == {"found": 1.0, "found sure": 1.0, "unmatched": 0.0}
    assert rows["none", 0.1]["found"] == 0.0
    assert rows["undo", 0.1]["found"] == 1.0
    # Behind the wrong enhancer everything is dark.
    assert rows["undo", 3]["found"] == 0.0
    # Darker pictures have more contrast here: the weaker square now counts, and is not in the reference.
    red = (shift_gamma(np.array([190, 130], np.uint8), 3).astype(int) @ [1, -1]) / 400
    assert 0.75 + red > 0.9
    assert rows["none", 3] == {"found": 1.0, "found sure": 1.0, "unmatched": 0.5}
    results = json.loads((out / "results.json").read_text())
    assert results["faces"] == 2
    assert results["rows"][3]["difference"]["found"]["value"] == 1.0
    assert "| undo | 1.000 | " in printed
    assert printed.startswith((out / "table.md").read_text())
    lines = (out / "table.csv").read_text().splitlines()
    assert lines[0].startswith("enhancer,gamma,convention,score,value,low,high,minus_raw")
    assert len(lines) == 1 + 6 * 3
    assert all(line.split(",")[2] == "power" for line in lines[1:])
    assert (out / "table.md").read_text().endswith("\ngamma g of I^g: below 1 brightens, above 1 darkens\n")
    assert results["convention"] == "power"
    assert ElementTree.parse(out / "plot.svg").getroot().tag.endswith("svg")  # noqa: S314
    page = (out / "report.html").read_text()
    assert "No human annotated these pictures" in page
    assert page.count("<img ") == page.count('alt="') > 0
    assert "found, minus raw" in page


def test_detections_are_made_once(detector, pictures, undo, faces, tmp_path):
    out = tmp_path / "out"
    command = ("folder", pictures, out, "--gammas", 0.1, "--enhancer", "none")
    assert faces(*command)[0] == 0
    # The reference is at gamma 1.
    assert detector.seen == 2 * len(SQUARES)
    first = (out / "results.json").read_bytes()
    code, _, err = faces(*command)
    assert code == 2
    told = "holds results of an earlier run: use --resume to continue it, or choose another --out"
    assert err == f"llie: error: {out} {told}\n"
    command = (*command[:3], "--resume", *command[3:])
    assert faces(*command)[0] == 0
    assert detector.seen == 2 * len(SQUARES)
    assert json.loads((out / "results.json").read_bytes())["rows"] == json.loads(first)["rows"]
    assert faces(*command, undo)[0] == 0
    assert detector.seen == 3 * len(SQUARES)
    _draw(pictures / "c.png", [(5, 5, 44, 44)])
    assert faces(*command)[0] == 0
    assert detector.seen == 3 * len(SQUARES) + 2
    assert json.loads((out / "results.json").read_bytes())["faces"] == 3


def test_an_interrupted_sweep_goes_on(detector, pictures, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--gammas", 1, 0.5, "--batch-size", 1)
    detector.stop_after = 4
    code, _, err = faces(*command)
    assert code == 130
    assert err.endswith("interrupted; --resume goes on\n")
    detector.stop_after = None
    assert faces(*command, "--resume")[0] == 0
    assert detector.seen == 2 * len(SQUARES)


def test_what_was_made_with_something_else_is_refused(detector, pictures, undo, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--resume", "--gammas", 1, "--enhancer", undo)
    assert faces(*command)[0] == 0
    (tmp_path / "undo.py").write_text("enhancer = dict(type='GammaCorrection', gamma=2.0)")
    code, _, err = faces(*command)
    assert code == 2
    assert "gamma_1.npz was made with another enhancer" in err
    code, _, err = faces(*command[:-2], "--passes", "fddb")
    assert code == 2
    assert "passes ('base', now 'fddb')" in err


def _flip(content):
    """One byte of the compressed boxes is wrong."""
    at = content.index(b"boxes.npy") + 120
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def _with_boxes(boxes):
    """Another member ``boxes.npy``."""

    def write(file, content):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                new.writestr(name, boxes if name == "boxes.npy" else old.read(name))

    return write


def _pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([[{}]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _header(shape):
    buffer = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


# Writes a file, or something else, in the place of one whose content is given.
_DAMAGES = {
    "text": lambda file, content: file.write_bytes(b"cut"),
    "cut": lambda file, content: file.write_bytes(content[: len(content) // 2]),
    "flipped": lambda file, content: file.write_bytes(_flip(content)),
    "one array": lambda file, content: file.write_bytes(_header((2, 4)) + bytes(32)),
    "objects": _with_boxes(_pickled()),
    "terabytes": _with_boxes(_header((1 << 38, 4))),
    "three columns": _with_boxes(_header((3, 3)) + bytes(36)),
    "not finite": _with_boxes(_header((3, 4)) + np.full(12, np.nan, np.float32).tobytes()),
    "pipe": lambda file, content: os.mkfifo(file),
    "folder": lambda file, content: file.mkdir(),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with pictures, and with what the command made of them without a shift."""
    folder = tmp_path_factory.mktemp("finished")
    _draw_all(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectors.DetectorChoice, "_build_base", lambda self: _Squares())
        command = ["faces", "--dataset", "folder", "--images", str(folder / "pictures"), "--out", str(folder / "out")]
        assert main([*command, "--gammas", "1"]) == 0
    return folder


@pytest.mark.examples(3)
@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES)
def test_damaged_detections_are_refused(finished, detector, faces, tmp_path, damage):
    shutil.copytree(finished / "out", tmp_path / "out")
    command = ("folder", finished / "pictures", tmp_path / "out", "--resume", "--gammas", 1)
    file = tmp_path / "out" / "detections" / "none" / "gamma_1.npz"
    content = file.read_bytes()
    file.unlink()
    damage(file, content)
    code, _, err = faces(*command)
    assert code == 2
    assert "gamma_1.npz is damaged" in err
    file.rmdir() if file.is_dir() else file.unlink()
    assert faces(*command)[0] == 0


def test_detections_that_do_not_fit_together_are_refused(detector, pictures, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--resume", "--gammas", 1)
    assert faces(*command)[0] == 0
    path = tmp_path / "out" / "detections" / "none" / "gamma_1.npz"
    with np.load(path) as file:
        content = dict(file)
    assert content["counts"].tolist() == [2, 1, 0]
    for changed in (
        dict(counts=content["counts"][:2]),
        dict(counts=content["counts"] + 1),
        dict(names=content["names"][:1]),
    ):
        np.savez(path, **{**content, **changed})
        code, _, err = faces(*command)
        assert code == 2
        assert "gamma_1.npz is damaged" in err


def test_a_vote_over_mtcnn_is_made_again_with_another_threshold(detector, pictures, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--resume", "--gammas", 1, "--passes", "fddb", "--score-thr")
    assert faces(*command, 0.6)[0] == 0
    code, _, err = faces(*command, 0.95)
    assert code == 2
    assert "another score_thr (0.6, now 0.95)" in err


def test_a_folder_that_cannot_be_made_is_named_before_any_work(detector, pictures, faces, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err = faces("folder", pictures, tmp_path / "out", "--gammas", 1)
    assert code == 2
    assert str(tmp_path / "out") in err
    assert detector.seen == 0


def test_a_bad_picture_is_reported_and_the_rest_goes_on(detector, pictures, faces, tmp_path):
    (pictures / "bad.jpg").write_bytes(b"no picture")
    code, printed, err = faces("folder", pictures, tmp_path / "out", "--gammas", 1)
    assert code == 1
    assert "1 left out" in err
    assert "bad.jpg: not a picture" in err
    assert "| raw | 1.000 |" in printed
    assert _rows(tmp_path / "out")["none", 1]["found"] == 1.0
    assert "bad.jpg" in (tmp_path / "out" / "report.html").read_text()


def test_a_picture_that_one_enhancer_cannot_take_is_in_no_row(detector, pictures, undo, faces, tmp_path, monkeypatch):
    from llie_preproc.faces import EnhancedFaceDetector

    plain = EnhancedFaceDetector.detect

    def refuse(self, images):
        if any((image[0, 0] != image[45, 35]).any() for image in images):
            raise RuntimeError("out of memory")
        return plain(self, images)

    monkeypatch.setattr(EnhancedFaceDetector, "detect", refuse)
    code, _, err = faces("folder", pictures, tmp_path / "out", "--gammas", 1, "--enhancer", "none", undo)
    assert code == 1
    assert "b.png: out of memory" in err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["pictures"], results["faces"]) == (2, 1)


@pytest.fixture
def darkface_texts(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    for name, squares in SQUARES.items():
        lines = [str(len(squares)), *(" ".join(map(str, square)) for square in squares)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def test_darkface_by_its_tool_and_by_coco(detector, pictures, darkface_texts, undo, faces, tmp_path):
    out = tmp_path / "out"
    arguments = ("--annotations", darkface_texts, "--gammas", 0.1, 1, "--enhancer", "none", undo, "--official-files")
    code, printed, _ = faces("darkface", pictures, out, *arguments)
    assert code == 0
    rows = _rows(out)
    assert set(rows["none", 1]) == {"AP, DARK FACE tool", "COCO AP", "COCO AP50"}
    assert rows["none", 1] == pytest.approx({"AP, DARK FACE tool": 1, "COCO AP": 1, "COCO AP50": 1})
    assert rows["none", 0.1]["AP, DARK FACE tool"] == 0
    assert rows["undo", 0.1]["COCO AP50"] == pytest.approx(1)
    written = read_darkface_predictions(out / "official" / "undo" / "gamma_0.1")
    truth = {name: np.array(squares, float).reshape(-1, 4) for name, squares in SQUARES.items()}
    assert darkface_ap(truth, written).ap == rows["undo", 0.1]["AP, DARK FACE tool"] == 1
    assert "DARK FACE tool" in printed
    (undone,) = (
        r
        for r in json.loads((out / "results.json").read_text())["rows"]
        if r["gamma"] == 0.1 and r["enhancer"] == "undo"
    )
    assert undone["difference"]["AP, DARK FACE tool"] == {"value": 1, "low": 1, "high": 1}
    assert undone["scores"]["COCO AP"]["low"] is None
    assert "minus raw at the same gamma, with the 95 % interval" in (out / "report.html").read_text()


def test_pictures_and_annotations_without_each_other_are_reported(detector, pictures, darkface_texts, faces, tmp_path):
    (darkface_texts / "a.txt").rename(darkface_texts / "z.txt")
    code, _, err = faces("darkface", pictures, tmp_path / "out", "--annotations", darkface_texts, "--gammas", 1)
    assert code == 1
    assert "2 left out" in err
    assert "there is no picture 'z'" in err
    assert "a.png: the picture has no annotation" in err
    (darkface_texts / "b.txt").write_text("1\n1 2 3\n")
    code, _, err = faces("darkface", pictures, tmp_path / "out", "--annotations", darkface_texts, "--gammas", 1)
    assert code == 2
    assert "b.txt:2: expected 4 values" in err


def _wider_set(tmp_path):
    """Two pictures of an event, their list, and lists of difficulties: the weaker square is hard."""
    root = tmp_path / "wider"
    lines, kept = [], {"easy": [], "medium": [], "hard": []}
    for name in ("a", "b"):
        _draw(root / "0--Parade" / f"{name}.png", SQUARES[name])
        squares = SQUARES[name]
        lines += [f"0--Parade/{name}.png", str(len(squares))]
        # The tool's right edge, left + width, is the last pixel.
        lines += [f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0" for x1, y1, x2, y2 in squares]
        for level, indices in kept.items():
            indices.append(np.arange(1, len(squares) + 1 if level == "hard" else 2, dtype=float).reshape(-1, 1))
    (tmp_path / "list.txt").write_text("\n".join(lines))
    for level, indices in kept.items():
        files, lists = np.empty((1, 1), object), np.empty((1, 1), object)
        files[0, 0], lists[0, 0] = _cells(["a", "b"]), _cells(indices)
        scipy_io.savemat(
            tmp_path / f"wider_{level}_val.mat",
            {"event_list": _cells(["0--Parade"]), "file_list": files, "gt_list": lists},
        )
    return root


def _cells(values):
    cells = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        cells[i, 0] = value
    return cells


def test_wider_by_difficulty(detector, faces, tmp_path):
    root = _wider_set(tmp_path)
    out = tmp_path / "out"
    arguments = ("--annotations", tmp_path / "list.txt", "--difficulty", tmp_path, "--gammas", 0.2, 1)
    code, _, _ = faces("wider", root, out, *arguments, "--official-files")
    assert code == 0
    rows = _rows(out)
    assert list(rows["none", 1]) == ["AP easy", "AP medium", "AP hard", "COCO AP", "COCO AP50"]
    assert rows["none", 1]["AP hard"] == rows["none", 1]["AP easy"] == 1
    # Washed out, the weaker square is lost.
    assert rows["none", 0.2]["AP easy"] == 1
    assert rows["none", 0.2]["AP hard"] == pytest.approx(2 / 3)
    written = read_wider_predictions(out / "official" / "none" / "gamma_0.2")
    truth = {f"0--Parade/{n}": np.array(SQUARES[n]) - [[*s[:2], *s[:2]] * np.array([0, 0, 1, 1]) for s in SQUARES[n]]
             for n in ("a", "b")}  # fmt: skip
    assert wider_ap(truth, written).ap == rows["none", 0.2]["AP hard"]


def test_two_wider_pictures_never_become_one_official_file(detector, faces, tmp_path):
    root, listed = _wider_set(tmp_path), tmp_path / "list.txt"
    _draw(root / "0--Parade" / "a.jpg", SQUARES["a"])
    entry = listed.read_text().splitlines()[: len(SQUARES["a"]) + 2]
    listed.write_text("\n".join([listed.read_text(), entry[0].replace("png", "jpg"), *entry[1:]]))
    code, _, err = faces("wider", root, tmp_path / "out", "--annotations", listed, "--gammas", 1, "--official-files")
    assert code == 2
    assert "0--Parade/a.jpg and 0--Parade/a.png would both become 0--Parade/a.txt" in err


def test_wider_without_difficulties_has_one_score(detector, faces, tmp_path):
    root = _wider_set(tmp_path)
    code, _, _ = faces("wider", root, tmp_path / "out", "--annotations", tmp_path / "list.txt", "--gammas", 1)
    assert code == 0
    assert list(_rows(tmp_path / "out")["none", 1]) == ["AP all", "COCO AP", "COCO AP50"]
    (tmp_path / "list.txt").write_text("0--Parade/a.png\n1\n10 10 19 19 0 0 0 0 0 0\n")
    arguments = ("--annotations", tmp_path / "list.txt", "--difficulty", tmp_path, "--gammas", 1)
    code, _, err = faces("wider", root, tmp_path / "out2", *arguments)
    assert code == 2
    assert "0--Parade/a.png: kept faces are 0 to 1, but it has 1" in err


def _fddb_set(tmp_path):
    """Ten folds, of which the first has pictures: circles in the squares, which overlap them by 0.785."""
    root, folds = tmp_path / "fddb", tmp_path / "folds"
    folds.mkdir()
    lines = []
    for name, squares in SQUARES.items():
        picture = root / "big" / f"{name}.jpg"
        _draw(picture, squares)
        lines += [f"big/{name}", str(len(squares))]
        lines += [f"{(x2 - x1 + 1) / 2} {(x2 - x1 + 1) / 2} 0 {(x1 + x2) / 2} {(y1 + y2) / 2} 1"
                  for x1, y1, x2, y2 in squares]  # fmt: skip
    for fold in range(1, 11):
        (folds / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text("\n".join(lines) if fold == 1 else "")
    return root, folds


def test_fddb_by_its_curves(detector, undo, faces, tmp_path):
    root, folds = _fddb_set(tmp_path)
    out = tmp_path / "out"
    arguments = ("--folds", folds, "--gammas", 0.1, 1, "--enhancer", "none", undo, "--fp", 0, 10, "--official-files")
    code, printed, _ = faces("fddb", root, out, *arguments)
    assert code == 0
    rows = _rows(out)
    assert rows["none", 0.1]["TPR at 0 FP, discrete"] == 0
    assert rows["none", 1]["TPR at 0 FP, discrete"] == rows["undo", 0.1]["TPR at 10 FP, discrete"] == 1
    assert rows["none", 1]["TPR at 10 FP, continuous"] == pytest.approx(np.pi / 4, abs=0.1)
    last = (out / "roc" / "none" / "gamma_1_disc.txt").read_text().splitlines()[0].split()
    assert last[:2] == ["1", "0"]
    assert len((out / "roc" / "undo" / "gamma_0.1_cont.txt").read_text().splitlines()[0].split()) == 2
    assert (out / "official" / "none" / "gamma_1" / "detections.txt").read_text().startswith("big/a\n2\n")
    score = json.loads((out / "results.json").read_text())["rows"][1]["scores"]["TPR at 10 FP, continuous"]
    assert score["low"] < score["value"] < score["high"]
    assert "Discrete ROC at g = 0.1" in (out / "report.html").read_text()
    assert "TPR at 10 FP, continuous" in printed


def test_an_fddb_picture_that_is_missing_is_left_out(detector, faces, tmp_path):
    root, folds = _fddb_set(tmp_path)
    (root / "big" / "b.jpg").unlink()
    code, _, err = faces("fddb", root, tmp_path / "out", "--folds", folds, "--gammas", 1)
    assert code == 1
    assert "b.jpg: the fold files list this picture, but there is none" in err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["faces"] == 2


def test_an_fddb_picture_that_is_damaged_is_left_out(detector, faces, tmp_path):
    root, folds = _fddb_set(tmp_path)
    whole = (root / "big" / "b.jpg").read_bytes()
    for content in (b"no picture", whole[: len(whole) // 2]):
        (root / "big" / "b.jpg").write_bytes(content)
        code, _, err = faces("fddb", root, tmp_path / "out", "--resume", "--folds", folds, "--gammas", 1)
        assert code == 1
        assert "1 left out" in err
        assert "b.jpg: " in err
        assert json.loads((tmp_path / "out" / "results.json").read_text())["faces"] == 2
    (root / "big" / "a.jpg").write_bytes(b"")
    (root / "big" / "c.jpg").unlink()
    (root / "big" / "b.jpg").write_bytes(b"")
    code, _, err = faces("fddb", root, tmp_path / "none", "--folds", folds, "--gammas", 1)
    assert code == 2
    assert "a.jpg: the file is empty" in err


@pytest.mark.examples(8)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("folder --images {tmp}/none", "no folder"),
        ("folder --images {tmp}", "no pictures below"),
        ("folder --images {pictures} --folds {tmp}", "--folds does not belong to --dataset folder"),
        ("folder --images {pictures} --official-files", "--official-files"),
        ("fddb --images {pictures}", "--dataset fddb needs --folds"),
        ("darkface --images {pictures} --annotations {tmp} --fp 3", "--fp does not belong to --dataset darkface"),
        ("darkface --images {pictures} --annotations {tmp}/none", "no folder"),
        ("wider --images {pictures}", "--dataset wider needs --annotations"),
        ("folder --images {pictures} --gammas 0", "--gammas: gamma must be positive"),
        ("folder --images {pictures} --gammas 1 1", "--gammas names one twice"),
        ("folder --images {pictures} --enhancer psenett", "no enhancer 'psenett'"),
        ("folder --images {pictures} --enhancer x=psenett", "no enhancer 'psenett'"),
        ("folder --images {pictures} --enhancer x={tmp}/no.py", "no config file"),
        ("folder --images {pictures} --enhancer none none", "--enhancer names none twice"),
        ("folder --images {pictures} --enhancer psenet psenet@psenet_sice", "names psenet twice: put LABEL= before"),
        ("folder --images {pictures} --enhancer psenet@{tmp}/no.pth", "no.pth"),
        ("folder --images {pictures} --enhancer psenet@", "names no weights after the @"),
        ("folder --images {pictures} --enhancer semi_llie", "name some with --enhancer NAME@WEIGHTS"),
        ("folder --images {pictures} --enhancer psenet --precision float16", "not faithful under float16"),
        ("folder --images {pictures} --enhancer psenet --tile 8 --map-side 8", "exclude each other"),
        ("folder --images {pictures} --detector {tmp}/no.py --detector-checkpoint x", "no config file"),
        ("folder --images {pictures} --detector mmdet::ssd/ssd300_coco.py", "needs a --detector-checkpoint"),
        ("folder --images {pictures} --detector mmdet::ssd/ssd300_coco.py --detector-checkpoint {tmp}/n", "no file"),
        ("folder --images {pictures} --detector-checkpoint x", "mtcnn brings its own weights"),
        ("folder --images {pictures} --device cuda:77", "--device cuda:77"),
        ("folder --images {pictures} --detector mtcn", "no config file mtcn"),
        ("folder --images {pictures} --score-thr 0.3", "mtcnn has its own thresholds"),
        ("folder --images {pictures} --score-thr 1", "--score-thr must be in [0, 1)"),
    ],
)
def test_wrong_arguments_are_named(pictures, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    given = arguments.format(tmp=tmp_path / "empty", pictures=pictures).split()
    assert main(["faces", "--dataset", *given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("llie: error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_no_readable_picture_is_an_error(detector, tmp_path, faces):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    code, _, err = faces("folder", tmp_path / "pictures", tmp_path / "out", "--gammas", 1)
    assert code == 2
    assert "not one of 1 pictures could be worked through" in err


def test_one_network_with_two_weights(tmp_path):
    network = build_enhancer("PSENet", checkpoint=None)
    save_state_dict(network.state_dict(), tmp_path / "other.safetensors")
    specs = enhancer_specs(["psenet", f"other=psenet@{tmp_path / 'other.safetensors'}", "third=PSENet"])
    assert list(specs) == ["psenet", "other", "third"]
    assert {spec["type"] for spec in specs.values()} == {"PSENet"}
    assert specs["psenet"]["fingerprint"] == specs["third"]["fingerprint"] != specs["other"]["fingerprint"]
    assert specs["other"]["checkpoint"] == str(tmp_path / "other.safetensors")


@MODELS.register_module(force=True)
class RedSquares(BaseDetector):
    """The squares' detector as one of MMDetection, in the frame of its resized input."""

    def __init__(self, data_preprocessor):
        super().__init__(data_preprocessor=data_preprocessor)
        self.sure = torch.nn.Parameter(torch.zeros(()))

    def loss(self, *_):
        raise RuntimeError("not trained")

    _forward = extract_feat = loss

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        found = _Squares().detect(batch_inputs.byte().flip(1).permute(0, 2, 3, 1).cpu().numpy())
        for faces, sample in zip(found, batch_data_samples, strict=True):
            boxes = torch.from_numpy(faces.boxes) / torch.tensor(sample.scale_factor).repeat(2)
            scores = torch.from_numpy(faces.scores).minimum(self.sure)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=torch.zeros(len(boxes)).long())
        return batch_data_samples


def test_a_config_with_its_checkpoint(pictures, faces, tmp_path):
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(240, 200), keep_ratio=True, interpolation="nearest"),
        dict(type="PackDetInputs", meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor")),
    ]
    dataset = dict(type="CocoDataset", metainfo=dict(classes=("face",)), ann_file="", pipeline=pipeline)
    model = dict(type="RedSquares", data_preprocessor=dict(type="DetDataPreprocessor"))
    config = f"model = {model!r}\ntest_pipeline = {pipeline!r}\ntest_dataloader = dict(dataset={dataset!r})\n"
    (tmp_path / "squares.py").write_text(config)
    torch.save({"state_dict": {"sure": torch.tensor(0.95)}, "meta": {}}, tmp_path / "sure.pth")
    torch.save({"state_dict": {"sure": torch.tensor(0.6)}, "meta": {}}, tmp_path / "unsure.pth")
    arguments = ("--gammas", 1, "--resume", "--detector", tmp_path / "squares.py", "--detector-checkpoint")
    assert faces("folder", pictures, tmp_path / "out", *arguments, tmp_path / "sure.pth")[0] == 0
    assert _rows(tmp_path / "out")["none", 1]["found"] == 1
    with np.load(tmp_path / "out" / "detections" / "none" / "gamma_1.npz") as file:
        expected = np.array([(x1, y1, x2 + 1, y2 + 1) for name in "ab" for x1, y1, x2, y2 in SQUARES[name]])
        np.testing.assert_allclose(file["boxes"][np.lexsort(file["boxes"].T)], expected[np.lexsort(expected.T)])
    code, _, err = faces("folder", pictures, tmp_path / "out", *arguments, tmp_path / "unsure.pth")
    assert code == 2
    assert "another checkpoint_sha256" in err
    # Both views of a picture agree; what is below --score-thr is dropped, so that there is no reference.
    voted = ("--passes", "fddb", "--score-thr", 0.7)
    assert faces("folder", pictures, tmp_path / "voted", *arguments, tmp_path / "sure.pth", *voted)[0] == 0
    assert _rows(tmp_path / "voted")["none", 1]["found"] == 1
    assert faces("folder", pictures, tmp_path / "none", *arguments, tmp_path / "unsure.pth", *voted)[0] == 0
    assert _rows(tmp_path / "none")["none", 1] == {"found": None, "found sure": None, "unmatched": None}


def test_retention_weighs_pictures():
    def some(*boxes):
        return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.95, np.float32))

    reference = {"a": some([0, 0, 10, 10], [20, 0, 30, 10]), "b": some([0, 0, 10, 10]), "c": some()}
    found = {"a": some([0, 0, 10, 10]), "b": some(), "c": some([5, 5, 9, 9])}
    scores = RetentionScores(reference, found)
    assert scores.values() == pytest.approx({"found": 1 / 3, "found sure": 1 / 3, "unmatched": 1 / 3})
    weighted = scores.values(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 1]]))
    np.testing.assert_allclose(weighted["found"], [0.5, 0, np.nan])
    with pytest.raises(ValueError, match="different pictures"):
        RetentionScores(reference, {"a": some()})


def test_mtcnn_finds_the_astronaut_again_behind_psenet(faces, tmp_path):
    data = pytest.importorskip("skimage.data", reason="needs the extra 'demo'")
    write_picture(tmp_path / "pictures" / "astronaut.png", Picture(data.astronaut()[20:220, 130:330]))
    arguments = ("--gammas", 0.07, "--enhancer", "none", "psenet")
    code, printed, _ = faces("folder", tmp_path / "pictures", tmp_path / "out", *arguments)
    assert code == 0
    rows = _rows(tmp_path / "out")
    assert (rows["none", 0.07]["found"], rows["psenet", 0.07]["found"]) == (0, 1)
    assert "| psenet | 1.000 |" in printed


@pytest.mark.parametrize("absent", ["facenet_pytorch", "requests"])
def test_a_missing_package_of_mtcnn_is_named_with_the_option_and_the_extras(
    monkeypatch, pictures, tmp_path, capsys, absent
):
    for name in [name for name in sys.modules if name.split(".")[0] == "facenet_pytorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    assert main(["faces", "--dataset", "folder", "--images", str(pictures), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        f"llie: error: --detector mtcnn needs the package '{absent}', which is not installed: "
        'pip install "llie-preproc[compare,face]"\n'
    )
