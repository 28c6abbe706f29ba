"""Pixel, SSIM and gradient losses equal other implementations and closed forms."""

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from llie_preproc.enhancers import SemiLLIE
from llie_preproc.ops import gradient_map
from llie_preproc.registry import MODELS
from training.losses.gradient import GradientLoss
from training.losses.pixel import L1Loss, MSELoss
from training.losses.ssim import SSIMLoss

LOSSES = ["L1Loss", "MSELoss", "SSIMLoss", "GradientLoss"]


def pair(count=2, height=20, width=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output, target = torch.rand(2, count, 3, height, width, generator=generator)
    return 1.2 * output - 0.1, target


def build(name):
    return MODELS.build({"type": f"llie_preproc.{name}"})


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 3), height=st.integers(11, 30), width=st.integers(11, 30), mix=st.floats(0, 1))
def test_ssim_equals_scikit_image(count, height, width, mix):
    output, target = pair(count, height, width)
    output = mix * output + (1 - mix) * target
    similarity = [
        structural_similarity(
            t.numpy(),
            o.numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for o, t in zip(output.double(), target.double(), strict=True)
    ]
    assert SSIMLoss()(output, target).item() == pytest.approx(1 - np.mean(similarity), abs=2e-5)


def test_ssim_of_constant_pictures_has_a_closed_form():
    """Pictures without contrast leave only the luminance term."""
    output, target = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = 1 - (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert SSIMLoss()(output, target).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", [(10, 32), (32, 10)])
def test_ssim_refuses_pictures_below_its_window(size):
    with pytest.raises(ValueError, match="at least 11"):
        SSIMLoss()(torch.rand(1, 3, *size), torch.rand(1, 3, *size))


def test_the_gradient_map_equals_scipy():
    image, _ = pair()
    slopes = [correlate1d(image.double().numpy(), [-1, 0, 1], axis, mode="constant") for axis in (2, 3)]
    expected = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1e-6)
    assert np.allclose(gradient_map(image), expected, atol=1e-6)
    assert torch.equal(gradient_map(image), SemiLLIE(width=4).gradient_map(image))


@settings(max_examples=15, deadline=None)
@given(slope=st.floats(0.01, 0.05), other=st.floats(0.01, 0.05))
def test_gradient_maps_of_ramps_have_a_closed_form(slope, other):
    """A ramp of slope s has the gradient 2 s; the border, which is padded with zeros, is cropped."""
    ramp = torch.arange(12.0).expand(1, 3, 12, 12)
    inner = [gradient_map(s * ramp)[..., 1:-1, 1:-1] for s in (slope, other)]
    expected = abs((4 * slope**2 + 1e-6) ** 0.5 - (4 * other**2 + 1e-6) ** 0.5)
    assert (inner[0] - inner[1]).abs().mean().item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_loss_is_the_mean_difference_of_the_maps():
    output, target = pair()
    expected = np.abs(gradient_map(output).numpy() - gradient_map(target).numpy()).mean()
    assert GradientLoss()(output, target).item() == pytest.approx(expected, rel=1e-5)


def test_pixel_losses_are_means_over_pixels():
    output, target = pair()
    difference = (output - target).double().numpy()
    assert L1Loss()(output, target).item() == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert MSELoss()(output, target).item() == pytest.approx(np.square(difference).mean(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_have_no_loss(name):
    _, target = pair()
    assert build(name)(target, target).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_batch_is_the_mean_over_its_pictures(name):
    """So if processes have batches of one size, the mean of their losses is the loss of the whole batch."""
    output, target = pair(4)
    loss = build(name)
    each = [loss(output[i : i + 1], target[i : i + 1]) for i in range(4)]
    assert loss(output, target).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_reaches_every_pixel(name):
    """The gradient equals finite differences, also beyond [0, 1]; it is finite for black pictures."""
    output, target = (t.double() for t in pair(1, 12, 12))
    output.requires_grad_()
    loss = build(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), output, eps=1e-6, atol=1e-6, fast_mode=True)
    loss(output, target).backward()
    assert (output.grad != 0).all()
    black = torch.zeros(1, 3, 12, 12, requires_grad=True)
    loss(black, torch.zeros(1, 3, 12, 12)).backward()
    assert black.grad.isfinite().all()
