"""VisDrone scores of ``llie compare`` on a converted set equal those computed from the set's original text files."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from detection_eval.compare.comparison_store import Cell, Comparison
from detection_eval.metrics.visdrone import VisDroneScores
from llie_preproc.commands.llie import main
from tests.support.tiny_detection import write_config


def _write_visdrone(root, images):
    """Write pictures of three cars (class 4), an ignored region and an object of class "others" on a dark ground."""
    rng = np.random.default_rng(4)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(images):
        picture = rng.integers(0, 12, (64, 64, 3), np.uint8)
        rows = ["40,40,24,24,0,0,0,0", "1,50,9,9,1,11,0,0"]
        for _ in range(3):
            left, top = (int(n) for n in rng.integers(0, 34, 2))
            picture[top : top + 18, left : left + 18] = (20, 90, 20)
            rows.append(f"{left},{top},18,18,1,4,0,1,")
        cv2.imwrite(str(root / "images" / f"{number:03}.png"), picture)
        (root / "annotations" / f"{number:03}.txt").write_text("\n".join(rows) + "\n")


def _add_near_objects(detections, truth, seed):
    """Add a box near each object to the file of detections, which stays sorted by falling score."""
    rng = np.random.default_rng(seed)
    found = json.loads(detections.read_text())
    for each in json.loads(truth.read_text())["annotations"]:
        if not each["iscrowd"]:
            left, top, width, height = each["bbox"]
            shifted = [left + float(rng.uniform(-2, 2)), top + float(rng.uniform(-2, 2)), width, height]
            score = float(rng.uniform(0.5, 1))
            found.append(dict(image_id=each["image_id"], category_id=each["category_id"], bbox=shifted, score=score))
    detections.write_text(json.dumps(sorted(found, key=lambda d: -d["score"])))


@pytest.mark.slow
def test_scores_of_a_converted_set_equal_those_of_its_text_files(tmp_path):
    _write_visdrone(tmp_path / "set", 6)
    out = tmp_path / "set.json"
    assert main(["annotations", "visdrone", str(tmp_path / "set"), "--out", str(out), "--split", "4", "2"]) == 0
    train, test = (str(tmp_path / f"set_{part}.json") for part in ("train", "test"))
    images = str(tmp_path / "set" / "images")
    common = ["--train", train, images, "--test", test, images, "--resamples", "20", "--out", str(tmp_path / "out")]
    metrics = ["--metrics", "coco", "visdrone", "visdrone-coco"]
    config = str(write_config(tmp_path / "tiny.py"))
    command = ["compare", "--detector", config, "--enhancer", "gamma_correction", *common, *metrics]
    assert main(command) == 0
    comparison = Comparison(tmp_path / "out")
    # The training is too short to find objects, so detections near them are added; the same command scores these.
    for seed, cell in enumerate(comparison.cells):
        _add_near_objects(comparison.detections_path(cell), comparison.truth_path, seed)
    assert main([*command, "--resume"]) == 0

    assert [row["label"] for row in comparison.table()] == ["raw", "gamma_correction, zero-shot"]
    truth = json.loads(comparison.truth_path.read_text())
    names = {image["id"]: image["file_name"].rsplit(".", 1)[0] for image in truth["images"]}
    for row, cell in zip(
        comparison.table(), [Cell("none", "raw", 0), Cell("gamma_correction", "zero-shot", 0)], strict=True
    ):
        texts = tmp_path / cell.name
        texts.mkdir()
        (texts / "truth").mkdir()
        for name in names.values():
            (texts / f"{name}.txt").touch()
            (texts / "truth" / f"{name}.txt").write_bytes((tmp_path / f"set/annotations/{name}.txt").read_bytes())
        found = json.loads(comparison.detections_path(cell).read_text())
        assert found
        for each in sorted(found, key=lambda d: -d["score"]):
            fields = [*each["bbox"], each["score"], each["category_id"], -1, -1]
            with (texts / f"{names[each['image_id']]}.txt").open("a") as file:
                file.write(",".join(map(repr, fields)) + "\n")
        for metric, mode in (("visdrone", "toolkit"), ("visdrone-coco", "coco")):
            official = VisDroneScores.from_text(texts / "truth", texts, images, mode=mode).values()
            for name, value in official.items():
                assert value > 0
                assert row["scores"][metric][name]["value"] == pytest.approx(value)
