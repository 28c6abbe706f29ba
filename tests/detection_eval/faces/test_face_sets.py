"""``llie faces`` scores DARK FACE, WIDER FACE and FDDB, here with a detector that finds coloured squares."""

import json

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

from scipy import io as scipy_io

from detection_eval.datasets.wider_difficulty import read_darkface_predictions, read_wider_predictions
from detection_eval.metrics.wider_face import darkface_ap, wider_ap
from tests.support.squares import SQUARES, draw_squares, score_values


@pytest.fixture
def darkface_texts(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    for name, squares in SQUARES.items():
        lines = [str(len(squares)), *(" ".join(map(str, square)) for square in squares)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def test_darkface_is_scored_by_its_tool_and_by_coco(detector, pictures, darkface_texts, undo, faces, tmp_path):
    out = tmp_path / "out"
    arguments = ("--annotations", darkface_texts, "--gammas", 0.1, 1, "--enhancer", "none", undo, "--official-files")
    code, printed, _ = faces("darkface", pictures, out, *arguments)
    assert code == 0
    rows = score_values(out)
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
    """Write two pictures, their list, and lists of difficulties that call the weaker square hard; return the folder."""
    root = tmp_path / "wider"
    lines, kept = [], {"easy": [], "medium": [], "hard": []}
    for name in ("a", "b"):
        draw_squares(root / "0--Parade" / f"{name}.png", SQUARES[name])
        squares = SQUARES[name]
        lines += [f"0--Parade/{name}.png", str(len(squares))]
        # The tool counts the column left + width as the last one inside a box.
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


def test_wider_is_scored_by_difficulty(detector, faces, tmp_path):
    root = _wider_set(tmp_path)
    out = tmp_path / "out"
    arguments = ("--annotations", tmp_path / "list.txt", "--difficulty", tmp_path, "--gammas", 0.2, 1)
    code, _, _ = faces("wider", root, out, *arguments, "--official-files")
    assert code == 0
    rows = score_values(out)
    assert list(rows["none", 1]) == ["AP easy", "AP medium", "AP hard", "COCO AP", "COCO AP50"]
    assert rows["none", 1]["AP hard"] == rows["none", 1]["AP easy"] == 1
    # In the brightened picture the weaker square is not found.
    assert rows["none", 0.2]["AP easy"] == 1
    assert rows["none", 0.2]["AP hard"] == pytest.approx(2 / 3)
    written = read_wider_predictions(out / "official" / "none" / "gamma_0.2")
    truth = {f"0--Parade/{n}": np.array(SQUARES[n]) - [[*s[:2], *s[:2]] * np.array([0, 0, 1, 1]) for s in SQUARES[n]]
             for n in ("a", "b")}  # fmt: skip
    assert wider_ap(truth, written).ap == rows["none", 0.2]["AP hard"]


def test_two_wider_pictures_never_become_one_official_file(detector, faces, tmp_path):
    root, listed = _wider_set(tmp_path), tmp_path / "list.txt"
    draw_squares(root / "0--Parade" / "a.jpg", SQUARES["a"])
    entry = listed.read_text().splitlines()[: len(SQUARES["a"]) + 2]
    listed.write_text("\n".join([listed.read_text(), entry[0].replace("png", "jpg"), *entry[1:]]))
    code, _, err = faces("wider", root, tmp_path / "out", "--annotations", listed, "--gammas", 1, "--official-files")
    assert code == 2
    assert "0--Parade/a.jpg and 0--Parade/a.png would both become 0--Parade/a.txt" in err


def test_wider_without_difficulties_has_one_score(detector, faces, tmp_path):
    root = _wider_set(tmp_path)
    code, _, _ = faces("wider", root, tmp_path / "out", "--annotations", tmp_path / "list.txt", "--gammas", 1)
    assert code == 0
    assert list(score_values(tmp_path / "out")["none", 1]) == ["AP all", "COCO AP", "COCO AP50"]
    (tmp_path / "list.txt").write_text("0--Parade/a.png\n1\n10 10 19 19 0 0 0 0 0 0\n")
    arguments = ("--annotations", tmp_path / "list.txt", "--difficulty", tmp_path, "--gammas", 1)
    code, _, err = faces("wider", root, tmp_path / "out2", *arguments)
    assert code == 2
    assert "0--Parade/a.png: kept faces are 0 to 1, but it has 1" in err


def _fddb_set(tmp_path):
    """Write ten folds; only the first has pictures. Each face is the circle in a square; their IoU is 0.785."""
    root, folds = tmp_path / "fddb", tmp_path / "folds"
    folds.mkdir()
    lines = []
    for name, squares in SQUARES.items():
        picture = root / "big" / f"{name}.jpg"
        draw_squares(picture, squares)
        lines += [f"big/{name}", str(len(squares))]
        lines += [f"{(x2 - x1 + 1) / 2} {(x2 - x1 + 1) / 2} 0 {(x1 + x2) / 2} {(y1 + y2) / 2} 1"
                  for x1, y1, x2, y2 in squares]  # fmt: skip
    for fold in range(1, 11):
        (folds / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text("\n".join(lines) if fold == 1 else "")
    return root, folds


def test_fddb_is_scored_by_its_curves(detector, undo, faces, tmp_path):
    root, folds = _fddb_set(tmp_path)
    out = tmp_path / "out"
    arguments = ("--folds", folds, "--gammas", 0.1, 1, "--enhancer", "none", undo, "--fp", 0, 10, "--official-files")
    code, printed, _ = faces("fddb", root, out, *arguments)
    assert code == 0
    rows = score_values(out)
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
