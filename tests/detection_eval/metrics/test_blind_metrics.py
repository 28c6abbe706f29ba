"""NIQE, LOE and EME, which need no reference picture, equal published values, slow definitions and closed forms."""

import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage, special

from detection_eval.metrics import NiqeModel, eme, lightness_order_error, niqe, read_niqe_model
from detection_eval.metrics.arrays import matlab_resize, to_grey
from detection_eval.metrics.niqe import _ALPHAS, _asymmetric_gaussian
from llie_preproc.errors import CheckpointError
from tests.support.picture_files import read_planes
from tests.support.random_pictures import planes

# Values of the authors' MATLAB program, with tolerances. These are larger for I03 and I06, which have flat areas.
OFFICIAL_NIQE = {"I03": (15.7536, 0.03), "I04": (3.6549, 1e-3), "I06": (3.2355, 3e-3)}


def grey_picture(levels):
    return torch.from_numpy(np.asarray(levels, dtype=np.uint8)).expand(3, -1, -1)


@pytest.fixture
def model():
    """A NIQE model with the shapes of the published one and made-up values."""
    window = np.outer(*[np.exp(-(np.arange(-3, 4) ** 2) * 18 / 49)] * 2)
    return NiqeModel(np.zeros(36), np.eye(36), window / window.sum())


@pytest.mark.parametrize("size", [(48, 64), (25, 40), (31, 30), (192, 200)])
def test_resizing_agrees_with_pillow_away_from_the_border(size):
    """Pillow uses the same cubic kernel, but cuts it at the border, where MATLAB mirrors the picture."""
    image = np.random.default_rng(0).uniform(0, 255, (96, 128))
    expected = np.asarray(Image.fromarray(image.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))
    inner = np.s_[4:-4, 4:-4]
    assert matlab_resize(image, size)[inner] == pytest.approx(expected[inner], abs=1e-3)


def test_resizing_mirrors_the_border():
    image = np.random.default_rng(0).uniform(0, 255, (24, 20))
    mirrored = np.pad(image, 12, mode="symmetric")
    assert matlab_resize(image, (12, 10)) == pytest.approx(matlab_resize(mirrored, (24, 22))[6:-6, 6:-6], abs=1e-10)


@pytest.mark.parametrize("name", OFFICIAL_NIQE)
def test_niqe_equals_the_official_program(name, shared_data):
    folder = shared_data / "iqa_reference"
    pristine = read_niqe_model(folder / "niqe_pris_params.npz")
    value, tolerance = OFFICIAL_NIQE[name]
    assert niqe(read_planes(folder / "dist_dir" / f"{name}.bmp"), pristine) == pytest.approx(value, abs=tolerance)


def test_niqe_uses_whole_blocks_from_the_top_left(model):
    image = planes(0, (192, 200))
    assert niqe(image, model) == niqe(image[..., :192], model)
    assert niqe(image, model) > 0


def test_niqe_equals_a_loop_over_blocks(model):
    image = planes(1, (192, 288))
    grey = to_grey(image)
    features = np.hstack(
        [looped_features(x, b, model.window) for x, b in ((grey, 96), (matlab_resize(grey, (96, 144)), 48))]
    )
    difference = features.mean(axis=0) - model.mean
    inverse = np.linalg.inv((model.covariance + np.cov(features.T)) / 2)
    assert niqe(image, model) == pytest.approx(math.sqrt(difference @ inverse @ difference), rel=1e-8)


def looped_features(grey, block, window):
    mean, square = (ndimage.correlate(x, window, mode="nearest") for x in (grey, grey**2))
    normal = (grey - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    rows = []
    for top in range(0, grey.shape[0], block):
        for left in range(0, grey.shape[1], block):
            part = normal[top : top + block, left : left + block]
            alpha, low, high = looped_fit(part)
            row = [alpha, (low + high) / 2]
            for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                alpha, low, high = looped_fit(part * np.roll(part, shift, (0, 1)))
                row += [alpha, (high - low) * special.gamma(2 / alpha) / special.gamma(1 / alpha), low, high]
            rows.append(row)
    return np.array(rows)


def looped_fit(x):
    alphas = np.arange(0.2, 10.001, 0.001)
    gamma = special.gamma
    rho = gamma(2 / alphas) ** 2 / (gamma(1 / alphas) * gamma(3 / alphas))
    low, high = math.sqrt(np.mean(x[x < 0] ** 2)), math.sqrt(np.mean(x[x > 0] ** 2))
    g = low / high
    expected = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = alphas[np.argmin((rho - expected) ** 2)]
    scale = math.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, low * scale, high * scale


@pytest.mark.parametrize(("alpha", "left", "right"), [(1.0, 1.0, 1.0), (2.0, 0.5, 2.0), (0.6, 1.5, 0.7)])
def test_the_asymmetric_gaussian_is_recovered_from_draws(alpha, left, right):
    """``|x / beta|^alpha`` has the distribution Gamma(1 / alpha); the share of a side is proportional to its scale."""
    rng = np.random.default_rng(0)
    size = rng.gamma(1 / alpha, size=400_000) ** (1 / alpha)
    draws = np.where(rng.uniform(size=size.size) < left / (left + right), -left, right) * size
    shape, found_left, found_right = _asymmetric_gaussian(draws.reshape(1, 400, 1000))
    assert _ALPHAS[shape[0]] == pytest.approx(alpha, rel=0.02)
    assert found_left[0] == pytest.approx(left, rel=0.04)
    assert found_right[0] == pytest.approx(right, rel=0.04)


@pytest.mark.filterwarnings("error")
def test_niqe_of_a_flat_picture_is_nan(model):
    assert math.isnan(niqe(torch.zeros(3, 192, 192), model))


def test_niqe_needs_two_blocks(model):
    with pytest.raises(ValueError, match=r"96x96.*\(95, 400\)"):
        niqe(planes(0, (95, 400)), model)
    with pytest.raises(ValueError, match=r"two blocks.*\(191, 191\)"):
        niqe(planes(0, (191, 191)), model)


def test_a_file_without_a_niqe_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_niqe_model(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_bytes(b"no archive")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", mean=np.zeros(36))
    for name in ("text.npz", "one.npy", "other.npz"):
        with pytest.raises(CheckpointError, match=f"{name} is no NIQE model"):
            read_niqe_model(tmp_path / name)
    wrong = {"mu_pris_param": np.zeros((1, 35)), "cov_pris_param": np.eye(36), "gaussian_window": np.ones((7, 7))}
    np.savez(tmp_path / "wrong.npz", **wrong)
    with pytest.raises(CheckpointError, match=r"mu_pris_param must be of shape \(1, 36\), got \(1, 35\)"):
        read_niqe_model(tmp_path / "wrong.npz")


def brute_force(before, after):
    """LOE by its definition: the share of ordered pairs of pixels whose order changes, per pixel."""
    before, after = (x.ravel().astype(int) for x in (before, after))
    changed = (before[:, None] >= before) != (after[:, None] >= after)
    return changed.sum() / before.size


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, (2, 3, 9, 12)))
def test_loe_b_is_the_sum_over_all_pairs(pixels):
    """Smaller pictures, too, are sampled at 100 x 100 places, so a pixel counts as often as it is picked."""
    counts = [np.bincount(np.floor(np.linspace(1, n, 100) + 0.5).astype(int) - 1) for n in (9, 12)]
    weights = np.outer(*counts).ravel()
    before, after = (x.max(axis=0).ravel() for x in pixels)
    changed = (before[:, None] >= before) != (after[:, None] >= after)
    image, enhanced = (torch.from_numpy(x) for x in pixels)
    expected = weights @ changed @ weights / 10_000
    assert lightness_order_error(enhanced, image, "B") == pytest.approx(expected, rel=1e-12)


def test_loe_a_is_the_sum_over_all_pairs_of_the_resized_pictures():
    image, enhanced = planes(0, (100, 120)), planes(1, (100, 120))
    small = [
        np.floor(matlab_resize(x.numpy().max(axis=0) * 1.0, (50, 60)) + 0.5).clip(0, 255) for x in (image, enhanced)
    ]
    assert lightness_order_error(enhanced, image, "A") == pytest.approx(brute_force(*small), rel=1e-12)


@pytest.mark.parametrize("variant", ["A", "B"])
def test_loe_of_equal_pictures_is_zero(variant):
    image = planes(0, (70, 90))
    assert lightness_order_error(image, image, variant) == 0
    assert lightness_order_error(image, planes(1, (70, 90)), variant) > 100


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.integers(0, 255), min_size=40, max_size=40),
    arrays.arrays(np.uint8, (3, 11, 13), elements=st.integers(0, 39)),
)
def test_loe_b_is_zero_under_a_strictly_rising_curve(curve, pixels):
    table = np.array(sorted(curve), dtype=np.uint8)
    assert lightness_order_error(torch.from_numpy(table[pixels]), torch.from_numpy(pixels), "B") == 0


def test_loe_b_of_random_pictures_has_the_known_value():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (2, 300, 400))
    image, noise = (grey_picture(x) for x in values)
    gamma = grey_picture(np.round(255 * (values[0] / 255) ** 0.5))
    assert lightness_order_error(gamma, image, "B") == pytest.approx(9.8, abs=0.5)
    assert lightness_order_error(noise, image, "B") == pytest.approx(5000, rel=0.03)
    # Inversion changes the order of all pairs except equal ones, which are one in 256.
    assert lightness_order_error(255 - image, image, "B") == pytest.approx(1e4 * 255 / 256, rel=5e-4)


def test_loe_compares_a_larger_result_at_the_same_places():
    image = planes(0, (60, 80))
    assert lightness_order_error(image.repeat_interleave(2, 1).repeat_interleave(2, 2), image, "A") < 250
    with pytest.raises(ValueError, match=r"whole multiple.*\(60, 81\).*\(60, 80\)"):
        lightness_order_error(planes(0, (60, 81)), image)
    with pytest.raises(ValueError, match=r"'A', 'B'.*'C'"):
        lightness_order_error(image, image, "C")


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, (3, 13, 17)), st.integers(1, 13))
def test_eme_equals_a_loop_over_blocks(pixels, block):
    image = torch.from_numpy(pixels)
    grey = to_grey(image)
    parts = [
        grey[i * block : (i + 1) * block, j * block : (j + 1) * block]
        for i in range(13 // block)
        for j in range(17 // block)
    ]
    terms = [20 * math.log(p.max() / p.min()) if p.min() > 0 else 0 for p in parts]
    assert eme(image, block) == pytest.approx(np.mean(terms), rel=1e-9, abs=1e-9)
    assert eme(image, block, "log10") == pytest.approx(np.mean(terms) / math.log(10), rel=1e-9, abs=1e-9)


def test_eme_of_a_flat_picture_and_of_two_levels_has_a_closed_form():
    assert eme(torch.full((3, 16, 16), 0.5)) == 0
    image = torch.full((3, 16, 16), 50, dtype=torch.uint8)
    image[:, ::8, ::8] = 200
    assert eme(image) == pytest.approx(20 * math.log(4))


def test_values_outside_the_range_of_pictures_are_refused(model):
    good = planes(0, (96, 192)) / 255
    for metric in (eme, lambda x: niqe(x, model), lambda x: lightness_order_error(x, good)):
        with pytest.raises(ValueError, match="not finite"):
            metric(good * torch.nan)
        with pytest.raises(ValueError, match=r"\[0, 1\].*255"):
            metric(good * 255)


def test_bad_arguments_of_eme_are_named():
    with pytest.raises(ValueError, match=r"block must.*\(40, 50\).*41"):
        eme(planes(0), 41)
    with pytest.raises(ValueError, match=r"block must.*0"):
        eme(planes(0), 0)
    with pytest.raises(ValueError, match=r"'ln', 'log10'.*'log2'"):
        eme(planes(0), log="log2")
