"""``NightIllumination``: each part of the light has its closed form and its share, and the ambient light the mean 1."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from llie_preproc.registry import TRANSFORMS
from training.datasets import NightIllumination

NONE = dict(field_share=0.0, vignette_share=0.0, slope_share=0.0, tint_share=0.0, lamp_share=0.0)


def only(part=None, **options):
    """An illumination that always has one part and no other."""
    return NightIllumination(**{**NONE, **({f"{part}_share": 1.0} if part else {}), **options})


def drawn(illumination, seed=0, height=48, width=64):
    torch.manual_seed(seed)
    return [light.double().numpy() for light in illumination(height, width)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 60), width=st.integers(1, 60))
def test_factors_are_positive_and_the_ambient_light_has_the_mean_1(seed, height, width):
    torch.manual_seed(seed)
    factor, glare = NightIllumination()(height, width)
    assert factor.shape == glare.shape == (3, height, width)
    assert factor.dtype == glare.dtype == torch.float32
    assert factor.isfinite().all()
    assert (factor > 0).all()
    assert (glare >= 0).all()
    # What lamps add to the ambient light is the glare over its share, 0.02.
    assert float((factor.double() - glare.double() / 0.02).mean()) == pytest.approx(1, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_without_lamps_there_is_no_glare(seed):
    torch.manual_seed(seed)
    factor, glare = NightIllumination(lamp_share=0.0)(20, 30)
    assert not glare.any()
    assert float(factor.double().mean()) == pytest.approx(1, abs=1e-5)


def test_with_all_shares_0_the_light_is_as_by_day():
    factor, glare = drawn(only())
    assert (factor == 1).all()
    assert (glare == 0).all()


def test_the_same_seed_draws_the_same_light():
    first, again, other = (drawn(NightIllumination(lamp_share=1.0), seed) for seed in (3, 3, 4))
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, other))


@pytest.mark.parametrize("part", ["field", "vignette", "slope", "tint", "lamp"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_each_part_has_its_share(part, share):
    torch.manual_seed(0)
    illumination, number = only(part, **{f"{part}_share": share}), 600
    seen = sum(not torch.equal(illumination(6, 8)[0], torch.ones(3, 6, 8)) for _ in range(number))
    # Four standard deviations of a binomial law.
    assert abs(seen - share * number) < 4 * math.sqrt(number * share * (1 - share))


def places(height=48, width=64):
    """Places of the pixels, from -0.5 to 0.5: ``(H, 1)`` down and ``(1, W)`` across."""
    down, across = ((np.arange(n) + 0.5) / n - 0.5 for n in (height, width))
    return down[:, None], across[None]


def test_a_vignette_takes_the_stated_light_from_the_corners():
    factor, _ = drawn(only("vignette", vignette=(0.6, 0.6)))
    down, across = places()
    light = 1 - 0.6 * 2 * (down**2 + across**2)
    assert np.allclose(factor, light / light.mean(), rtol=1e-5)
    # At the corner itself 0.6 of the light is lost.
    assert factor[0, 0, 0] / factor[0, 24, 32] == pytest.approx(0.4, abs=0.04)


def test_a_vignette_that_takes_all_light_leaves_it_positive():
    factor, _ = drawn(only("vignette", vignette=(1.0, 1.0)))
    assert factor.min() > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_back_light_is_a_plane_in_stops_with_the_stated_slope(seed):
    factor, _ = drawn(only("slope", slope_stops=(3.0, 3.0)), seed)
    down, across = np.broadcast_arrays(*places())
    design = np.stack([down.ravel(), across.ravel(), np.ones(down.size)], 1)
    (rise, run, _), residual, *_ = np.linalg.lstsq(design, np.log2(factor[0]).ravel(), rcond=None)
    assert residual[0] < 1e-6
    assert math.hypot(rise, run) == pytest.approx(3, rel=1e-4)


def test_back_light_comes_from_all_sides():
    brightest = [np.unravel_index(drawn(only("slope"), seed, 9, 9)[0][0].argmax(), (9, 9)) for seed in range(60)]
    assert {(row > 4, column > 4) for row, column in brightest} == {
        (a, b) for a in (False, True) for b in (False, True)
    }


def test_a_field_is_smooth_and_as_strong_as_stated():
    stops = [np.log2(drawn(only("field", field_stops=(s, s)), seed=5)[0][0]) for s in (0.5, 1.5)]
    weak, strong = (each - each.mean() for each in stops)
    # The same draw, three times as strong.
    assert np.allclose(strong, 3 * weak, atol=1e-4)
    # A grid of at most 5x5 numbers cannot vary much from pixel to pixel of 48x64.
    assert np.abs(np.diff(weak, axis=0)).max() < 0.15 * np.ptp(weak)
    deviations = [np.log2(drawn(only("field", field_stops=(1.0, 1.0)), seed)[0][0]).std() for seed in range(200)]
    # Bicubic interpolation shrinks independent numbers of deviation 1 a little.
    assert 0.5 < np.mean(deviations) < 1.1


def test_a_tint_is_one_factor_for_each_channel():
    factors = [drawn(only("tint", tint=0.3), seed)[0] for seed in range(500)]
    assert all(np.ptp(factor, axis=(1, 2)).max() == 0 for factor in factors)
    logs = np.log([factor[:, 0, 0] for factor in factors])
    for first, second in ((0, 1), (1, 2), (0, 2)):
        # The difference of two independent normal numbers of deviation 0.3; its estimate from 500 has 3.2 % error.
        assert (logs[:, first] - logs[:, second]).std() == pytest.approx(0.3 * math.sqrt(2), rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_a_lamp_falls_off_by_its_law(seed):
    """``(peak / light)^(1 / fall) - 1`` is the square of the distance over the radius, whose second differences are
    constant and do not depend on the direction; ``fall`` is the one number for which they are."""
    height, peak, radius = 48, 2.0**3, 0.2
    one = only("lamp", lamps=1, lamp_stops=(3.0, 3.0), lamp_radius=(radius, radius), tint=0.0, glare=0.1)
    factor, glare = drawn(one, seed, height)
    assert np.allclose(glare, 0.1 * (factor - 1), atol=1e-6)
    assert (factor == factor[:1]).all()
    light = glare[0] / 0.1
    assert light.max() <= peak * (1 + 1e-5)
    expected = 2 / (height * radius) ** 2

    def errors(fall):
        squares = (peak / light) ** (1 / fall) - 1
        return np.concatenate([(np.diff(squares, 2, axis) - expected).ravel() for axis in (0, 1)])

    best = optimize.minimize_scalar(lambda fall: (errors(fall) ** 2).sum(), bounds=(1, 2), method="bounded")
    assert np.abs(errors(best.x)).max() < 0.02 * expected


def test_lamps_have_colours_and_are_no_more_than_stated():
    """Lamps so small that each is seen alone, in pictures so large that few lie on one another."""
    counts, tinted = [], 0
    for seed in range(60):
        small = only("lamp", lamps=3, lamp_stops=(6.0, 6.0), lamp_radius=(0.01, 0.01), tint=0.2)
        _, glare = drawn(small, seed, 120, 120)
        bright = glare.max(0)
        inner = bright[1:-1, 1:-1]
        shifted = [np.roll(bright, (i, j), (0, 1))[1:-1, 1:-1] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        counts.append(int(np.all([inner > each for each in shifted], axis=0).sum()))
        tinted += bool(np.ptp(glare[:, 60, 60]) > 0.01 * glare[:, 60, 60].max())
    assert max(counts) == 3
    # A lamp lies outside of the picture with a chance of 1 - (1 / 1.2)^2, so that often fewer are seen.
    assert min(counts) == 0
    assert tinted == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field_share": 1.5}, "field_share must be a number of at least 0 and of at most 1, got 1.5"),
        ({"vignette_share": -0.1}, "vignette_share must be .* got -0.1"),
        ({"slope_share": math.nan}, "slope_share must be .* got nan"),
        ({"tint_share": "0.5"}, "tint_share must be .* got '0.5'"),
        ({"lamp_share": True}, "lamp_share must be .* got True"),
        ({"field_stops": (1.6, 0.3)}, r"field_stops must be a range \(low, high\), 0 <= low <= high <= 16, got"),
        ({"field_stops": (0.0, 17.0)}, "field_stops must be a range .* <= 16"),
        ({"vignette": (0.2, 1.1)}, "vignette must be a range .* <= 1,"),
        ({"slope_stops": (-1.0, 2.0)}, "slope_stops must be a range .*"),
        ({"lamp_stops": 3.0}, "lamp_stops must be a range .* got 3.0"),
        ({"lamp_radius": (0.0, 0.1)}, r"lamp_radius must be a range \(low, high\), 0 < low"),
        ({"tint": -0.1}, "tint must be .* got -0.1"),
        ({"tint": 1.5}, "tint must be .* of at most 1, got 1.5"),
        ({"glare": 2}, "glare must be .* got 2"),
        ({"lamps": 0}, "lamps must be a whole number of at least 1, got 0"),
        ({"lamps": 2.5}, "lamps must be a whole number of at least 1, got 2.5"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build({"type": "llie_preproc.NightIllumination", **options})


def test_the_strongest_light_that_is_allowed_is_finite():
    strongest = NightIllumination(
        **dict.fromkeys(NONE, 1.0),
        field_stops=(16.0, 16.0), slope_stops=(16.0, 16.0), lamp_stops=(16.0, 16.0), vignette=(1.0, 1.0), tint=1.0,
    )  # fmt: skip
    for seed in range(50):
        torch.manual_seed(seed)
        assert all(light.isfinite().all() for light in strongest(24, 32))
