"""Each data set of ``known_sets.py`` pairs the files of its layout, and names what is wrong with other files."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

from llie_preproc.registry import DATASETS
from tests.support.made_trees import enlarged, pixels_of, save, save_pair


def build(name, root, **options):
    return DATASETS.build({"type": f"llie_preproc.{name}", "root": str(root), **options})


def array(picture):
    return picture.permute(1, 2, 0).numpy()


def assert_pairs(dataset, count, scale=1):
    """Assert that every target is what ``save_pair`` makes of its input, and that no input occurs twice."""
    assert len(dataset) == count
    dataset.check()
    for item in (dataset[i] for i in range(count)):
        expected = enlarged(255 - array(item["inputs"]), scale)
        assert np.array_equal(array(item["data_samples"].target), expected)
    assert len({dataset[i]["data_samples"].img_path for i in range(count)}) == count


def lol_v1(root):
    for split, count in (("our485", 3), ("eval15", 2)):
        for i in range(count):
            save_pair(root / split / "low" / f"{i}.png", root / split / "high" / f"{i}.png", i)


def lol_v1_packed(root):
    for split, count in (("Train", 3), ("Test", 2)):
        for i in range(count):
            save_pair(root / split / "input" / f"{i}.png", root / split / "target" / f"{i}.png", i)


def lol_v2(root, prefixes=("", "")):
    for subset in ("Real_captured", "Synthetic"):
        for split, count in (("Train", 3), ("Test", 2)):
            for i in range(count):
                folder, names = root / subset / split, [f"{prefix}{690 + i:05}.png" for prefix in prefixes]
                save_pair(folder / "Low" / names[0], folder / "Normal" / names[1], i)


def lsrw(root):
    for split, count in (("Training data", 3), ("Eval", 2)):
        for camera in ("Huawei", "Nikon"):
            folder = root / split / camera
            for i in range(count):
                save_pair(folder / "low" / f"{i}.jpg", folder / "high" / f"{i}.jpg", i + 10 * (camera == "Nikon"))


def sice(root):
    for part, sequences in (("Dataset_Part1", 3), ("Dataset_Part2", 2)):
        for sequence in range(1, sequences + 1):
            save(root / part / "Label" / f"{sequence}.{'PNG' if sequence == 2 else 'JPG'}", 255 - pixels_of(sequence))
            for exposure in range(1, 12 if sequence == 1 else 7):
                save(root / part / str(sequence) / f"{exposure}.JPG", pixels_of(sequence))


def exposure_errors(root, names=("training", "validation", "testing")):
    for split, scenes in zip(names, (3, 2, 2), strict=True):
        folder = root / split
        for scene in range(scenes):
            name = f"a{scene:04}-jmac_DSC{scene}_x"
            for suffix in ("N1.5", "N1", "0", "P1", "P1.5"):
                save(folder / "INPUT_IMAGES" / f"{name}_{suffix}.JPG", pixels_of(scene))
            for number, letter in enumerate("abcde"):
                if split == names[2]:
                    # References of different experts differ by one level, so that the test can tell them apart.
                    target = 255 - pixels_of(scene) // 2 - (4 - number)
                    save(folder / f"expert_{letter}_testing_set" / f"{name}.jpg", target)
            if split != names[2]:
                save(folder / "GT_IMAGES" / f"{name}.jpg", 255 - pixels_of(scene))


def rellisur(root, duplicates=True):
    for split, scenes in (("Train", 3), ("Val", 1), ("Test", 2)):
        for scene in range(scenes):
            for ev in ("2.5", "3.0", "4.5"):
                save(root / split / "LLLR" / f"{265 + scene:05}-{ev}.png", pixels_of(scene))
                for s in (1, 2, 4):
                    target = enlarged(255 - pixels_of(scene), s)
                    if duplicates:
                        save(root / split / f"NLHR-Duplicates/X{s}/{265 + scene:05}-{ev}.png", target)
                    save(root / split / f"NLHR/X{s}/{265 + scene:05}.png", target)


@pytest.mark.parametrize("make", [lol_v1, lol_v1_packed])
def test_files_of_lol_v1_are_paired(tmp_path, make):
    make(tmp_path)
    assert_pairs(build("LOLv1", tmp_path), 3)
    assert_pairs(build("LOLv1", tmp_path, split="test"), 2)


@pytest.mark.parametrize("prefixes", [("", ""), ("low", "normal")])
@pytest.mark.parametrize("subset", ["real", "synthetic"])
def test_files_of_lol_v2_are_paired(tmp_path, subset, prefixes):
    lol_v2(tmp_path, prefixes)
    assert_pairs(build("LOLv2", tmp_path, subset=subset), 3)
    test = build("LOLv2", tmp_path, subset=subset, split="test")
    assert_pairs(test, 2)
    assert ("Synthetic" in test[0]["data_samples"].img_path) == (subset == "synthetic")


def test_files_of_lsrw_are_paired(tmp_path):
    lsrw(tmp_path)
    assert_pairs(build("LSRW", tmp_path), 6)
    assert_pairs(build("LSRW", tmp_path, split="test"), 4)
    nikon = build("LSRW", tmp_path, split="test", camera="nikon")
    assert_pairs(nikon, 2)
    assert all("Nikon" in nikon[i]["data_samples"].img_path for i in range(2))
    assert_pairs(build("LSRW", tmp_path, names=["Nikon/low/1.jpg"]), 1)


def exposures_of(dataset):
    paths = [Path(dataset[i]["data_samples"].img_path) for i in range(len(dataset))]
    return sorted((int(p.parent.name), int(p.stem)) for p in paths)


def test_files_of_sice_are_paired(tmp_path):
    sice(tmp_path)
    assert_pairs(build("SICE", tmp_path), 10 + 1 + 6 + 6)
    assert_pairs(build("SICE", tmp_path, part=2), 11 + 6)
    # The sixth of eleven exposures is in neither half. Names are sorted as numbers, so 10 and 11 are the brightest.
    under, over = build("SICE", tmp_path, part=2, exposures="under"), build("SICE", tmp_path, part=2, exposures="over")
    assert exposures_of(under) == [(1, e) for e in (1, 2, 3, 4, 5)] + [(2, e) for e in (1, 2, 3)]
    assert exposures_of(over) == [(1, e) for e in (7, 8, 9, 10, 11)] + [(2, e) for e in (4, 5, 6)]
    assert exposures_of(build("SICE", tmp_path, names=["3/2.JPG"])) == [(3, 2)]


@pytest.mark.parametrize("names", [("training", "validation", "testing"), ("train", "val", "test")])
def test_files_of_exposure_errors_are_paired(tmp_path, names):
    exposure_errors(tmp_path, names)
    assert_pairs(build("ExposureErrors", tmp_path), 15)
    assert_pairs(build("ExposureErrors", tmp_path, split="val"), 10)
    assert_pairs(build("ExposureErrors", tmp_path, exposures="under"), 6)
    assert_pairs(build("ExposureErrors", tmp_path, exposures="over"), 9)
    assert_pairs(build("ExposureErrors", tmp_path, exposures=["0"]), 3)
    for number, expert in enumerate("abcde"):
        test = build("ExposureErrors", tmp_path, split="test", expert=expert)
        assert len(test) == 10
        for item in (test[i] for i in range(10)):
            expected = 255 - array(item["inputs"]) // 2 - (4 - number)
            assert np.array_equal(array(item["data_samples"].target), expected)


@pytest.mark.parametrize("duplicates", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_files_of_rellisur_are_paired(tmp_path, scale, duplicates):
    rellisur(tmp_path, duplicates)
    crop = {"type": "llie_preproc.PairedRandomCrop", "size": [7, 5]}
    for split, scenes in (("train", 3), ("val", 1), ("test", 2)):
        options = {"split": split, "scale": scale}
        assert_pairs(build("RELLISUR", tmp_path, **options), 3 * scenes, scale)
        cropped = build("RELLISUR", tmp_path, **options, transforms=[crop])
        assert_pairs(cropped, 3 * scenes, scale)
        item = cropped[0]
        assert item["inputs"].shape == (3, 5, 7)
        assert np.array_equal(array(item["data_samples"].target_x1), 255 - array(item["inputs"]))


@pytest.mark.parametrize("duplicates", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_rellisur_without_target_x1_needs_no_references_in_the_size_of_the_input(tmp_path, scale, duplicates):
    rellisur(tmp_path, duplicates)
    if scale > 1:
        for folder in tmp_path.glob("*/NLHR*/X1"):
            shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError, match="X1"):
            build("RELLISUR", tmp_path, scale=scale)
    dataset = build("RELLISUR", tmp_path, scale=scale, target_x1=False)
    assert_pairs(dataset, 9, scale)
    assert dataset[0]["data_samples"].keys() == ["target"]
    extra = next((tmp_path / "Train").glob(f"NLHR*/X{scale}")) / "99999-3.0.png"
    for folder in tmp_path.glob(f"Train/NLHR*/X{scale}"):
        save(folder / extra.name, pixels_of(0))
    with pytest.raises(FileNotFoundError, match=r"1 references have no input, the first: .*99999-3\.0\.png"):
        build("RELLISUR", tmp_path, scale=scale, target_x1=False)


def night_vis_drone(root, folder="VisDrone2019-DET-train"):
    for i in range(3):
        save(root / folder / "images" / f"day{i}.jpg", 255 - pixels_of(i))
        save(root / folder / "dark" / f"day{i}.jpg", pixels_of(i))
        save(root / folder / "images" / f"night{i}.jpg", pixels_of(10 + i))
    (root / "night.txt").write_text("night0.jpg\n\nnight2.jpg\n")
    (root / "day.txt").write_text("day0.jpg\nday1.jpg\n")


@pytest.mark.parametrize("folder", ["VisDrone2019-DET-train", "train"])
def test_files_of_night_vis_drone_are_paired(tmp_path, folder):
    night_vis_drone(tmp_path, folder)
    assert_pairs(build("NightVisDrone", tmp_path, kind="paired"), 3)
    night = build("NightVisDrone", tmp_path, kind="unpaired", names=str(tmp_path / "night.txt"))
    assert [Path(night[i]["data_samples"].img_path).name for i in range(len(night))] == ["night0.jpg", "night2.jpg"]
    assert "target" not in night[0]["data_samples"]
    options = {"kind": "synthesised", "names": str(tmp_path / "day.txt")}
    made = build("NightVisDrone", tmp_path, **options)
    assert len(made) == 2
    assert np.array_equal(array(made[1]["data_samples"].target), 255 - pixels_of(1))
    assert made[1]["inputs"].float().mean() < made[1]["data_samples"].target.float().mean()
    with pytest.raises(ValueError, match="kind"):
        build("NightVisDrone", tmp_path, kind="night")
    with pytest.raises(ValueError, match="synthesis"):
        build("NightVisDrone", tmp_path, kind="paired", synthesis={"type": "llie_preproc.LowLightSynthesis"})


TREES = {
    "LOLv1": (lol_v1, {}, "our485/low/1.png", "our485/high/1.png"),
    "LOLv2": (lol_v2, {}, "Real_captured/Train/Low/00691.png", "Real_captured/Train/Normal/00691.png"),
    "LSRW": (lsrw, {}, "Training data/Nikon/low/1.jpg", "Training data/Nikon/high/1.jpg"),
    "SICE": (sice, {}, "Dataset_Part1/3/1.JPG", "Dataset_Part1/Label/3.JPG"),
    "ExposureErrors": (
        exposure_errors,
        {},
        "training/INPUT_IMAGES/a0001-jmac_DSC1_x_0.JPG",
        "training/GT_IMAGES/a0001-jmac_DSC1_x.jpg",
    ),
    "RELLISUR": (rellisur, {}, "Train/LLLR/00266-3.0.png", "Train/NLHR-Duplicates/X2/00266-3.0.png"),
    "NightVisDrone": (
        night_vis_drone,
        {"kind": "paired"},
        "VisDrone2019-DET-train/dark/day1.jpg",
        "VisDrone2019-DET-train/images/day1.jpg",
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_a_missing_reference_is_named_with_its_input(tmp_path, name):
    make, options, low, high = TREES[name]
    make(tmp_path)
    (tmp_path / high).unlink()
    with pytest.raises(FileNotFoundError) as error:
        build(name, tmp_path, **options)
    message = str(error.value)
    assert str((tmp_path / high).with_suffix("")) in message
    assert str(tmp_path / low).rsplit("_", 1)[0] in message


@pytest.mark.parametrize("name", [n for n in TREES if n != "NightVisDrone"])
def test_a_reference_without_an_input_is_named(tmp_path, name):
    make, options, _, high = TREES[name]
    make(tmp_path)
    extra = (tmp_path / high).with_stem("99999")
    save(extra, pixels_of(0))
    with pytest.raises(FileNotFoundError, match=re.escape(str(extra))):
        build(name, tmp_path, **options)


@pytest.mark.parametrize("name", TREES)
def test_a_wrong_size_is_found_before_training(tmp_path, name):
    make, options, low, high = TREES[name]
    make(tmp_path)
    save(tmp_path / high, pixels_of(0, 9, 9))
    dataset = build(name, tmp_path, **options)
    with pytest.raises(ValueError) as error:
        dataset.check()
    message = str(error.value)
    assert all(part in message for part in (str(tmp_path / high), "9x9", "12x10"))
    index = next(i for i in range(len(dataset)) if dataset.entries[i]["image"] == tmp_path / low)
    with pytest.raises(ValueError, match="9x9"):
        dataset[index]


@pytest.mark.parametrize("name", TREES)
def test_an_error_names_the_folders_of_the_layout(tmp_path, name):
    save(tmp_path / "pictures" / "a.png", pixels_of(0))
    with pytest.raises(FileNotFoundError, match="needs the folders") as error:
        build(name, tmp_path, **TREES[name][1])
    assert Path(TREES[name][2]).parts[0] in str(error.value)


@pytest.mark.parametrize(
    ("name", "make", "options", "match"),
    [
        ("LOLv1", lol_v1, {"split": "val"}, "split must be one of 'train', 'test', got 'val'"),
        ("LOLv2", lol_v2, {"subset": "both"}, "subset"),
        ("LSRW", lsrw, {"camera": "Huawei"}, "camera"),
        ("SICE", sice, {"part": 3}, "part"),
        ("SICE", sice, {"exposures": "dark"}, "exposures"),
        ("ExposureErrors", exposure_errors, {"expert": "f"}, "expert"),
        ("ExposureErrors", exposure_errors, {"exposures": ["N2"]}, "N2"),
        ("RELLISUR", rellisur, {"scale": 3}, "scale"),
        ("LSRW", lsrw, {"size": (8, 8), "names": []}, "names must hold at least one picture"),
        ("SICE", sice, {"names": ["1/6.JPG"], "exposures": "under"}, "none of the 1"),
    ],
)
def test_unknown_choices_are_refused(tmp_path, name, make, options, match):
    make(tmp_path)
    with pytest.raises(ValueError, match=match):
        build(name, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "make", "file"),
    [
        ("ExposureErrors", exposure_errors, "training/INPUT_IMAGES/a0001_P2.JPG"),
        ("RELLISUR", rellisur, "Train/LLLR/00266.png"),
    ],
)
def test_a_file_whose_name_does_not_fit_the_layout_is_named(tmp_path, name, make, file):
    make(tmp_path)
    save(tmp_path / file, pixels_of(0))
    with pytest.raises(ValueError, match=re.escape(file)):
        build(name, tmp_path)


def test_references_that_differ_only_in_the_suffix_are_refused(tmp_path):
    sice(tmp_path)
    save(tmp_path / "Dataset_Part1/Label/1.png", pixels_of(0))
    with pytest.raises(ValueError, match=r"1\.JPG and .*1\.png"):
        build("SICE", tmp_path)


@pytest.mark.parametrize("name", TREES)
def test_resource_files_of_macos_are_skipped(tmp_path, name):
    make, options, _, _ = TREES[name]
    make(tmp_path)
    expected = len(build(name, tmp_path, **options))
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    dataset = build(name, tmp_path, **options)
    assert len(dataset) == expected
    dataset.check()


def test_a_misspelt_option_is_refused(tmp_path):
    lol_v1(tmp_path)
    with pytest.raises(TypeError, match="transform"):
        build("LOLv1", tmp_path, transform=[])


def test_the_pairs_of_lol_show_the_same_scenes(shared_data):
    dataset = build("LOLv1", shared_data / "lol_v1")
    assert len(dataset) == 48
    dataset.check()
    item = dataset[0]
    low, high = item["inputs"].float(), item["data_samples"].target.float()
    assert low.shape == high.shape == (3, 400, 600)
    # An input of the same scene is bright where its reference is bright.
    assert np.corrcoef(low.mean(0).flatten(), high.mean(0).flatten())[0, 1] > 0.7
    assert low.mean() < high.mean() / 2
