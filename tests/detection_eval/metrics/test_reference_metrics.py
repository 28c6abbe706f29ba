"""Metrics that compare with a target equal official programs, other libraries and closed forms."""

import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from detection_eval.metrics import fsim_bands, fsimc, match_mean, psnr, rmse, sre, ssim, ssim_piq, ssim_skimage
from tests.support.picture_files import read_planes
from tests.support.random_pictures import planes

# Values of the official MATLAB programs: PSNR and FSIM of the colour pictures, SSIM of their grey levels.
OFFICIAL = {
    "I03": {"psnr": 21.11, "ssim": 0.6993, "fsim": 0.6890},
    "I04": {"psnr": 20.99, "ssim": 0.9978, "fsim": 0.9702},
    "I06": {"psnr": 27.01, "ssim": 0.9989, "fsim": 0.9927},
}
# Values of image-similarity-measures 0.3.6 with phasepack 1.5.
FSIM_BANDS = {"I03": 0.334417034, "I04": 0.851553430, "I06": 0.907850587}


@pytest.fixture(params=sorted(OFFICIAL))
def official(request, shared_data):
    """A distorted picture, its reference and their name."""
    folder = shared_data / "iqa_reference"
    return *(read_planes(folder / d / f"{request.param}.bmp") for d in ("dist_dir", "ref_dir")), request.param


def grey(image):
    """Grey levels by MATLAB's rgb2gray, in three equal channels."""
    levels = torch.tensor([0.298936, 0.587043, 0.114021], dtype=torch.float64) @ image.double().flatten(1)
    return (levels.round() / 255).float().reshape(1, *image.shape[1:]).expand(3, -1, -1)


def test_psnr_of_colour_pictures_equals_the_official_program(official):
    distorted, reference, name = official
    assert psnr(distorted, reference) == pytest.approx(OFFICIAL[name]["psnr"], abs=0.005)


def test_ssim_of_grey_pictures_equals_the_official_program(official):
    distorted, reference, name = official
    assert ssim(grey(distorted), grey(reference)) == pytest.approx(OFFICIAL[name]["ssim"], abs=6e-5)


def test_fsimc_equals_the_official_program(official):
    pytest.importorskip("piq", reason="needs the extra 'metrics'")
    distorted, reference, name = official
    assert fsimc(distorted, reference) == pytest.approx(OFFICIAL[name]["fsim"], abs=1e-4)


@pytest.mark.slow
def test_fsim_of_bands_equals_the_package(official):
    distorted, reference, name = official
    assert fsim_bands(distorted, reference) == pytest.approx(FSIM_BANDS[name], abs=1e-8)


def test_fsim_of_bands_on_odd_sizes_equals_the_package():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 61, 74, 3), dtype=np.uint8)
    first, second = (torch.from_numpy(x).permute(2, 0, 1) for x in pixels)
    assert fsim_bands(first, second) == pytest.approx(0.553066125, abs=1e-8)


def test_equal_pictures_have_the_best_scores():
    image = planes(0)
    assert psnr(image, image) == sre(image, image) == math.inf
    assert rmse(image, image) == 0
    assert ssim(image, image) == pytest.approx(1)
    assert fsim_bands(image, image) == pytest.approx(1)
    black = torch.zeros_like(image)
    assert math.isnan(fsim_bands(black, black))
    assert 0 <= fsim_bands(black, image) < 0.5


def test_ssim_variants_equal_their_libraries():
    piq = pytest.importorskip("piq", reason="needs the extra 'metrics'")
    first, second = planes(0, (390, 400)), planes(1, (390, 400))
    pixels = [x.permute(1, 2, 0).numpy() for x in (first, second)]
    assert ssim_skimage(first, second) == pytest.approx(
        structural_similarity(*pixels, channel_axis=2, data_range=255), abs=1e-7
    )
    unit = [x[None] / 255 for x in (first, second)]
    assert ssim_piq(first, second) == pytest.approx(piq.ssim(*unit).item(), abs=1e-6)
    # piq halves a picture of this size before it compares.
    halved = [torch.nn.functional.avg_pool2d(x, 2)[0] for x in unit]
    assert ssim_piq(first, second) == pytest.approx(ssim(*halved), abs=1e-5)
    assert abs(ssim_piq(first, second) - ssim(first, second)) > 1e-3


@settings(max_examples=25, deadline=None)
@given(a=st.lists(st.integers(0, 255), min_size=3, max_size=3), b=st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_rmse_and_sre_of_flat_pictures_have_closed_forms(a, b):
    """A band of one level has the RMSE ``|a - b| / 255`` and the SRE ``b^2 H W / (|a - b| sqrt(H W))``."""
    first, second = (torch.tensor(x, dtype=torch.uint8)[:, None, None].expand(3, 5, 7) for x in (a, b))
    apart = np.abs(np.subtract(a, b, dtype=float))
    assert rmse(first, second) == pytest.approx(np.mean(apart) / 255, rel=1e-5, abs=1e-9)
    assert rmse(first, second, max_p=4095) == pytest.approx(np.mean(apart) / 4095, rel=1e-5, abs=1e-9)
    if apart.all() and any(b):
        expected = 10 * np.log10(np.mean(np.square(b) * math.sqrt(35) / apart))
        assert sre(first, second) == pytest.approx(expected, abs=1e-4)


def test_sre_of_a_picture_tiled_two_by_two_is_three_decibels_higher():
    first, second = planes(0), planes(1)
    tiled = sre(first.tile(1, 2, 2), second.tile(1, 2, 2))
    assert tiled - sre(first, second) == pytest.approx(10 * math.log10(2), abs=1e-6)


def test_sre_is_relative_to_the_target():
    dark, bright = planes(0, high=60), planes(0, low=190)
    assert sre(dark, bright) > sre(bright, dark) + 10


def test_bytes_and_floats_in_0_to_1_have_equal_scores():
    first, second = planes(0), planes(1)
    for metric in (psnr, ssim, ssim_skimage, rmse, sre, fsim_bands):
        assert metric(first / 255, second / 255) == pytest.approx(metric(first, second), rel=1e-6)


def test_the_output_is_clamped():
    target = torch.ones(3, 20, 20)
    assert psnr(target + 0.5, target) == math.inf
    assert rmse(target + 0.5, target) == 0
    assert rmse(-0.5 * target, 0 * target) == 0


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_skimage, ssim_piq, fsimc, fsim_bands, rmse, sre, match_mean])
@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda x: x * 255, r"in \[0, 1\].*got \[0, 255\]"),
        # The next two are the levels of a dark picture, and a picture normalised to [-1, 1].
        (lambda x: x * 12, r"got \[0, 12\]"),
        (lambda x: 2 * x - 1, r"got \[-1, 1\]"),
        (lambda x: x.masked_fill(x == 1, torch.nan), "not finite"),
        (lambda x: x.masked_fill(x == 0, -torch.inf), "not finite"),
    ],
)
def test_values_outside_the_range_of_pictures_are_refused(metric, spoil, match):
    if metric in (ssim_piq, fsimc):
        pytest.importorskip("piq", reason="needs the extra 'metrics'")
    image = planes(0, (20, 20)) / 255
    image[:, 0, :2] = torch.tensor([0.0, 1.0])
    for pair in ((spoil(image), image), (image, spoil(image))):
        with pytest.raises(ValueError, match=match):
            metric(*pair)


def test_matched_mean_undoes_a_gain_that_clips_nothing():
    target = planes(3) / 255
    assert match_mean(target * 0.25, target).numpy() == pytest.approx(target.numpy(), abs=1e-6)
    black = torch.zeros_like(target)
    assert torch.equal(match_mean(black, target), black)


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_skimage, ssim_piq, fsimc, fsim_bands, rmse, sre, match_mean])
def test_pictures_of_two_shapes_are_refused(metric):
    if metric in (ssim_piq, fsimc):
        pytest.importorskip("piq", reason="needs the extra 'metrics'")
    with pytest.raises(ValueError, match=r"the same shape.*\(3, 20, 20\) and \(3, 20, 21\)"):
        metric(torch.rand(3, 20, 20), torch.rand(3, 20, 21))


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.rand(1, 20, 20), r"must be \(3, H, W\), got \(1, 20, 20\)"),
        (torch.rand(3, 1, 0), r"\(3, 1, 0\)"),
        (torch.zeros(3, 20, 20, dtype=torch.int16), "uint8, or floating.*int16"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(image, match):
    with pytest.raises(ValueError, match=match):
        psnr(image, image)


def test_small_pictures_and_bad_scales_are_refused():
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.rand(3, 10, 30), torch.rand(3, 10, 30))
    with pytest.raises(ValueError, match="at least 6"):
        fsim_bands(torch.rand(3, 5, 30), torch.rand(3, 5, 30))
    with pytest.raises(ValueError, match="max_p must be positive, got 0"):
        rmse(torch.rand(3, 5, 5), torch.rand(3, 5, 5), max_p=0)
