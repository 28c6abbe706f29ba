"""CollaBA's loss terms equal OpenCV, numpy and closed forms."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.random_pictures import images
from training.losses.illumination import illumination_prior_loss, illumination_target
from training.losses.sharpening import unsharp_mask
from training.losses.total_variation import squared_total_variation
from training.losses.weighting import LearnedWeights


def pictures(height: int = 40, width: int = 48, count: int = 2, seed: int = 0) -> Tensor:
    return images(height, width, count, seed)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), dark=st.floats(0, 1.5))
def test_the_illumination_target_follows_equation_4(seed: int, dark: float) -> None:
    normal = pictures(5, 7, seed=seed)
    image = dark * pictures(5, 7, seed=seed + 1)
    x, y = (p.double().numpy().max(axis=1) for p in (image, normal))
    target = illumination_target(image, normal)
    assert target.shape == (2, 1, 5, 7)
    assert np.allclose(target[:, 0], np.abs(x - y) / (y + 1e-4), rtol=1e-4, atol=1e-6)


def test_the_illumination_target_is_the_share_of_missing_light() -> None:
    normal = pictures()
    assert illumination_target(normal, normal).max() == 0
    assert torch.allclose(illumination_target(0.25 * normal, normal), torch.tensor(0.75), atol=2e-3)
    black = torch.zeros_like(normal)
    assert torch.equal(illumination_target(black, black), black[:, :1])


def test_the_prior_loss_is_a_mean_square() -> None:
    image, normal = 0.2 * pictures(seed=1), pictures()
    attention = pictures(seed=2)[:, :1].requires_grad_()
    loss = illumination_prior_loss(attention, image, normal)
    expected = np.mean((attention.detach() - illumination_target(image, normal)).numpy().astype(float) ** 2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert attention.grad.abs().sum() > 0


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 40, 48\).*\(2, 3, 80, 96\)"):
        illumination_target(pictures(), pictures(80, 96))
    with pytest.raises(ValueError, match=r"\(2, 1, 40, 48\).*\(2, 1, 20, 24\)"):
        illumination_prior_loss(torch.rand(2, 1, 20, 24), pictures(), pictures())


def sharpened_by_opencv(picture: np.ndarray, weight: float, threshold: float) -> np.ndarray:
    blurred = cv2.GaussianBlur(picture, (51, 51), 0)
    mask = cv2.GaussianBlur((np.abs(picture - blurred) * 255 > threshold).astype(np.float64), (51, 51), 0)
    sharp = np.clip(picture + weight * (picture - blurred), 0, 1)
    return mask * sharp + (1 - mask) * picture


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(26, 70), st.integers(26, 70)),
    weight=st.floats(0, 2),
    threshold=st.sampled_from([0, 5, 10, 60]),
    seed=st.integers(0, 100),
)
def test_sharpening_equals_opencv(size: tuple[int, int], weight: float, threshold: int, seed: int) -> None:
    image = pictures(*size, seed=seed).double()
    result = unsharp_mask(image, weight, threshold / 255)
    for picture, sharpened in zip(image, result, strict=True):
        expected = sharpened_by_opencv(picture.permute(1, 2, 0).numpy(), weight, threshold)
        assert np.allclose(sharpened.permute(1, 2, 0), expected, atol=1e-6)


def test_sharpening_keeps_smooth_pictures_and_the_range() -> None:
    ramp = torch.linspace(0.3, 0.5, 200).expand(1, 3, 60, 200)
    assert torch.equal(unsharp_mask(ramp), ramp)
    edges = (pictures(80, 80) > 0.5).float()
    assert unsharp_mask(edges).min() >= 0
    assert unsharp_mask(edges).max() <= 1
    steps = 0.3 + 0.4 * (torch.arange(80) > 40).float().expand(1, 3, 80, 80)
    assert unsharp_mask(steps).std() > steps.std()
    with pytest.raises(ValueError, match=r"at least 26.*\(2, 3, 25, 48\)"):
        unsharp_mask(pictures(25, 48))


def test_total_variation_of_the_attention_equals_numpy() -> None:
    attention = pictures()[:, :1]
    rows, columns = np.diff(attention.double(), axis=2), np.diff(attention.double(), axis=3)
    count_h, count_w = 39 * 48, 40 * 47
    expected = 2 * ((rows**2).sum() / count_h + (columns**2).sum() / count_w) / len(attention)
    assert squared_total_variation(attention).item() == pytest.approx(expected, rel=1e-5)
    assert squared_total_variation(torch.full((2, 1, 8, 8), 0.3)).item() == 0


@settings(max_examples=50, deadline=None)
@given(
    loss=st.floats(0, 50),
    rho=st.floats(0.05, 20).flatmap(lambda r: st.sampled_from([r, -r])),
    regulariser=st.booleans(),
)
def test_learned_weights_follow_equation_11(loss: float, rho: float, regulariser: bool) -> None:
    weights = LearnedWeights(["pixel"], regulariser).double()
    term = torch.tensor(loss, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        weights.rho["pixel"].fill_(rho)
    terms = weights({"pixel": term})
    total = sum(terms.values())
    total.backward()
    square = rho**2
    assert set(terms) == ({"pixel", "regulariser"} if regulariser else {"pixel"})
    assert total.item() == pytest.approx(loss / (2 * square) + regulariser * math.log(1 + square))
    expected = -loss / rho**3 + regulariser * 2 * rho / (1 + square)
    assert weights.rho["pixel"].grad.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert term.grad.item() == pytest.approx(0.5 / square)


def test_learned_weights_converge_to_the_closed_form() -> None:
    names, losses = ["a", "b", "c"], (0.02, 0.7, 3.0)
    weights = LearnedWeights(names).double()
    terms = {name: torch.tensor(loss, dtype=torch.float64) for name, loss in zip(names, losses, strict=True)}
    optimiser = torch.optim.LBFGS(weights.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = sum(weights(terms).values())
        total.backward()
        return total

    for _ in range(5):
        optimiser.step(closure)
    for name, loss in zip(names, losses, strict=True):
        expected = (loss + math.sqrt(loss**2 + 8 * loss)) / 4
        assert weights.rho[name].item() ** 2 == pytest.approx(expected, rel=1e-4)


def test_a_vanishing_rho_is_bounded_and_grows_again() -> None:
    weights = LearnedWeights(["pixel"])
    with torch.no_grad():
        weights.rho["pixel"].fill_(1e-6)
    terms = weights({"pixel": torch.tensor(0.5)})
    assert terms["pixel"].item() == pytest.approx(0.5 * 0.5 / 1e-4)
    sum(terms.values()).backward()
    gradient = weights.rho["pixel"].grad.item()
    assert math.isfinite(gradient)
    assert gradient < 0


def test_terms_without_weights_are_named() -> None:
    weights = LearnedWeights(["pixel", "tv"])
    with pytest.raises(ValueError, match=r"\['pixel', 'tv'\].*\['pixel'\]"):
        weights({"pixel": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="at least one loss term"):
        LearnedWeights([])
