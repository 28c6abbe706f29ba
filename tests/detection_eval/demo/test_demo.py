"""``llie demo`` draws night scenes with exact boxes, sweeps gamma over faces, and writes a page of results."""

import json

import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the extra 'demo'")
pytest.importorskip("matplotlib", reason="needs the extra 'demo'")
pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")

from detection_eval.demo import gamma_sweep, light, night_scenes, photographs
from detection_eval.demo.run_demo import DemoOptions, run_demo
from detection_eval.demo.small_detector import RAW, RETRAINED, ZERO_SHOT, Budget, detector_config
from detection_eval.faces.retention import count_found, count_unmatched
from llie_preproc.commands.llie import parse_args
from llie_preproc.faces import Faces
from llie_preproc.pictures import Picture, read_picture, write_picture


def test_photographs_are_read_without_a_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download")

    monkeypatch.setattr("socket.socket.connect", refuse)
    photographs.sample.cache_clear()
    names = {*light.PHOTOGRAPHS, *night_scenes._BACKGROUNDS, *(name for name, _ in night_scenes._OUTLINES.values())}
    for name in names:
        image = photographs.sample(name)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
    sheets = photographs.face_sheets()
    assert len(sheets) == 5
    assert sheets["LFW sheet 1"].shape == (375, 375, 3)


@pytest.mark.parametrize("index", range(6))
def test_a_night_scene_depends_on_seed_and_index_and_is_dark(index):
    objects = night_scenes.cut_outs()
    scene, again = (night_scenes.night_scene(3, index, objects) for _ in range(2))
    np.testing.assert_array_equal(scene.night, again.night)
    np.testing.assert_array_equal(scene.boxes, again.boxes)
    assert scene.night.shape == (night_scenes.SIZE, night_scenes.SIZE, 3)
    assert scene.night.mean() < 0.6 * scene.day.mean()
    assert 1 <= len(scene.boxes) == len(scene.labels) <= 4
    x1, y1, x2, y2 = scene.boxes.T
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (np.maximum(x2, y2) <= night_scenes.SIZE).all()
    assert (np.maximum(x2 - x1, y2 - y1) >= 24).all()
    assert not np.array_equal(scene.day, night_scenes.night_scene(4, index, objects).day)


def test_boxes_enclose_the_pasted_objects():
    magenta = night_scenes.CutOut(np.tile(np.uint8([255, 0, 255]), (60, 90, 1)), np.ones((60, 90), np.float32))
    checked = 0
    for index in range(30):
        scene = night_scenes.night_scene(0, index, [magenta])
        if len(scene.boxes) > 1:
            continue
        rows, columns = np.nonzero((scene.day > [200, -1, 200]).all(axis=2) & (scene.day[..., 1] < 90))
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(scene.boxes[0], seen, atol=1)
        checked += 1
    assert checked >= 3


def test_the_set_is_read_by_pycocotools(tmp_path):
    from pycocotools.coco import COCO

    coco = COCO(str(night_scenes.write_night_set(tmp_path / "val", 9, 4)))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(night_scenes.CLASSES)
    objects = night_scenes.cut_outs()
    for number, info in coco.imgs.items():
        scene = night_scenes.night_scene(9, number, objects)
        np.testing.assert_array_equal(read_picture(tmp_path / "val" / info["file_name"]).pixels, scene.night)
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in found)]
        np.testing.assert_array_equal(corners, scene.boxes)
        assert [a["category_id"] for a in found] == list(scene.labels)


def test_the_config_has_the_classes_and_the_size_of_the_scenes():
    cfg = detector_config()
    assert cfg.classes == night_scenes.CLASSES
    assert cfg.model.roi_head.bbox_head.num_classes == len(night_scenes.CLASSES)
    assert {tuple(t["scale"]) for t in cfg.train_pipeline if t["type"] == "Resize"} == {(night_scenes.SIZE,) * 2}


def _faces(*boxes, score=0.95):
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), score, np.float32))


def test_a_face_is_found_if_overlapped_by_more_than_half():
    reference = _faces([0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60])
    # The faces have an IoU of 1, 5/15 and 0; a second box on the first face does not count again.
    found = _faces([0, 0, 10, 10], [1, 0, 10, 10], [25, 0, 35, 10])
    assert count_found(reference, found) == 1
    assert count_found(reference, _faces()) == 0
    assert count_found(_faces(), found) == 0
    assert count_unmatched(reference, found) == 1
    assert count_unmatched(_faces(), found) == 3
    assert count_unmatched(reference, _faces()) == 0


class _BrightnessDetector:
    """A detector of two faces: the second has a lower score in a dim picture, and is missed in a dark one."""

    def detect(self, images):
        return [self._one(float(image.mean())) for image in images]

    def _one(self, brightness):
        both = _faces([0, 0, 9, 9], [20, 20, 29, 29])
        if brightness < 20:
            return _faces([0, 0, 9, 9])
        return both if brightness > 60 else Faces(both.boxes, np.array([0.95, 0.8], np.float32))


def test_retention_is_the_share_of_all_reference_faces():
    pictures = {str(level): np.full((50, 50, 3), level, np.uint8) for level in (128, 180, 250)}
    detector = _BrightnessDetector()
    result = gamma_sweep.sweep(pictures, detector, {"raw": detector}, gammas=(1.0, 5.0))
    assert result.total == 6
    # Gamma 5 turns the three levels into 255 * (level / 255)^5: 8, 45 and 231.
    assert result.rows() == {"raw": {1.0: 1.0, 5.0: 5 / 6}, "raw, score > 0.9": {1.0: 1.0, 5.0: 4 / 6}}


def test_the_command_line_sets_options_and_defaults():
    args = parse_args(["demo", "--real", "somewhere", "--seed", "4"])
    assert (args.enhancer, args.device, args.seed, args.tile) == ("psenet", None, 4, None)
    assert args.real.name == "somewhere"
    assert str(args.out) == "demo_output"


def test_an_enlarging_enhancer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Upscale enlarges by 2"):
        run_demo(DemoOptions(tmp_path, enhancer="Upscale"))


def test_a_data_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="unlabelled"):
        run_demo(DemoOptions(tmp_path / "out", enhancer="Identity", real=tmp_path))


@pytest.mark.slow
def test_the_whole_demo_runs_on_a_small_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(light, "PHOTOGRAPHS", ("chelsea",))
    monkeypatch.setattr(
        photographs, "face_sheets", lambda: {"astronaut": photographs.sample("astronaut")[:256, 100:356]}
    )
    budget = Budget(train_scenes=8, val_scenes=4, iterations=2)
    path = run_demo(DemoOptions(tmp_path, enhancer="GammaCorrection", budget=budget))
    page = path.read_text(encoding="utf-8")
    assert len(page) < 8e6
    assert page.count("<img ") == page.count('alt="')
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["detector_ap"]) == {RAW, ZERO_SHOT, RETRAINED}
    assert results["face_retention"]["reference_faces"] == 1
    assert results["face_retention"]["raw"]["1"] == 1.0
    quality = results["psnr_ssim"]["chelsea"][light.UNDER]
    assert quality["enhanced"]["psnr"] > quality["raw"]["psnr"]
    strip = read_picture(tmp_path / "before_after.jpg").pixels
    assert strip.shape[0] == 256
    assert (tmp_path / "before_after.jpg").stat().st_size < 150_000
    assert "found again" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_runs_on_a_folder_of_real_pictures(tmp_path, capsys):
    face = photographs.sample("astronaut")[:256, 100:356]
    for folder in ("faces/unlabelled", "exdark/images", "darkface_samples", "unpaired/LIME"):
        write_picture(tmp_path / "data" / folder / "one.png", Picture(face))
    path = run_demo(DemoOptions(tmp_path / "out", enhancer="Identity", real=tmp_path / "data"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["face_retention"]["raw"] == results["face_retention"]["enhanced"]
    assert results["darkface_detections"] == {"one.png": [1, 1]}
    assert "DARK FACE" in path.read_text(encoding="utf-8")
    assert "0.1    0.2    0.4" in capsys.readouterr().out
