"""``benchmarks.night_light`` measures the light of pictures as closed forms give it, and compares sets."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("benchmarks.night_light", reason="the benchmarks are found from the repository's root")

import torch

from benchmarks.night_light import (
    BINS,
    CONFIG,
    GRID,
    SIDE,
    STATISTICS,
    dark_syntheses,
    darkened,
    levels_apart,
    main,
    noise_level,
    picture_light,
    shrunk,
    summarised,
    tables,
)
from llie_preproc.pictures import Picture, write_picture

DARKENS = "dict(type='llie_preproc.LowLightSynthesis')"
LIT = "dict(type='llie_preproc.LowLightSynthesis', illumination=dict(type='llie_preproc.NightIllumination'))"


def _even(level, height=64, width=64):
    return np.full((height, width, 3), level, np.uint8)


def _light(level):
    """Linear light of a level above sRGB's linear part, from its definition."""
    return ((level / 255 + 0.055) / 1.055) ** 2.4


def _choices(*steps):
    listed = ", ".join(f"dict(share=1, steps=[{step}])" for step in steps)
    return f"synthesis = dict(type='llie_preproc.RandomSynthesis', choices=[{listed}])"


@pytest.fixture
def folders(tmp_path):
    """Two folders, ``night`` and ``day``, of two pictures each."""
    for name, level in (("night", 30), ("day", 150)):
        for number in range(2):
            noise = np.random.default_rng(number).integers(-20, 21, (48, 64, 3))
            write_picture(tmp_path / name / f"{number}.png", Picture((level + noise).astype(np.uint8)))
    return tmp_path


@pytest.mark.parametrize(("height", "width"), [(2 * SIDE, 3 * SIDE), (3 * SIDE, 2 * SIDE)])
def test_a_large_picture_is_averaged_over_areas(height, width):
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    small = shrunk(pixels)
    assert min(small.shape[:2]) == SIDE
    means = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, means, atol=0.51)


def test_a_picture_that_is_small_enough_stays_as_it_is():
    pixels = _even(7, SIDE, SIDE + 1)
    assert shrunk(pixels) is pixels


def test_an_even_picture_has_one_level_and_no_spread():
    histogram, found = picture_light(_even(40))
    assert histogram[40] == 1
    assert found["mean"] == pytest.approx(40)
    zero = ("black", "white", "spread", "peak", "red", "blue", "noise")
    assert [found[name] for name in zero] == pytest.approx([0] * len(zero), abs=1e-9)
    assert set(found) == set(STATISTICS)


@pytest.mark.parametrize(("level", "black", "white"), [(8, 1, 0), (9, 0, 0), (249, 0, 0), (250, 0, 1)])
def test_the_first_and_last_levels_are_black_and_white(level, black, white):
    _, found = picture_light(_even(level))
    assert (found["black"], found["white"]) == (black, white)


def test_spread_and_peak_of_light_are_in_stops():
    pixels = _even(50)
    pixels[:, 32:] = 200
    stops = math.log2(_light(200) / _light(50))
    _, halves = picture_light(pixels)
    assert halves["spread"] == pytest.approx(stops / 2)
    lamp = _even(50)
    lamp[: 64 // GRID, : 64 // GRID] = 200
    _, found = picture_light(lamp)
    assert found["peak"] == pytest.approx(stops)
    share = 1 / GRID**2
    assert found["spread"] == pytest.approx(stops * math.sqrt(share * (1 - share)))


def test_a_black_picture_has_finite_statistics_except_for_its_noise():
    _, found = picture_light(_even(0))
    assert math.isnan(found.pop("noise"))
    assert np.isfinite(list(found.values())).all()


def test_the_cast_compares_the_mean_light_of_channels():
    pixels = _even(0)
    pixels[...] = (120, 60, 30)
    pixels[:10] = (20, 100, 220)
    light = [(10 * _light(top) + 54 * _light(low)) / 64 for top, low in ((20, 120), (100, 60), (220, 30))]
    _, found = picture_light(pixels)
    assert found["red"] == pytest.approx(math.log2(light[0] / light[1]))
    assert found["blue"] == pytest.approx(math.log2(light[2] / light[1]))


@pytest.mark.parametrize("deviation", [0.5, 2.0, 6.0])
def test_noise_is_found_where_it_is_dark_and_flat(deviation):
    rng = np.random.default_rng(0)
    ramp = np.linspace(30, 50, 320)
    luma = rng.normal(np.broadcast_to(ramp, (320, 320)), deviation)
    # Neither a bright half with more noise nor a dark, coarse pattern counts.
    luma[:, 160:] = rng.normal(150, 5 * deviation, (320, 160))
    luma[:64, :160] += 15 * (np.indices((64, 160)).sum(axis=0) // 8 % 2)
    assert noise_level(luma) == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("luma", [np.full((64, 64), 200.0), np.full((64, 64), 2.0), np.full((15, 64), 40.0)])
def test_without_dark_blocks_there_is_no_number_for_noise(luma):
    assert math.isnan(noise_level(luma))


def test_a_summary_has_percentiles_and_the_mean_histogram():
    levels = np.arange(20, 31)
    found = summarised(_even(level) for level in [*levels, 200])
    assert found.pictures == 12
    assert found.histogram[[20, 25, 200]].tolist() == pytest.approx([1 / 12] * 3)
    assert found.shares().tolist() == pytest.approx([11 / 12, *[0] * (BINS - 3), 1 / 12, 0])
    assert found.statistics["mean"] == pytest.approx(np.percentile([*levels, 200], [10, 50, 90]))
    # The bright picture has no dark block and is left out; the others have no noise.
    assert found.statistics["noise"] == pytest.approx((0, 0, 0))
    json.dumps(summarised([_even(200)]).plain(), allow_nan=False)


@pytest.mark.parametrize("shift", [0, 1, 37])
def test_sets_are_as_many_levels_apart_as_one_is_brighter(shift):
    pixels = np.random.default_rng(1).integers(30, 90, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    one, other = summarised([pixels]), summarised([pixels + np.uint8(shift)])
    assert levels_apart(one, other) == pytest.approx(shift)
    assert levels_apart(other, one) == pytest.approx(shift)


def test_the_config_has_even_and_uneven_choices():
    found = dark_syntheses(str(CONFIG))
    lit = {
        kind: [getattr(step, "illumination", None) is not None for steps in synthesis.steps for step in steps]
        for kind, synthesis in found.items()
    }
    assert lit == {"even": [False, False], "uneven": [True, False]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other = 1", "'synthesis' must be the config of a RandomSynthesis, got None"),
        (f"synthesis = {DARKENS}", "'synthesis' must be the config of a RandomSynthesis"),
        (_choices(DARKENS, ""), r"an illumination \(uneven\)"),
        (_choices(LIT, ""), r"no illumination \(even\)"),
    ],
)
def test_a_config_without_both_kinds_is_refused(tmp_path, text, message):
    config = tmp_path / "training.py"
    config.write_text(text)
    with pytest.raises(ValueError, match=message):
        dark_syntheses(str(config))


def test_draws_are_equal_for_equal_seeds_whatever_the_synthesis_draws_later(folders):
    files = sorted((folders / "day").iterdir())

    def drawn(seed, further):
        first = []

        def synthesis(picture):
            first.append(torch.rand(()).item())
            torch.rand(further)
            return picture

        pictures = list(darkened(files, synthesis, 3, seed))
        assert len(pictures) == 6
        assert pictures[0].shape == (48, 64, 3)
        return first

    state = torch.get_rng_state()
    assert drawn(0, 1) == drawn(0, 5)
    assert len(set(drawn(0, 1) + drawn(1, 1))) == 12
    assert torch.equal(torch.get_rng_state(), state)


def test_tables_have_a_column_for_each_set_and_the_distances_to_real_ones():
    sets = {"Real": summarised([_even(20)]), "even": summarised([_even(50), _even(60)])}
    statistics, distances = tables(sets, ["Real"]).split("\n\n")
    assert "|  | Real (1) | even (2) |" in statistics
    assert "| mean luma | 20 [20, 20] | 55 [51, 59] |" in statistics
    assert "| % of luma 32 to 63 | 0.0 | 100.0 |" in statistics
    assert distances.splitlines()[2:] == ["| Real | 0.0 |", "| even | 35.0 |"]


def test_the_command_prints_tables_and_writes_json(folders, monkeypatch, capsys):
    file = folders / "result.json"
    line = ["--real", f"Real={folders / 'night'}", "--day", str(folders / "day"), "--draws", "2", "--json", str(file)]
    monkeypatch.setattr("sys.argv", ["night_light", *line])
    main()
    assert "Real (2) | day (2) | even (4) | uneven (4)" in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["sets"]["Real"]["mean"]["median"] == pytest.approx(30, abs=0.5)
    assert set(result["levels_apart"]) == {"Real", "day", "even", "uneven"}
    assert result["levels_apart"]["day"]["Real"] == pytest.approx(120, abs=0.5)
    assert {"machine", "torch", "numpy", "scipy"} <= set(result)


@pytest.mark.parametrize("real", ["no_name", "=night", "night="])
def test_a_folder_without_a_name_is_refused(folders, monkeypatch, capsys, real):
    monkeypatch.setattr("sys.argv", ["night_light", "--real", real, "--day", str(folders / "day")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"expected NAME=FOLDER, got '{real}'" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a", "a"), ("a", "day"), ("uneven",)])
def test_a_name_that_is_taken_is_refused(folders, monkeypatch, names):
    real = [f"{name}={folders / 'night'}" for name in names]
    monkeypatch.setattr("sys.argv", ["night_light", "--real", *real, "--day", str(folders / "day")])
    with pytest.raises(ValueError, match=f"--real must have different names, .* got {', '.join(names)}"):
        main()


@pytest.mark.parametrize(("option", "value"), [("--draws", "0"), ("--seed", "-1")])
def test_a_number_out_of_range_is_refused(folders, monkeypatch, option, value):
    line = ["--real", f"Real={folders / 'night'}", "--day", str(folders / "day"), option, value]
    monkeypatch.setattr("sys.argv", ["night_light", *line])
    with pytest.raises(ValueError, match=f"{option} must be .*{value}"):
        main()
