"""``benchmarks.sice_sequences`` finds the scenes, references and exposures that pictures were made with."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("benchmarks.sice_sequences", reason="the benchmarks are found from the repository's root")

from benchmarks.sice_sequences import is_held_out, main, measured, scenes_of, sequence_of
from llie_preproc.ops.sensor import linear_to_srgb
from llie_preproc.pictures import Picture, write_picture
from tests.support.places import ROOT

LISTS = ROOT / "mm_configs" / "_base_"


def light(seed, size=128):
    """Linear light of a made scene, from about 0.05 to 0.6, with large and small structure."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.standard_normal((size, size, 3)), (0, 0), sigma) * sigma for sigma in (2, 6, 20)]
    scene = sum(layers)
    return 2 ** (-2.2 + 0.8 * scene / scene.std())


def taken(scene, stops):
    return np.rint(255 * linear_to_srgb((scene * 2.0**stops).clip(0, 1))).astype(np.uint8)


def shots(pictures):
    return [measured(name, picture) for name, picture in pictures.items()]


def test_scenes_are_found_among_mixed_pictures():
    made = {f"{seed}_{stops}": taken(light(seed), stops) for stops in (2, -3, 0, -1) for seed in range(4)}
    names = [[shot.name for shot in scene] for scene in scenes_of(shots(made))]
    assert names == [[f"{seed}_{stops}" for stops in (-3, -1, 0, 2)] for seed in range(4)]


def test_exposures_are_those_that_the_pictures_were_made_with():
    made = {f"{stops}": taken(light(0), stops) for stops in (-3.1, -2, 0, 1.1, 1.9)}
    sequence = sequence_of(shots(made))
    assert sequence.reference == "0"
    assert list(sequence.exposures) == ["-3.1", "-2", "1.1", "1.9"]
    for name, stops in sequence.exposures.items():
        assert stops == pytest.approx(float(name), abs=0.05)


def test_of_fine_steps_the_nearest_to_each_whole_ev_is_kept():
    made = {f"{stops}": taken(light(0), stops) for stops in (-2.2, -1.9, -1.4, -0.4, 0, 0.3, 0.8, 1, 1.3)}
    assert set(sequence_of(shots(made)).exposures) == {"-1.9", "-1.4", "1"}


def test_pictures_beyond_one_that_moved_are_left_out():
    moved = np.roll(light(0), 9, axis=1)
    made = {f"{stops}": taken(moved if stops <= -2 else light(0), stops) for stops in (-3, -2, -1, 0, 1, 2)}
    assert list(sequence_of(shots(made)).exposures) == ["-1", "1", "2"]


@pytest.mark.parametrize("stops", [(-6, -5, -4), (3, 4, 5), (-1, 0)])
def test_scenes_without_a_well_exposed_middle_are_left_out(stops):
    assert sequence_of(shots({f"{each}": taken(light(0), each) for each in stops})) is None


def test_lists_are_written_with_the_scenes_apart(tmp_path, capsys):
    for number in range(120):
        seed, stops = divmod(number, 3)
        picture = taken(light(seed, 64), (-1.5, 0, 1.2)[stops])
        write_picture(tmp_path / "pictures" / f"{number + 1}.png", Picture(picture))
    main([str(tmp_path / "pictures"), "--out", str(tmp_path / "lists")])
    assert "120 pictures, 40 scenes; with a reference: 35 for train, 5 for val; 105 pictures" in capsys.readouterr().out
    scenes = json.loads((tmp_path / "lists" / "sice_part1_sequences_val.json").read_text())["scenes"]
    assert [scene["reference"] for scene in scenes] == [f"{3 * scene + 2}.png" for scene in range(35, 40)]
    names = (tmp_path / "lists" / "sice_part1_train.txt").read_text().split()
    assert names == [f"{number}.png" for number in range(1, 106)]


def shipped():
    parts = {
        part: json.loads((LISTS / f"sice_part1_sequences_{part}.json").read_text())["scenes"]
        for part in ("train", "val")
    }
    return {part: [{each["reference"], *each["exposures"]} for each in scenes] for part, scenes in parts.items()}


def test_the_shipped_lists_keep_validation_apart_from_training():
    train, val = (set().union(*scenes) for scenes in shipped().values())
    names = (LISTS / "sice_part1_train.txt").read_text().split()
    assert len(names) == len(set(names)) == 1730
    assert train <= set(names)
    assert not val & set(names)
    assert sum(is_held_out(scene) for scene in range(245)) == 30
    assert [len(scenes) for scenes in shipped().values()] == [173, 24]


@pytest.mark.slow(30)
def test_the_shipped_lists_come_out_again(shared_data, tmp_path):
    main([str(shared_data / "sice_part1_256"), "--out", str(tmp_path)])
    for path in tmp_path.iterdir():
        assert path.read_text() == (LISTS / path.name).read_text()
