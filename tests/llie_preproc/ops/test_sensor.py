"""The camera model: sRGB follows its standard; exposure and noise follow their formulas, in NumPy and in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llie_preproc.ops.sensor import Sensor, linear_to_srgb, photograph, sense, srgb_to_linear

LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
LIBRARIES = {"numpy": np.asarray, "torch": torch.as_tensor}
libraries = pytest.mark.parametrize("of", LIBRARIES.values(), ids=LIBRARIES)
Library = Callable[[Any], Any]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def sensed(light: Any, sensor: Sensor) -> np.ndarray:
    """Readings of a sensor, with seeded noise that the library of ``light`` (NumPy or PyTorch) draws."""
    torch.manual_seed(0)
    return np.asarray(sense(light, sensor, None if isinstance(light, torch.Tensor) else rng()))


@libraries
@given(value=st.floats(0, 1))
def test_srgb_comes_back_from_linear_light(of: Library, value: float) -> None:
    assert float(linear_to_srgb(srgb_to_linear(of(np.float64(value))))) == pytest.approx(value, abs=1e-6)


@libraries
def test_the_transfer_function_is_that_of_the_standard(of: Library) -> None:
    """The curve of IEC 61966-2-1, for one number at a time."""
    values = np.arange(256) / 255
    expected = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    light = srgb_to_linear(of(values))
    np.testing.assert_allclose(np.asarray(light), expected, rtol=0, atol=1e-9)
    # Middle grey: 18 % of the light is the level 117.6 of 255; half the light is 187.5.
    encoded = linear_to_srgb(of(np.array([0.0, 0.18, 0.5, 1.0])))
    np.testing.assert_allclose(np.asarray(encoded) * 255, [0, 117.6, 187.5, 255], atol=0.1)


@libraries
def test_light_that_noise_has_made_negative_can_be_encoded(of: Library) -> None:
    assert np.isfinite(np.asarray(linear_to_srgb(of(np.array([-0.1, 0.0]))))).all()


@libraries
@pytest.mark.parametrize(
    ("light", "sensor"),
    [(0.2, Sensor(500.0, 4.0)), (0.002, Sensor(1000.0, 3.0)), (0.5, Sensor(50.0)), (0.8, Sensor(900.0, 4.0))],
)
def test_noise_has_the_mean_and_the_variance_of_its_formula(of: Library, light: float, sensor: Sensor) -> None:
    number = 400_000
    read = sensed(of(np.full(number, light)), sensor)
    variance = light / sensor.full_well + (sensor.read_noise / sensor.full_well) ** 2
    assert abs(read.mean() - light) < 5 * math.sqrt(variance / number)
    # The error of a sample variance follows from the fourth moment, which for a Poisson law is 3 l^2 + l.
    fourth = 3 * variance**2 + light / sensor.full_well**3
    assert abs(read.var() - variance) < 5 * math.sqrt((fourth - variance**2) / number)


@libraries
def test_shot_noise_is_poisson(of: Library) -> None:
    counts = (sensed(of(np.full(20_000, 0.004)), Sensor(1000.0)) * 1000).round()
    edges = np.arange(12)
    observed = np.array([*(np.sum(counts == k) for k in edges), np.sum(counts > edges[-1])])
    expected = 20_000 * np.array([*stats.poisson.pmf(edges, 4), stats.poisson.sf(edges[-1], 4)])
    assert stats.chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize(
    "pair", [(np.ones(2), None), (np.ones(2), torch.Generator()), (torch.ones(2), rng())], ids=range(3)
)
def test_light_and_noise_are_of_one_library(pair: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="of one library"):
        sense(pair[0], Sensor(100.0), pair[1])


def test_no_noise_and_no_stops_is_the_same_picture() -> None:
    np.testing.assert_array_equal(photograph(LEVELS, 0.0, Sensor(), rng()), LEVELS)


@settings(deadline=None)
@given(stops=st.floats(-8, 2))
def test_a_stop_is_a_factor_of_two_in_light(stops: float) -> None:
    taken = photograph(LEVELS, stops, Sensor(), rng())
    expected = np.minimum(srgb_to_linear(LEVELS / 255) * 2.0**stops, 1)
    # Half an 8-bit step of sRGB is at most 0.0045 of the light.
    np.testing.assert_allclose(srgb_to_linear(taken / 255), expected, atol=0.0046)


def test_illumination_multiplies_the_light() -> None:
    halved = photograph(LEVELS, 0.0, Sensor(), rng(), np.full((16, 16, 1), 0.5))
    np.testing.assert_array_equal(halved, photograph(LEVELS, -1.0, Sensor(), rng()))
