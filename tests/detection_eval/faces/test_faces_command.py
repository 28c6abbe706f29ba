"""``llie faces`` scores a folder of pictures, here with a detector of coloured squares, and refuses bad arguments."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

from llie_preproc.commands.llie import main
from llie_preproc.gamma_shift import shift_gamma
from tests.support.squares import score_values


def test_a_folder_is_scored_by_retention(detector, pictures, undo, faces, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = faces("folder", pictures, out, "--enhancer", "none", undo, "--gammas", 0.1, 1, 3)
    assert code == 0
    rows = score_values(out)
    # The weaker square is not in the reference: its confidence is 0.9, which is not above 0.9.
    assert rows["none", 1] == {"found": 1.0, "found sure": 1.0, "unmatched": 0.0}
    assert rows["none", 0.1]["found"] == 0.0
    assert rows["undo", 0.1]["found"] == 1.0
    # This enhancer undoes gamma 0.1; after gamma 3 it makes everything still darker.
    assert rows["undo", 3]["found"] == 0.0
    # At gamma 3 the weaker square has more contrast: it is found, but it is not in the reference.
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


def test_a_folder_that_cannot_be_made_is_named_before_any_work(detector, pictures, faces, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err = faces("folder", pictures, tmp_path / "out", "--gammas", 1)
    assert code == 2
    assert str(tmp_path / "out") in err
    assert detector.seen == 0


def test_a_bad_picture_is_reported_and_the_others_are_scored(detector, pictures, faces, tmp_path):
    (pictures / "bad.jpg").write_bytes(b"no picture")
    code, printed, err = faces("folder", pictures, tmp_path / "out", "--gammas", 1)
    assert code == 1
    assert "1 left out" in err
    assert "bad.jpg: not a picture" in err
    assert "| raw | 1.000 |" in printed
    assert score_values(tmp_path / "out")["none", 1]["found"] == 1.0
    assert "bad.jpg" in (tmp_path / "out" / "report.html").read_text()


def test_a_picture_that_fails_for_one_enhancer_is_in_no_row(detector, pictures, undo, faces, tmp_path, monkeypatch):
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
        (
            "folder --images {pictures} --detector-checkpoint x",
            "mtcnn takes no --detector-checkpoint: it brings",
        ),
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
    assert "none of 1 pictures could be processed" in err
