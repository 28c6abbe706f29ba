"""``CameraProcessing`` brightens by no more than was lost, and ``JPEGCompression`` compresses as Pillow does."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

from llie_preproc.registry import TRANSFORMS
from tests.support.random_pictures import dark_image, planes
from training.datasets import CameraProcessing, JPEGCompression


def always(**options):
    return CameraProcessing(**{"share": 1.0, "blur_share": 0.0, **options})


@pytest.mark.parametrize(
    ("gain", "stops", "expected"),
    [(1.5, -6.0, 1.5), (3.0, -2.0, 2.0), (3.0, -0.5, 0.5), (3.0, 0.0, 0.0), (2.0, 1.0, 0.0), (0.0, -4.0, 0.0)],
)
def test_a_picture_gets_its_gain_but_no_more_than_it_lost(gain, stops, expected):
    light = dark_image(6, 8) - 0.1
    torch.testing.assert_close(always(gain=(gain, gain))(light, stops), light * 2**expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), stops=st.floats(-8, 2))
def test_no_picture_becomes_brighter_than_by_day(seed, stops):
    torch.manual_seed(seed)
    day = dark_image(5, 5)
    made = always(gain=(0.0, 10.0))(day * 2**stops, stops)
    assert (made <= torch.maximum(day, day * 2**stops) * (1 + 1e-5)).all()
    assert (made >= day * 2**stops * (1 - 1e-5)).all()


def test_gains_are_uniform_over_their_range():
    torch.manual_seed(0)
    one, processing = torch.ones(3, 1, 1), always(gain=(0.5, 2.5))
    gains = [math.log2(float(processing(one, -8.0)[0, 0, 0])) for _ in range(400)]
    assert stats.kstest((np.array(gains) - 0.5) / 2, "uniform").pvalue > 1e-3


def test_the_smoothing_is_a_gaussian_of_the_drawn_deviation():
    light = dark_image(40, 30) + 0.5 * (torch.arange(30) > 15)
    made = always(gain=(0.0, 0.0), blur_share=1.0, blur=(1.1, 1.1))(light, -3.0)
    # The kernel reaches over ceil(3 * 1.1) = 4 pixels, and the picture is mirrored without its last row.
    expected = ndimage.gaussian_filter(light.double().numpy(), (0, 1.1, 1.1), mode="mirror", radius=(0, 4, 4))
    assert np.abs(made.numpy() - expected).max() < 1e-5
    assert np.abs(made.numpy() - light.numpy()).max() > 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 4), (2, 30)])
@pytest.mark.parametrize("deviation", [0.4, 1.2, 50.0])
def test_pictures_smaller_than_the_kernel_are_smoothed_too(size, deviation):
    light = dark_image(*size)
    made = always(gain=(0.0, 0.0), blur_share=1.0, blur=(deviation, deviation))(light, -3.0)
    assert made.shape == light.shape
    assert light.min() - 1e-6 <= made.min() <= made.max() <= light.max() + 1e-6


def count(changed, number):
    return sum(changed() for _ in range(number))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_shares_of_pictures_are_processed_and_smoothed(share):
    torch.manual_seed(0)
    number, flat, rough = 500, torch.ones(3, 9, 9), dark_image(9, 9)
    four_deviations = 4 * math.sqrt(number * share * (1 - share))
    brightened = CameraProcessing(share=share, gain=(1.0, 1.0), blur_share=0.0)
    seen = count(lambda: float(brightened(flat, -5.0).mean()) > 1.5, number)
    assert abs(seen - share * number) <= four_deviations
    smoothed = CameraProcessing(share=1.0, gain=(0.0, 0.0), blur_share=share, blur=(1.0, 1.0))
    seen = count(lambda: not torch.equal(smoothed(rough, -5.0), rough), number)
    assert abs(seen - share * number) <= four_deviations


def by_pillow(picture, quality):
    stream = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1)


@pytest.mark.parametrize("quality", [1, 30, 75, 100])
def test_pictures_are_compressed_as_pillow_compresses_them(quality):
    """Both call libjpeg, of maybe different versions, so single values may differ by rounding."""
    picture = planes(0, (33, 47)).float()
    picture = torch.nn.functional.avg_pool2d(picture, 3, 1, 1).to(torch.uint8)
    made = JPEGCompression((quality, quality), share=1.0)(picture)
    difference = (made.int() - by_pillow(picture, quality).int()).abs().float()
    assert difference.mean() < 0.5
    assert made.dtype == torch.uint8
    if quality < 75:
        assert (made.int() - picture.int()).abs().float().mean() > 4 * difference.mean() + 1


def test_a_share_of_the_pictures_is_compressed_at_all_qualities_of_the_range():
    torch.manual_seed(0)
    picture, number = planes(0, (16, 16)), 600
    compressed = JPEGCompression((20, 23), share=0.4)
    at = {q: JPEGCompression((q, q), share=1.0)(picture) for q in range(19, 25)}
    made = [compressed(picture) for _ in range(number)]
    changed = [each for each in made if not torch.equal(each, picture)]
    assert abs(len(changed) - 0.4 * number) < 4 * math.sqrt(number * 0.4 * 0.6)
    seen = {q: sum(torch.equal(each, found) for each in changed) for q, found in at.items()}
    assert sum(seen.values()) == len(changed)
    assert [q for q, times in seen.items() if times] == [20, 21, 22, 23]
    assert all(torch.equal(JPEGCompression(share=0.0)(picture), picture) for _ in range(20))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("CameraProcessing", {"share": 1.1}, "^share must be .* got 1.1"),
        ("CameraProcessing", {"blur_share": -1}, "blur_share must be .* got -1"),
        ("CameraProcessing", {"gain": (-1.0, 1.0)}, r"gain must be a range \(low, high\), 0 <= low <= high, got"),
        ("CameraProcessing", {"gain": (2.0, 1.0)}, "gain must be a range"),
        ("CameraProcessing", {"blur": (0.0, 1.0)}, r"blur must be a range \(low, high\), 0 < low <= high, got"),
        ("CameraProcessing", {"blur": 1.0}, "blur must be a range .* got 1.0"),
        ("JPEGCompression", {"quality": (0, 90)}, "quality must be a whole number of at least 1, got 0"),
        ("JPEGCompression", {"quality": (50, 101)}, "quality must be a range .* <= 100, got"),
        ("JPEGCompression", {"quality": (90, 50)}, "quality must be a range .* got"),
        ("JPEGCompression", {"quality": (50.5, 90)}, "quality must be a whole number .* got 50.5"),
        ("JPEGCompression", {"quality": 90}, "quality must be a sequence of numbers, got 90"),
        ("JPEGCompression", {"share": math.nan}, "share must be .* got nan"),
    ],
)
def test_invalid_settings_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build({"type": f"llie_preproc.{kind}", **options})


@pytest.mark.parametrize("bad", [{"image": planes()}, planes().float(), planes()[0]])
def test_compression_takes_only_pictures_of_bytes(bad):
    with pytest.raises(TypeError, match="JPEGCompression takes a picture"):
        JPEGCompression(share=0.0)(bad)
