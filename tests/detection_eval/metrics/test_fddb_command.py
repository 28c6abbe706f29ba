"""``llie fddb`` prints the rates of FDDB and of its folds, writes all files or none, and names bad input."""

from __future__ import annotations

import errno
import os
import re

import pytest

pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")

from detection_eval.datasets.fddb import read_detections, read_fddb
from detection_eval.metrics.fddb import fddb_roc
from llie_preproc.commands.llie import main, parse_args


def run(*arguments):
    args = parse_args(["fddb", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def made(tmp_path):
    """Ten folds of one picture each: all have a face that is found, and even folds also have a false detection."""
    found = []
    for fold in range(1, 11):
        name = f"2002/big/img_{fold}"
        (tmp_path / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text(f"{name}\n1\n8 6 0.5 20 15  1\n")
        rows = [f"8 6 0.5 20 15 {fold}"] + ["3 3 0 40 30 0.5"] * (fold % 2 == 0)
        found += [name, str(len(rows)), *rows]
    (tmp_path / "found.txt").write_text("\n".join(found))
    names = "".join(f"2002/big/img_{fold},60,50\n" for fold in range(1, 11))
    (tmp_path / "sizes.csv").write_text(f"image,width,height\n{names}")
    return tmp_path


def numbers(text, start):
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [float(each) for each in re.findall(r"\d\.\d+", line)]


def test_rates_are_printed_and_curves_written(made, capsys):
    arguments = [made, made / "found.txt", "--sizes", made / "sizes.csv", "--fp", 0, 3, "--out", made / "out" / "here"]
    assert run(*arguments, "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "10 pictures, 10 faces, 15 detections: 10 true, 5 false" in text
    for start in ("at 0 false", "at 3 false", "of all", "fold 10", "mean"):
        assert numbers(text, start) == [1, 1]
    assert "450" not in text
    folder = made / "out" / "here"
    rows = [line.split() for line in (folder / "DiscROC.txt").read_text().splitlines()]
    assert rows[0] == ["1", "5", "0.5"]
    assert rows[1:] == [[f"{k / 10:g}", "0", str(11 - k)] for k in range(10, 0, -1)]
    assert (folder / "ContROC.txt").read_text().splitlines()[0] == "1 5"
    assert (folder / "fold-02-DiscROC.txt").read_text() == "1 1 0.5\n1 0 2\n"
    assert (folder / "mean-ContROC.txt").read_text() == "1 1\n1 0\n"


def test_angles_that_look_like_degrees_are_reported(made, capsys):
    assert run(made, made / "found.txt", "--sizes", made / "sizes.csv") == 0
    assert capsys.readouterr().err == ""
    # A whole turn in radians may exceed 2 pi by rounding, and must not be reported as degrees.
    for angle, expected in (("6.2832", False), ("-6.2832", False), ("28.65", True), ("-90", True)):
        path = made / "FDDB-fold-03-ellipseList.txt"
        path.write_text(f"2002/big/img_3\n1\n8 6 {angle} 20 15  1\n")
        assert run(made, made / "found.txt", "--sizes", made / "sizes.csv") == 0
        err = capsys.readouterr().err
        hint = f"1 of 10 annotated ellipses have an angle beyond 2 pi, up to {abs(float(angle)):g} in 2002/big/img_3"
        assert (hint in err) == expected
        assert ("look like degrees" in err) == expected
        roc = fddb_roc(read_fddb(made), read_detections(made / "found.txt"))
        assert any("look like degrees" in each for each in roc.hints) == expected
    found = (made / "found.txt").read_text().replace("8 6 0.5 20 15 7", "8 6 28.65 20 15 7")
    (made / "found.txt").write_text(found)
    assert run(made, made / "found.txt") == 0
    assert re.search(r"1 of 1\d detected ellipses have an angle beyond 2 pi", capsys.readouterr().err)


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_is_named_and_leaves_no_file(made, capsys, monkeypatch, failing):
    """Whichever of the first four files does not fit on the disk, none of the files is left."""
    whole, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == failing + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    out = made / "out"
    assert main(["fddb", str(made), str(made / "found.txt"), "--out", str(out), "--ten-fold"]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"llie: error: {out}/(fold-\d\d-|mean-)?(Disc|Cont)ROC\.txt: no space left on device\n", err)
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    assert main(["fddb", str(made), str(made / "found.txt"), "--out", str(out), "--ten-fold"]) == 0
    assert len(list(out.iterdir())) == 2 * 10 + 4


def test_some_folds_are_scored_without_sizes(made, capsys):
    assert run(made, made / "found.txt", "--folds", 2, 5, "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "2 pictures, 2 faces, 3 detections" in text
    assert "2 of 2 pictures have no known size" in text
    assert "fold 5" in text
    assert "fold 1" not in text


def test_an_empty_fold_has_no_row(made, capsys):
    (made / "FDDB-fold-04-ellipseList.txt").write_text("")
    found = (made / "found.txt").read_text().replace("2002/big/img_4\n2\n8 6 0.5 20 15 4\n3 3 0 40 30 0.5\n", "")
    (made / "found.txt").write_text(found)
    assert run(made, made / "found.txt", "--ten-fold") == 0
    text = capsys.readouterr().out
    assert "9 pictures" in text
    assert "fold 3" in text
    assert "fold 4" not in text


def test_bad_and_missing_files_are_named(made):
    (made / "found.txt").write_text("2002/big/img_1\n1\n1 2 3 4 nan\n")
    with pytest.raises(ValueError, match=r"found\.txt:3: score must be a number, got 'nan'"):
        run(made, made / "found.txt")
    (made / "FDDB-fold-07-ellipseList.txt").unlink()
    with pytest.raises(FileNotFoundError, match="FDDB-fold-07"):
        run(made, made / "found.txt")
