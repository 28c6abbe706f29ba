"""``llie annotations`` converts every box of samples from ExDark, VisDrone and DARK FACE."""

import json

import numpy as np

from tests.support.made_annotations import annotations, boxes_of


def test_exdark_samples_are_converted(shared_data, tmp_path, capsys):
    root, out = shared_data / "exdark", tmp_path / "exdark.json"
    command = ["exdark", root / "images", root / "bbGt", "--list", root / "imageclasslist.txt"]
    assert annotations(*command, "--out", out) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 52 images, 186 boxes, 0 crowd boxes\n  Bicycle: 29\n")
    truth = json.loads(out.read_text())
    lines = [line.split() for p in sorted((root / "bbGt").iterdir()) for line in p.read_text().splitlines()[1:]]
    names = {each["id"]: each["name"] for each in truth["categories"]}
    found = [[names[each["category_id"]], *map(str, each["bbox"])] for each in truth["annotations"]]
    assert found == [line[:5] for line in lines]
    numbers = []
    for part in ("train", "val", "test"):
        assert annotations(*command, "--part", part, "--out", out) == 0
        numbers.append(len(json.loads(out.read_text())["images"]))
    assert numbers == [46, 1, 5]


def test_visdrone_samples_in_yolo_text_are_converted(shared_data, tmp_path):
    root = shared_data / "visdrone_samples"
    command = ["yolo", root / "images", root / "labels_yolo", "--out", tmp_path / "out.json"]
    assert annotations(*command, "--classes", "car", "van", "truck", "bus", "motor", "--out-of-bounds", "error") == 0
    truth = json.loads((tmp_path / "out.json").read_text())
    assert len(truth["images"]) == 17
    lines = sum(len(path.read_text().splitlines()) for path in (root / "labels_yolo").iterdir())
    assert len(truth["annotations"]) == lines
    # The boxes were whole pixels before they were written as fractions.
    edges = np.array([each["bbox"] for each in truth["annotations"]])
    assert np.abs(edges - edges.round()).max() < 0.01


def test_pseudo_labels_of_dark_face_are_converted(shared_data, tmp_path, capsys):
    root = shared_data / "darkface_samples"
    command = ["darkface", root, root / "dsfd_pseudo_labels.txt"]
    assert annotations(*command, "--out", tmp_path / "out.json") == 0
    assert "6 boxes clipped to the picture" in capsys.readouterr().out
    truth = json.loads((tmp_path / "out.json").read_text())
    assert [image["file_name"] for image in truth["images"]][:2] == ["1482.png", "234.png"]
    assert sum(each["pseudo_label"] for each in truth["annotations"]) == 20 + 16 + 20 + 21 + 7 + 35 + 26
    assert (1, 218, 37, 43) not in boxes_of(truth)
    assert (1, 592, 218, 37, 43) in boxes_of(truth, "252.png")
