"""``AdaptiveGamma`` computes its formula: it corrects extremes and leaves well-exposed pictures unchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from llie_preproc import build_enhancer, enhance
from llie_preproc.enhancers import AdaptiveGamma
from llie_preproc.gamma_shift import shift_gamma


def grey(value: float, size: int = 24) -> torch.Tensor:
    return torch.full((1, 3, size, size), value, dtype=torch.float64)


@settings(deadline=None)
@given(value=st.floats(0.01, 0.99), target=st.floats(0.2, 0.7))
def test_a_uniform_picture_follows_the_formula(value: float, target: float) -> None:
    network = AdaptiveGamma(target, leave=0.5, correct=1.5, most=3)
    needed = math.log2(math.log(target) / math.log(value))
    gate = min(max((abs(needed) - 0.5) / 1.0, 0), 1)
    expected = value ** (2 ** min(max(gate * needed, -3), 3))
    assert torch.allclose(network(grey(value)), grey(expected), atol=1e-9)


def test_the_local_luma_is_a_gaussian_mean() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.01, 0.99, (3, 20, 45))
    network = AdaptiveGamma(reach=0.2)
    found = network.local_luma(torch.from_numpy(image)[None])[0, 0]
    luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    rows, columns = np.arange(20) + 0.5, np.arange(45) + 0.5
    for i, j in [(0, 0), (31, 3), (16, 20)]:
        y, x = (i + 0.5) / network.grid * 20, (j + 0.5) / network.grid * 45
        weights = np.exp(-(((rows[:, None] - y) / (0.2 * 20)) ** 2 + ((columns[None] - x) / (0.2 * 45)) ** 2) / 2)
        assert found[i, j].item() == pytest.approx((weights * luma).sum() / weights.sum(), rel=1e-9)


def test_a_well_exposed_photograph_is_left_as_it_is_to_the_bit() -> None:
    photograph = data.astronaut()
    network = AdaptiveGamma(leave=3, correct=3.5)
    assert np.array_equal(enhance(photograph, network), photograph)


@pytest.mark.parametrize("gamma", [0.15, 0.3, 3.0, 6.0])
def test_a_gamma_shift_is_mostly_undone(gamma: float) -> None:
    photograph = data.astronaut()
    shifted = shift_gamma(photograph, gamma)
    before, after = (np.abs(x.astype(float) - photograph).mean() for x in (shifted, enhance(shifted, AdaptiveGamma())))
    assert after < 0.7 * before


def test_a_dark_half_is_brightened_and_a_well_lit_half_left() -> None:
    picture = grey(0.5, 64)
    picture[..., :32] = 0.02
    result = AdaptiveGamma(reach=0.05)(picture)
    assert torch.equal(result[..., 50:], picture[..., 50:])
    assert torch.allclose(result[..., :14], grey(0.45, 64)[..., :14], atol=0.02)


def test_the_size_of_a_picture_does_not_matter() -> None:
    photograph = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].double() / 255
    small = shift_gamma(data.astronaut(), 4.0)
    small = torch.from_numpy(small).permute(2, 0, 1)[None].double() / 255
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    network = AdaptiveGamma()
    assert torch.allclose(network.gamma_map(large)[..., ::2, ::2], network.gamma_map(small), rtol=0.03)
    assert network.gamma_map(small).mean() < network.gamma_map(photograph).mean()


def test_gradients_pass_through_the_gamma_map() -> None:
    image = torch.rand(1, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.02
    assert torch.autograd.gradcheck(AdaptiveGamma(), image.requires_grad_())


@pytest.mark.parametrize(
    "arguments",
    [dict(target=0), dict(target=1.2), dict(reach=0), dict(leave=-1), dict(leave=1, correct=1), dict(most=0.5)],
)
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build_enhancer(dict(type="AdaptiveGamma", **arguments))
