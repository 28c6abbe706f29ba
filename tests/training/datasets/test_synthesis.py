"""``LowLightSynthesis`` follows its formula, and ``SynthesisedPairs`` makes pairs with it."""

import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llie_preproc.registry import TRANSFORMS
from tests.support.made_trees import pixels_of, save
from training.datasets import Draw, LOLv1, LowLightSynthesis, PairedRandomCrop, SynthesisedPairs

ALL_BYTES = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)


def fixed(exposure=1.0, gamma=1.0, electrons=None, read_noise=0.0):
    ranges = dict(exposure=(exposure,) * 2, gamma=(gamma,) * 2, read_noise=(read_noise,) * 2)
    return LowLightSynthesis(**ranges, electrons=electrons and (electrons, electrons))


def srgb_decoded(value):
    """Decode one sRGB value by IEC 61966-2-1."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_full_light_without_noise_is_the_identity():
    assert torch.equal(fixed()(ALL_BYTES), ALL_BYTES)


@settings(max_examples=30, deadline=None)
@given(exposure=st.floats(0.01, 1.0), gamma=st.floats(0.5, 3.0), value=st.integers(0, 255))
def test_without_noise_the_light_is_exposure_times_a_power(exposure, gamma, value):
    made = fixed(exposure, gamma)(torch.full((3, 1, 1), value, dtype=torch.uint8))
    light = exposure * srgb_decoded(value / 255) ** gamma
    assert srgb_decoded((int(made[0, 0, 0]) - 0.51) / 255) <= light <= srgb_decoded((int(made[0, 0, 0]) + 0.51) / 255)


def test_a_grey_patch_has_the_expected_mean_and_variance():
    """The noise is so small that the transfer function may be replaced by its tangent."""
    torch.manual_seed(0)
    value, exposure, electrons, read_noise = 200, 0.5, 2e4, 20.0
    made = fixed(exposure, 1.0, electrons, read_noise)(torch.full((3, 200, 200), value, dtype=torch.uint8)).double()
    light = exposure * srgb_decoded(value / 255)
    encoded = 1.055 * light ** (1 / 2.4) - 0.055
    slope = 1.055 / 2.4 * light ** (1 / 2.4 - 1)
    deviation = 255 * slope * math.sqrt(light / electrons + (read_noise / electrons) ** 2)
    assert float(made.mean()) == pytest.approx(255 * encoded, abs=0.05)
    # Rounding adds a variance of 1/12.
    assert float(made.var()) == pytest.approx(deviation**2 + 1 / 12, rel=0.03)


def test_parameters_stay_in_their_ranges_and_differ_between_pictures():
    torch.manual_seed(0)
    white = torch.full((3, 1, 1), 255, dtype=torch.uint8)
    made = LowLightSynthesis(exposure=(0.02, 0.25), gamma=(1.0, 1.0), electrons=None)
    logs = np.array([math.log(srgb_decoded(int(made(white)[0, 0, 0]) / 255)) for _ in range(500)])
    low, high = math.log(0.02), math.log(0.25)
    assert logs.min() > low - 0.05
    assert logs.max() < high + 0.05
    # Exposures are log-uniform, up to the rounding to bytes.
    assert stats.kstest((logs - low) / (high - low), "uniform").pvalue > 1e-3


def test_the_defaults_make_day_pictures_dark_and_noisy():
    torch.manual_seed(0)
    day = torch.full((3, 64, 64), 150, dtype=torch.uint8)
    made = [TRANSFORMS.build({"type": "llie_preproc.LowLightSynthesis"})(day).float() for _ in range(20)]
    assert all(m.mean() < 90 for m in made)
    assert all(m.std() > 0.3 for m in made)


@pytest.mark.further
def test_median_levels_of_synthesised_and_real_pictures(shared_data):
    """The levels are those of docs/datasets.md: the median over pictures of each picture's median.

    Every sixth row and column is enough, because the noise of pixels is independent.
    """
    torch.manual_seed(0)
    pairs = LOLv1(shared_data / "lol_v1")
    assert len(pairs) == 48
    items = [pairs[i] for i in range(len(pairs))]
    real = [item["inputs"].float().median() for item in items]
    made = [
        LowLightSynthesis()(item["data_samples"].target[:, ::6, ::6]).float().median()
        for item in items
        for _ in range(20)
    ]
    assert np.median(real) == 12
    assert np.median(made) == pytest.approx(18, abs=1)


def test_pairs_are_synthesised_from_a_folder(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", pixels_of(i))
    dataset = SynthesisedPairs(str(tmp_path), transforms=[PairedRandomCrop(6)])
    dataset.check(batched=True)
    assert dataset.output_sizes().keys() == {"image", "target"}
    first, again, other = dataset[Draw(1, 4)], dataset[Draw(1, 4)], dataset[Draw(1, 5)]
    assert torch.equal(first["inputs"], again["inputs"])
    assert not torch.equal(first["inputs"], other["inputs"])
    assert first["inputs"].shape == first["data_samples"].target.shape == (3, 6, 6)
    bright = SynthesisedPairs(str(tmp_path), fixed(), transforms=[PairedRandomCrop(6)])
    for i in range(3):
        item = bright[Draw(i, 4)]
        assert torch.equal(item["inputs"], item["data_samples"].target)
    half = SynthesisedPairs(str(tmp_path), {"type": "llie_preproc.LowLightSynthesis", "electrons": None})[0]
    assert (half["inputs"] <= half["data_samples"].target).all()


def test_inputs_may_be_smaller_than_their_references(tmp_path):
    save(tmp_path / "day.png", pixels_of(3))
    dataset = SynthesisedPairs(str(tmp_path), fixed(), transforms=[PairedRandomCrop((6, 4))], reduce_input=2)
    dataset.check(batched=True)
    assert {field: list(sizes) for field, sizes in dataset.output_sizes().items()} == {
        "image": [(3, 2)],
        "target": [(6, 4)],
    }
    item = dataset[Draw(0, 1)]
    blocks = item["data_samples"].target.numpy().reshape(3, 2, 2, 3, 2).astype(float)
    assert np.abs(item["inputs"].numpy() - blocks.mean(axis=(2, 4))).max() <= 0.5
    odd = SynthesisedPairs(str(tmp_path), transforms=[PairedRandomCrop(5)], reduce_input=2)
    for use in (odd.check, lambda: odd[Draw(0, 1)]):
        with pytest.raises(ValueError, match="5x5 must be multiples of reduce_input, which is 2"):
            use()
    with pytest.raises(ValueError, match="reduce_input must be a whole number of at least 1, got 0"):
        SynthesisedPairs(str(tmp_path), reduce_input=0)


@pytest.mark.parametrize(
    "options",
    [
        {"exposure": (0.0, 1.0)},
        {"exposure": (0.5, 0.1)},
        {"gamma": (-1.0, 1.0)},
        {"electrons": (0.0, 10.0)},
        {"read_noise": (-1.0, 2.0)},
        {"gamma": (1.0, math.inf)},
        {"gamma": (math.nan, 1.0)},
        {"exposure": 0.1},
        {"exposure": (0.1,)},
        {"exposure": None},
        {"electrons": (1.0, 2.0, 3.0)},
        {"read_noise": ("low", "high")},
        {"gamma": ([1.0], 2.0)},
    ],
)
def test_invalid_ranges_are_refused(options):
    with pytest.raises(
        ValueError, match=rf"{next(iter(options))} must be a range \(low, high\), 0 <=? low <= high, got"
    ):
        LowLightSynthesis(**options)


@pytest.mark.parametrize("bad", [{"image": ALL_BYTES}, ALL_BYTES.float()])
def test_synthesis_takes_only_pictures_of_bytes(bad):
    with pytest.raises(TypeError, match="LowLightSynthesis takes a picture"):
        LowLightSynthesis()(bad)
