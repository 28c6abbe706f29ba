"""``GammaCorrection``, ``CLAHE`` and ``Upscale`` agree with scikit-image, OpenCV and repeated pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import color, data, exposure

from llie_preproc import enhance
from llie_preproc.enhancers import CLAHE, GammaCorrection, Upscale
from tests.support.random_pictures import dark_image


@given(image=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32)), gamma=st.floats(0.2, 5))
def test_gamma_correction_equals_scikit_images(image: np.ndarray, gamma: float) -> None:
    result = enhance(torch.from_numpy(image), GammaCorrection(gamma))
    assert np.allclose(result.numpy(), exposure.adjust_gamma(image, gamma), atol=1e-6)


def test_the_gradient_of_gamma_correction_is_that_of_finite_differences() -> None:
    image = (0.05 + 0.9 * torch.rand(1, 3, 4, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(GammaCorrection(0.5), image)


@pytest.mark.parametrize("gamma", [0, -1, float("nan")])
def test_gamma_must_be_positive(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma"):
        GammaCorrection(gamma)


def test_unlimited_clahe_of_one_tile_is_histogram_equalisation_of_lightness() -> None:
    image = (data.astronaut()[:128, :128] * 0.3).astype(np.uint8)
    result = enhance(image.astype(np.float32) / 255, CLAHE(clip_limit=1e6, grid=1))
    before, after = color.rgb2lab(image)[..., 0], color.rgb2lab(result)[..., 0]
    levels = (2.55 * before).round()
    expected = 100 * exposure.equalize_hist(levels, nbins=256) + before - levels / 2.55
    # Strong lightening leaves the gamut at some pixels, where clipping changes the lightness.
    assert np.median(np.abs(after - expected)) < 1


def test_clahe_raises_contrast_within_its_limit() -> None:
    image = (data.astronaut()[:128, :128] * 0.3).astype(np.uint8)
    spreads = [enhance(image, CLAHE(clip_limit=limit)).std() for limit in (1.0, 2.0, 4.0)]
    assert image.std() < spreads[0] < spreads[1] < spreads[2]


@pytest.mark.parametrize("arguments", [{"clip_limit": 0}, {"grid": 0}])
def test_clahe_arguments_must_be_positive(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CLAHE(**arguments)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_nearest_upscale_repeats_pixels(scale: int) -> None:
    image = dark_image(5, 7)
    expected = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    assert torch.equal(enhance(image, Upscale(scale, "nearest")), expected)


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_upscale_equals_opencvs(scale: int) -> None:
    image = dark_image(9, 7).permute(1, 2, 0).numpy()
    expected = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    assert np.allclose(enhance(image, Upscale(scale)), expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"scale": 3}, {"mode": "area"}])
def test_wrong_upscales_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        Upscale(**arguments)
