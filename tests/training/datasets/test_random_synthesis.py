"""Darkness in uneven light keeps the sensor's law, and ``RandomSynthesis`` and ``RandomGamma`` follow their draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from scipy import stats

from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.registry import TRANSFORMS
from tests.support.made_trees import pixels_of, save
from tests.support.random_pictures import images, planes
from training.datasets import (
    CameraProcessing,
    Draw,
    LowLightSynthesis,
    NightIllumination,
    RandomGamma,
    RandomSynthesis,
    SynthesisedPairs,
)

ALL_BYTES = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)
UNEVEN = {
    "type": "llie_preproc.LowLightSynthesis",
    "illumination": {"type": "llie_preproc.NightIllumination", "lamp_share": 1.0},
    "processing": {"type": "llie_preproc.CameraProcessing", "share": 1.0},
}


def fixed(exposure=1.0, electrons=None, read_noise=0.0, **options):
    ranges = dict(exposure=(exposure,) * 2, gamma=(1.0, 1.0), read_noise=(read_noise,) * 2)
    return LowLightSynthesis(**ranges, electrons=electrons and (electrons, electrons), **options)


def decoded(value):
    """Decode one sRGB value by IEC 61966-2-1."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_full_light_without_any_part_is_the_identity():
    none = dict.fromkeys(("field_share", "vignette_share", "slope_share", "tint_share", "lamp_share"), 0.0)
    made = fixed(illumination=NightIllumination(**none), processing=CameraProcessing(share=0.0))
    assert torch.equal(made(ALL_BYTES), ALL_BYTES)


def test_the_sensor_reads_uneven_light_with_the_stated_mean_and_variance():
    """``processing`` sees what the sensor has read, in linear light."""
    torch.manual_seed(0)
    factor = torch.tensor([0.1, 0.6, 2.0])[:, None, None].expand(3, 300, 300).clone()
    factor[:, :, 150:] *= 1.5
    glare, seen = torch.full((3, 300, 300), 0.02), []

    def keep(signal, stops):
        seen.append((signal.double(), stops))
        return signal

    value, exposure, electrons, read_noise = 200, 0.125, 500.0, 4.0
    fixed(exposure, electrons, read_noise, illumination=lambda *size: (factor, glare), processing=keep)(
        torch.full((3, 300, 300), value, dtype=torch.uint8)
    )
    [(signal, stops)] = seen
    assert stops == pytest.approx(-3)
    for channel, own in enumerate((0.1, 0.6, 2.0)):
        for half, side in ((signal[channel, :, :150], 1.0), (signal[channel, :, 150:], 1.5)):
            light = exposure * (own * side * decoded(value / 255) + 0.02)
            variance = light / electrons + (read_noise / electrons) ** 2
            number = half.numel()
            # Four deviations of a mean; of a variance of nearly normal numbers, sqrt(2 / n) of it, and some more
            # because Poisson's law has a longer tail.
            assert float(half.mean()) == pytest.approx(light, abs=4 * math.sqrt(variance / number))
            assert float(half.var()) == pytest.approx(variance, rel=6 * math.sqrt(2 / number))


def test_light_and_processing_are_those_of_the_formula():
    """Without noise: ``exposure * (factor * light + glare)``, processed, then encoded."""
    factor, glare = images(16, 16)[0] + 0.2, 0.1 * images(16, 16, seed=1)[0]
    made = fixed(0.3, illumination=lambda h, w: (factor, glare), processing=lambda z, stops: z + 0.05 - stops / 100)
    seen = made(ALL_BYTES).double() / 255
    light = torch.tensor([decoded(v / 255) for v in range(256)], dtype=torch.float64).reshape(16, 16)
    signal = 0.3 * (factor * light + glare) + 0.05 - math.log2(0.3) / 100
    below, above = (
        torch.tensor([decoded(max(v + part / 255, 0)) for v in seen.flatten().tolist()]).reshape(3, 16, 16)
        for part in (-0.51, 0.51)
    )
    assert 0 < signal.min() < signal.max() < 1
    assert ((below <= signal) & (signal <= above)).all()


@pytest.mark.parametrize("electrons", [None, 2000.0])
def test_light_far_beyond_white_reads_as_white(electrons):
    made = fixed(1.0, electrons, illumination=lambda h, w: (torch.full((3, h, w), 1e6), torch.zeros(3, h, w)))
    assert (made(torch.full((3, 8, 8), 90, dtype=torch.uint8)) == 255).all()


@pytest.mark.parametrize("synthesis", [UNEVEN, {"type": "llie_preproc.JPEGCompression", "share": 1.0},
                                       {"type": "llie_preproc.RandomGamma"}])  # fmt: skip
def test_a_draw_alone_decides_a_pair(synthesis, tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", pixels_of(i, 24, 16))
    pairs = SynthesisedPairs(str(tmp_path), synthesis)
    torch.manual_seed(0)
    first = pairs[Draw(1, 4)]["inputs"]
    state = torch.get_rng_state()
    again, other = pairs[Draw(1, 4)]["inputs"], pairs[Draw(1, 5)]["inputs"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.2])
def test_a_gamma_is_that_of_the_gamma_shift(gamma):
    picture = planes(0, (9, 7))
    made = RandomGamma((gamma, gamma))(picture)
    assert made.dtype == torch.uint8
    # The exponent passes through a logarithm, so that a level may be rounded the other way.
    expected = shift_gamma(picture.numpy(), gamma).astype(int)
    assert np.abs(made.numpy() - expected).max() <= 1
    assert (made.numpy() != expected).mean() < 0.01
    levels = np.round(255 * (picture.numpy() / 255) ** gamma)
    assert np.abs(made.numpy() - levels).max() <= 1


def test_gammas_are_log_uniform_over_their_range():
    torch.manual_seed(0)
    grey = torch.full((3, 1, 1), 128, dtype=torch.uint8)
    found = [math.log(int(RandomGamma()(grey)[0, 0, 0]) / 255) / math.log(128 / 255) for _ in range(400)]
    low, high = math.log(0.3), math.log(3.0)
    assert stats.kstest((np.log(found) - low) / (high - low), "uniform").pvalue > 1e-3


def to(value):
    return lambda picture: torch.full_like(picture, value)


def test_choices_have_their_shares():
    torch.manual_seed(0)
    shares, number = {0: 1.0, 1: 0.5, 2: 2.5}, 800
    made = RandomSynthesis([dict(share=share, steps=[to(value)]) for value, share in shares.items()])
    black = torch.zeros(3, 1, 1, dtype=torch.uint8)
    seen = [int(made(black)[0, 0, 0]) for _ in range(number)]
    for value, share in shares.items():
        p = share / 4
        assert abs(seen.count(value) - p * number) < 4 * math.sqrt(number * p * (1 - p))


def test_steps_run_in_turn_and_none_leave_the_picture_as_it_is():
    picture = planes(0, (8, 8))
    order = [lambda p: p // 2, lambda p: p + 1]
    assert torch.equal(RandomSynthesis([dict(share=1, steps=order)])(picture), picture // 2 + 1)
    assert RandomSynthesis([dict(share=0.1, steps=[])])(picture) is picture
    made = RandomSynthesis([dict(share=1.0, steps=[{"type": "llie_preproc.RandomGamma", "gamma": (2.0, 2.0)}])])
    assert torch.equal(made(picture), RandomGamma((2.0, 2.0))(picture))


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ([], ValueError, "choices must be dicts of 'share' and 'steps', at least one"),
        ([dict(share=1.0)], ValueError, "choices must be dicts of 'share' and 'steps'"),
        ([dict(share=1.0, steps=[], seed=1)], ValueError, "choices must be dicts of 'share' and 'steps'"),
        ([3], ValueError, "choices must be dicts of 'share' and 'steps'"),
        (dict(share=1.0, steps=[]), ValueError, "choices must be dicts of 'share' and 'steps'"),
        ([dict(share=0, steps=[])], ValueError, "share must be a number of at least 1e-09 .*, got 0"),
        (
            [dict(share=math.inf, steps=[])],
            ValueError,
            "share must be a number of at least 1e-09 .*, got inf",
        ),
        (
            [dict(share="1", steps=[])],
            ValueError,
            "share must be a number of at least 1e-09 .*, got '1'",
        ),
        ([dict(share=1, steps=["jpeg"])], TypeError, "each of steps must be a config .* or a callable, got 'jpeg'"),
        ([dict(share=1e-300, steps=[])], ValueError, "share must be a number .* got 1e-300"),
        ([dict(share=1, steps=None)], TypeError, "steps must be a list of configs and callables, got None"),
        ([dict(share=1, steps={"type": "RandomGamma"})], TypeError, "steps must be a list .* got {'type'"),
        ([dict(share=1, steps=[{"type": "llie_preproc.Absent"}])], KeyError, "Absent"),
    ],
)
def test_invalid_choices_are_refused(choices, error, message):
    with pytest.raises(error, match=message):
        RandomSynthesis(choices)


@pytest.mark.parametrize("part", ["illumination", "processing"])
def test_a_part_must_be_callable(part):
    with pytest.raises(TypeError, match=rf"{part} must be a config \(dict\(type=\.\.\.\)\) or a callable, got 0.5"):
        LowLightSynthesis(**{part: 0.5})


@pytest.mark.parametrize("gamma", [(0.0, 1.0), (2.0, 1.0), 0.5, (1.0, math.inf), ("a", "b")])
def test_invalid_gammas_are_refused(gamma):
    with pytest.raises(ValueError, match=r"gamma must be a range \(low, high\), 0 < low <= high, got"):
        TRANSFORMS.build({"type": "llie_preproc.RandomGamma", "gamma": gamma})


@pytest.mark.parametrize("bad", [{"image": ALL_BYTES}, ALL_BYTES.float()])
@pytest.mark.parametrize("made", [RandomGamma(), RandomSynthesis([dict(share=1, steps=[])])])
def test_only_pictures_of_bytes_are_taken(made, bad):
    with pytest.raises(TypeError, match=f"{type(made).__name__} takes a picture"):
        made(bad)
