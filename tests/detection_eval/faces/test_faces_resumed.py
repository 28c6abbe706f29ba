"""``llie faces --resume``: detections are made once; damaged ones and those of other settings are refused."""

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

from detection_eval.faces import detectors
from llie_preproc.commands.llie import main
from tests.support.squares import SQUARES, SquareDetector, draw_pictures, draw_squares


def test_detections_are_made_once(detector, pictures, undo, faces, tmp_path):
    out = tmp_path / "out"
    command = ("folder", pictures, out, "--gammas", 0.1, "--enhancer", "none")
    assert faces(*command)[0] == 0
    # Each picture is seen twice: at gamma 0.1, and at gamma 1 for the reference.
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
    draw_squares(pictures / "c.png", [(5, 5, 44, 44)])
    assert faces(*command)[0] == 0
    assert detector.seen == 3 * len(SQUARES) + 2
    assert json.loads((out / "results.json").read_bytes())["faces"] == 3


def test_an_interrupted_sweep_resumes(detector, pictures, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--gammas", 1, 0.5, "--batch-size", 1)
    detector.stop_after = 4
    code, _, err = faces(*command)
    assert code == 130
    assert err.endswith("interrupted; --resume goes on\n")
    detector.stop_after = None
    assert faces(*command, "--resume")[0] == 0
    assert detector.seen == 2 * len(SQUARES)


def test_detections_of_other_settings_are_refused(detector, pictures, undo, faces, tmp_path):
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
    """The content with one byte of the compressed boxes inverted."""
    at = content.index(b"boxes.npy") + 120
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def _with_boxes(boxes):
    """A function that writes the archive with ``boxes`` in place of its member ``boxes.npy``."""

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


# Each function puts a damaged file, or something that is no file, at a path; it also gets the undamaged content.
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
    """A folder with pictures and the output of the command for them at gamma 1."""
    folder = tmp_path_factory.mktemp("finished")
    draw_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectors.DetectorChoice, "_build_base", lambda self: SquareDetector())
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


def test_a_vote_with_another_threshold_is_refused(detector, pictures, faces, tmp_path):
    command = ("folder", pictures, tmp_path / "out", "--resume", "--gammas", 1, "--passes", "fddb", "--score-thr")
    assert faces(*command, 0.6)[0] == 0
    code, _, err = faces(*command, 0.95)
    assert code == 2
    assert "another score_thr (0.6, now 0.95)" in err
