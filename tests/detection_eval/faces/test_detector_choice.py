"""``llie faces --detector`` takes a config with its checkpoint or the name of a detector, and names what is missing."""

import sys
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

import llie_preproc  # noqa: F401  before mmdet, as it replaces operators that mmcv lacks

# isort: split
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from detection_eval.faces.named_detectors import FACE_DETECTORS, NamedDetector
from llie_preproc.commands.llie import main
from llie_preproc.pictures import Picture, write_picture
from tests.support.squares import SQUARES, SquareDetector, score_values


@MODELS.register_module(force=True)
class RedSquares(BaseDetector):
    """``SquareDetector`` as a detector of MMDetection, which scales its boxes back from the resized picture."""

    def __init__(self, data_preprocessor):
        super().__init__(data_preprocessor=data_preprocessor)
        self.sure = torch.nn.Parameter(torch.zeros(()))

    def loss(self, *_):
        raise RuntimeError("not trained")

    _forward = extract_feat = loss

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        found = SquareDetector().detect(batch_inputs.byte().flip(1).permute(0, 2, 3, 1).cpu().numpy())
        for faces, sample in zip(found, batch_data_samples, strict=True):
            boxes = torch.from_numpy(faces.boxes) / torch.tensor(sample.scale_factor).repeat(2)
            scores = torch.from_numpy(faces.scores).minimum(self.sure)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=torch.zeros(len(boxes)).long())
        return batch_data_samples


def test_a_config_with_its_checkpoint_finds_the_faces(pictures, faces, tmp_path):
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
    assert score_values(tmp_path / "out")["none", 1]["found"] == 1
    with np.load(tmp_path / "out" / "detections" / "none" / "gamma_1.npz") as file:
        expected = np.array([(x1, y1, x2 + 1, y2 + 1) for name in "ab" for x1, y1, x2, y2 in SQUARES[name]])
        np.testing.assert_allclose(file["boxes"][np.lexsort(file["boxes"].T)], expected[np.lexsort(expected.T)])
    code, _, err = faces("folder", pictures, tmp_path / "out", *arguments, tmp_path / "unsure.pth")
    assert code == 2
    assert "another checkpoint_sha256" in err
    # The picture and its mirror image agree. Boxes below --score-thr are dropped, so no reference is left.
    voted = ("--passes", "fddb", "--score-thr", 0.7)
    assert faces("folder", pictures, tmp_path / "voted", *arguments, tmp_path / "sure.pth", *voted)[0] == 0
    assert score_values(tmp_path / "voted")["none", 1]["found"] == 1
    assert faces("folder", pictures, tmp_path / "none", *arguments, tmp_path / "unsure.pth", *voted)[0] == 0
    assert score_values(tmp_path / "none")["none", 1] == {"found": None, "found sure": None, "unmatched": None}


def test_mtcnn_finds_the_astronaut_again_after_psenet(faces, tmp_path):
    data = pytest.importorskip("skimage.data", reason="needs the extra 'demo'")
    write_picture(tmp_path / "pictures" / "astronaut.png", Picture(data.astronaut()[20:220, 130:330]))
    arguments = ("--gammas", 0.07, "--enhancer", "none", "psenet")
    code, printed, _ = faces("folder", tmp_path / "pictures", tmp_path / "out", *arguments)
    assert code == 0
    rows = score_values(tmp_path / "out")
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


def test_an_unknown_detector_is_refused_with_the_names_that_there_are(pictures, tmp_path, capsys):
    arguments = ["--images", str(pictures), "--out", str(tmp_path / "out"), "--detector", "retinaface"]
    assert main(["faces", "--dataset", "folder", *arguments]) == 2
    assert "no config file retinaface; the detectors that have a name are mtcnn" in capsys.readouterr().err


class NamedSquares(NamedDetector):
    """A registered detector of squares, which records the checkpoint that it gets."""

    takes_checkpoint = True
    seen: ClassVar[list[str | None]] = []

    def made_with(self, checkpoint):
        return {"version": "1"}

    def build(self, checkpoint, device):
        self.seen.append(checkpoint)
        return SquareDetector()


@pytest.fixture
def squares(monkeypatch):
    """The name of a registered detector that takes a checkpoint."""
    list(FACE_DETECTORS)
    monkeypatch.setitem(FACE_DETECTORS._entries, "squares", NamedSquares)
    monkeypatch.setattr(NamedSquares, "seen", [])
    return "squares"


def test_a_named_detector_that_takes_a_checkpoint_gets_it_and_its_results_belong_to_it(
    squares, pictures, faces, tmp_path
):
    for name in ("a", "b"):
        (tmp_path / f"{name}.pth").write_text(name)
    given = ("--gammas", 1, "--resume", "--detector", squares)
    assert faces("folder", pictures, tmp_path / "out", *given, "--detector-checkpoint", tmp_path / "a.pth")[0] == 0
    assert NamedSquares.seen == [str(tmp_path / "a.pth")]
    code, _, err = faces("folder", pictures, tmp_path / "out", *given, "--detector-checkpoint", tmp_path / "b.pth")
    assert (code, "another checkpoint_sha256" in err) == (2, True)
    code, _, err = faces("folder", pictures, tmp_path / "new", *given, "--detector-checkpoint", tmp_path / "c.pth")
    assert (code, f"no file {tmp_path / 'c.pth'}, the --detector-checkpoint of --detector squares" in err) == (2, True)
    assert faces("folder", pictures, tmp_path / "none", *given)[0] == 0
    assert NamedSquares.seen[1:] == [None]


def test_a_checkpoint_that_a_named_detector_does_not_take_is_refused(squares, pictures, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(NamedSquares, "takes_checkpoint", False)
    (tmp_path / "a.pth").write_text("a")
    given = ("--gammas", 1, "--detector", squares, "--detector-checkpoint", tmp_path / "a.pth")
    code, _, err = faces("folder", pictures, tmp_path / "out", *given)
    assert (code, "--detector squares takes no --detector-checkpoint" in err) == (2, True)
    assert NamedSquares.seen == []
