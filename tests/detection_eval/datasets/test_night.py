"""``NightRule`` chooses pictures by their brightness, and ``llie night`` writes their names."""

import csv
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detection_eval.datasets.labels import Problems
from detection_eval.datasets.night import Light, NightRule, measure, measure_all
from llie_preproc.commands.llie import main

NIGHT, DUSK, DAY = "night", "dusk", "day"
LEVELS = {NIGHT: (10, 70), DUSK: (65, 75), DAY: (90, 200)}


def write(path, kind, seed=0, size=(96, 64)):
    """Write a picture of random 16-pixel blocks in the two levels of ``kind``; return the share of the lower level."""
    low, high = LEVELS[kind]
    draw = np.random.default_rng(seed).random((size[1] // 16, size[0] // 16)) < 0.5
    draw[0, 0], draw[0, 1] = True, False
    pixels = np.where(draw, low, high).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.dstack([pixels] * 3)).save(path)
    return draw.mean()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    for number in range(6):
        write(root / "a" / f"night{number}.jpg", NIGHT, number)
    for number in range(3):
        write(root / f"day{number}.png", DAY, number)
    write(root / "dusk.jpg", DUSK)
    return root


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("kind", LEVELS)
def test_luma_and_dark_share_of_known_blocks_are_measured(tmp_path, kind, suffix):
    share = write(tmp_path / f"a.{suffix}", kind)
    low, high = LEVELS[kind]
    light = measure(tmp_path / f"a.{suffix}")
    # The blocks are uniform, so JPEG changes them by rounding alone.
    assert light.luma == pytest.approx(share * low + (1 - share) * high, abs=1)
    assert light.dark == pytest.approx(share if kind == NIGHT else 0)


@given(
    st.integers(8, 60), st.integers(8, 60), st.integers(0, 2**32 - 1), st.sampled_from(["jpg", "png", "webp"])
)  # fmt: skip
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_luma_equals_that_of_pillow(tmp_path, width, height, seed, suffix):
    """Sizes are whole blocks, because encoders of JPEG may fill incomplete blocks at the edge with any values."""
    width, height = 8 * width, 8 * height
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    path = tmp_path / f"a.{suffix}"
    picture.save(path, quality=95)
    luma = np.asarray(Image.open(path).convert("L"), np.float64)
    blocks = luma.reshape(height // 8, 8, width // 8, 8).mean((1, 3))
    light = measure(path)
    assert light.luma == pytest.approx(luma.mean(), abs=0.6)
    assert light.dark == pytest.approx((blocks < 50).mean(), abs=((blocks > 48) & (blocks < 52)).mean() + 1e-9)
    assert measure(path) == light


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (9, 17)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_smaller_than_a_block_are_measured(tmp_path, size, suffix):
    Image.new("RGB", size, (30, 30, 30)).save(tmp_path / f"a.{suffix}")
    assert measure(tmp_path / f"a.{suffix}") == Light(30, 1)


def test_the_rule_needs_both_conditions():
    rule = NightRule(max_luma=80, min_dark=0.25)
    assert rule(Light(79.9, 0.25))
    assert not rule(Light(80, 0.25))
    assert not rule(Light(79.9, 0.249))


def test_pictures_that_cannot_be_read_are_named(folder):
    (folder / "broken.jpg").write_bytes((folder / "dusk.jpg").read_bytes()[:50])
    (folder / "text.png").write_text("no picture")
    files = {path.name: path for path in folder.glob("*.*")}
    with pytest.raises(ValueError, match=r"broken\.jpg.*text\.png"):
        measure_all(dict(sorted(files.items())), Problems())
    problems = Problems(skip_bad=True)
    assert sorted(measure_all(files, problems)) == ["day0.png", "day1.png", "day2.png", "dusk.jpg"]
    assert len(problems.skipped) == 2
    with pytest.raises(FileNotFoundError):
        measure(folder / "absent.jpg")


def test_the_command_writes_names_and_brightness(folder, tmp_path, capsys):
    assert main(["night", str(folder), "--out", str(tmp_path / "night.txt")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("6 of 10 pictures are night by brightness: luma below 80, at least 0.2 of the blocks dark\n")
    names = (tmp_path / "night.txt").read_text().splitlines()
    assert names == [f"a/night{number}.jpg" for number in range(6)]
    with (tmp_path / "night.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert [name for name, row in rows.items() if row["night"] == "1"] == names
    assert len(rows) == 10
    light = measure(folder / "dusk.jpg")
    assert (float(rows["dusk.jpg"]["luma"]), float(rows["dusk.jpg"]["dark"])) == (round(light.luma, 2), light.dark)
    assert main(["night", str(folder), "--out", str(tmp_path / "night.txt"), "--min-dark", "0"]) == 0
    assert "dusk.jpg" in (tmp_path / "night.txt").read_text().splitlines()


def test_the_night_pictures_are_split(folder, tmp_path):
    command = ["night", str(folder), "--out", str(tmp_path / "night.txt"), "--split", "4", "2"]
    assert main(command) == 0
    train, test = ((tmp_path / f"night_{part}.txt").read_text().splitlines() for part in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    assert sorted(train + test) == (tmp_path / "night.txt").read_text().splitlines()
    assert main([*command, "--seed", "3"]) == 0
    assert (tmp_path / "night_test.txt").read_text().splitlines() != test


def test_a_list_of_names_replaces_the_rule(folder, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("a/night0\ndusk.jpg\n")
    command = ["night", str(folder), "--out", str(tmp_path / "night.txt"), "--names", str(tmp_path / "list.txt")]
    assert main(command) == 0
    assert "2 are night by the list" in (out := capsys.readouterr().out)
    assert "the two differ in 6" in out
    assert (tmp_path / "night.txt").read_text() == "a/night0.jpg\ndusk.jpg\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "5", "2"], "needs 7 pictures, got 6"),
        (["--max-luma", "5"], "none of the 10 pictures"),
        (["--names", "absent.txt"], "absent.txt"),
    ],
)
def test_impossible_choices_are_refused(folder, tmp_path, options, message, capsys):
    assert main(["night", str(folder), "--out", str(tmp_path / "night.txt"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "night.txt").exists()


def test_paths_of_the_command_are_checked(folder, tmp_path, capsys):
    assert main(["night", str(folder), "--out", str(tmp_path / "night.json")]) == 2
    assert "must end in .txt" in capsys.readouterr().err
    assert main(["night", str(tmp_path / "absent"), "--out", str(tmp_path / "night.txt")]) == 2
    assert "absent" in capsys.readouterr().err


@pytest.fixture
def drones(tmp_path):
    for number in range(6):
        write(tmp_path / "images" / f"{number}.jpg", DAY if number % 3 == 2 else NIGHT, number)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{number}.txt").write_text("1,2,3,4,1,4,0,0\n")
    return tmp_path


def test_annotations_chooses_the_same_night_pictures(drones, capsys):
    out = drones / "out"
    convert = ["annotations", "visdrone", str(drones), "--out", str(out / "night.json"), "--split", "3", "1"]
    assert main([*convert, "--night"]) == 0
    assert "night: 4 of 6 pictures, luma below 80" in capsys.readouterr().out
    assert main(["night", str(drones / "images"), "--out", str(out / "night.txt"), "--split", "3", "1"]) == 0
    for part in ("train", "test"):
        truth = json.loads((out / f"night_{part}.json").read_text())
        names = (out / f"night_{part}.txt").read_text().splitlines()
        assert [image["file_name"] for image in truth["images"]] == names
    (out / "list.txt").write_text("2.jpg\n")
    capsys.readouterr()
    assert main([*convert[:-3], "--night", "--names", str(out / "list.txt")]) == 0
    assert "not by brightness" in capsys.readouterr().out
    assert json.loads((out / "night.json").read_text())["images"][0]["file_name"] == "2.jpg"


def test_annotations_with_night_refuses_a_missing_picture(drones, capsys):
    (drones / "images" / "0.jpg").unlink()
    assert main(["annotations", "visdrone", str(drones), "--out", str(drones / "night.json"), "--night"]) == 2
    assert "0.txt: there is no picture '0'" in capsys.readouterr().err


def test_the_rule_tells_the_day_and_night_samples_of_visdrone_apart(shared_data):
    rule, root = NightRule(), shared_data / "visdrone_samples"
    days = [measure(path) for path in sorted((root / "images").iterdir())]
    nights = [measure(path) for path in sorted((root / "night_unlabelled").iterdir())]
    assert (len(days), len(nights)) == (17, 2)
    assert not any(map(rule, days))
    assert all(map(rule, nights))
    # Each of the two conditions alone would tell them apart.
    assert min(each.luma for each in days) > 95 > 80 > 70 > max(each.luma for each in nights)
    assert max(each.dark for each in days) < 0.18 < 0.2 < 0.30 < min(each.dark for each in nights)


def test_nearly_all_pictures_of_dark_sets_are_night(shared_data):
    found = {}
    for name in ("exdark/images", "darkface_samples", "unpaired/LLVIP"):
        lights = [measure(p) for p in (shared_data / name).rglob("*") if p.suffix in {".jpg", ".png"}]
        found[name] = (sum(map(NightRule(), lights)), len(lights))
    assert found == {"exdark/images": (50, 52), "darkface_samples": (7, 7), "unpaired/LLVIP": (24, 24)}
