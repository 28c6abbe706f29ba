"""Tiles give the result of the whole image if a network declares its halo, and have no seams if it does not.

The halo is the number of pixels round a pixel that its result depends on.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc import enhance
from llie_preproc.enhancers import SCI, Capabilities, Cascade, Enhancer, Identity, PSENet, Upscale, ZeroDCE
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.inference import enhance_batch, enhance_levels
from llie_preproc.inference_options import InferenceOptions
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.tiles import FADE, check_tile
from tests.support.command import Run, one_line
from tests.support.networks import untrained
from tests.support.random_pictures import dark_image


class Blocks(Enhancer):
    """Convolves the means of blocks and adds them to the image; a pixel depends on its block and those around it."""

    def __init__(self, divisor: int = 4, min_size: int = 1, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.capabilities = Capabilities(size_divisor=divisor, min_size=min_size, halo=2 * divisor - 1)
        self.convolution = nn.Conv2d(3, 3, 3, padding=1, padding_mode=padding_mode)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        divisor, least = self.capabilities.size_divisor, self.capabilities.min_size
        assert height % divisor == width % divisor == 0
        assert min(height, width) >= least
        means = F.avg_pool2d(image, divisor)
        return image + F.interpolate(self.convolution(means), scale_factor=divisor)


class Recorder(Enhancer):
    """Enlarges like ``Upscale``, and records the sizes that it is called with."""

    def __init__(self, halo: int | None = None, scale: int = 1) -> None:
        super().__init__()
        self.capabilities = Capabilities(halo=halo, scale=scale)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(tuple(image.shape))
        return image.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Numbering(Enhancer):
    """An enhancer whose calls give pictures of 0 and of 1 in turn."""

    capabilities = Capabilities(halo=None)

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return torch.full_like(image, (self.calls - 1) % 2)


class Blur(Enhancer):
    """A mean of 3x3 pixels, whose halo is not declared."""

    capabilities = Capabilities(halo=None)

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 3, 1, 1)


@functools.cache
def local(name: str) -> Enhancer:
    """The enhancer of this name in ``LOCAL``, which adds halos, scales and divisors to those of the registry."""
    torch.manual_seed(0)
    return LOCAL[name]().eval()


LOCAL = {
    "nearest": lambda: Upscale(2, "nearest"),
    "scale 4": lambda: Upscale(4),
    "three layers": lambda: SCI(layers=3),
    "cascade": lambda: Cascade([ZeroDCE(channels=4, iterations=2), Upscale(2)]),
    "divisor": Blocks,
    "divisor, reflecting": lambda: Blocks(min_size=8, padding_mode="reflect"),
    "divisor, least size": lambda: Blocks(min_size=44),
    "larger divisor": lambda: Blocks(8),
}


def least_tile(network: Enhancer) -> int:
    """The least tile, read from the error about a tile of 0."""
    with pytest.raises(ValueError, match=r"tile must be at least \d+ .*, got 0") as caught:
        check_tile(0, network.capabilities)
    return int(str(caught.value).split("at least ")[1].split()[0])


def assert_exact(network: Enhancer, data: st.DataObject) -> None:
    """Assert that tiles of a drawn size are exact for a picture of at most four tiles a side."""
    tile = data.draw(st.integers(least_tile(network), least_tile(network) + 30))
    core = tile - 2 * network.capabilities.halo
    image = dark_image(*data.draw(st.tuples(*2 * [st.integers(1, tile + 3 * core)])))
    with torch.no_grad():
        whole = enhance_batch([image], network, clamp=False)[0]
        tiled = enhance_batch([image], network, InferenceOptions(tile=tile), clamp=False)[0]
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() < 2e-6


# Exact tiles.


@pytest.mark.parametrize("name", sorted(enhancer_classes()))
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_halo_gives_exact_tiles(name: str, data: st.DataObject) -> None:
    network = untrained(name)
    if network.capabilities.halo is None:
        pytest.skip(f"the tiles of {name} are an approximation")
    assert_exact(network, data)


@pytest.mark.parametrize("name", LOCAL)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_tiles_are_exact_for_every_scale_divisor_and_padding(name: str, data: st.DataObject) -> None:
    assert_exact(local(name), data)


def test_identity_stays_identical() -> None:
    image = dark_image(50, 61).permute(1, 2, 0).numpy()
    assert np.array_equal(enhance(image, Identity(), tile=7), image)
    levels = 300 * dark_image(50, 61) - 20
    assert torch.equal(enhance_levels([levels], Identity(), InferenceOptions(channel_order="bgr", tile=7))[0], levels)


# Tiles without a halo.


@pytest.mark.parametrize("name", sorted(enhancer_classes()))
def test_every_enhancer_takes_tiles(name: str) -> None:
    network = untrained(name)
    height, width = least_tile(network) + 5, 21
    result = enhance(dark_image(height, width), network, tile=least_tile(network))
    assert result.shape == (3, network.scale * height, network.scale * width)
    assert torch.isfinite(result).all()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 250),
    width=st.integers(1, 250),
    tile=st.integers(80, 120),
    scale=st.sampled_from([1, 2]),
)
def test_tiles_that_agree_give_their_value_to_the_last_bit(height: int, width: int, tile: int, scale: int) -> None:
    image = dark_image(height, width)
    expected = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert torch.equal(enhance_batch([image], Recorder(scale=scale), InferenceOptions(tile=tile))[0], expected)


@pytest.mark.parametrize(("size", "tile"), [((20, 200), 90), ((200, 20), 90), ((150, 170), 80), ((129, 225), 80)])
def test_tiles_that_differ_leave_no_seam(size: tuple[int, int], tile: int) -> None:
    result = enhance(dark_image(*size), Numbering(), tile=tile)
    assert result.min() == 0
    assert result.max() == 1
    for dim in (-1, -2):
        assert torch.diff(result, dim=dim).abs().max() <= 1.001 / FADE


def test_a_local_network_without_a_halo_is_nearly_exact() -> None:
    image = dark_image(150, 210)
    whole, tiled = enhance(image, Blur()), enhance(image, Blur(), tile=80)
    # Only a tile's outermost line is wrong: it lacks a third of the 3x3 pixels. There the tile has almost no weight.
    assert (whole - tiled).abs().max() < 2 * whole.max() * (1 / 3) * 0.5 / FADE
    assert ((whole - tiled).abs() < 1e-6).float().mean() > 0.9


def test_psenet_in_tiles_is_close_to_the_whole() -> None:
    image = dark_image(120, 200).cumsum(-1) / 200
    whole, tiled = (enhance(image, untrained("PSENet"), tile=tile) for tile in (None, 96))
    assert 0 < (whole - tiled).abs().max() < 0.05


# Sizes and work.


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    halo=st.sampled_from([None, 0, 3]),
    tile=st.integers(80, 120),
)
def test_tiles_are_few_and_of_equal_bounded_sizes(height: int, width: int, halo: int | None, tile: int) -> None:
    network = Recorder(halo)
    enhance_batch([dark_image(height, width), dark_image(height, width)], network, InferenceOptions(tile=tile))
    heights, widths = ({size[dim] for size in network.sizes} for dim in (2, 3))
    for length, sides in ((height, heights), (width, widths)):
        assert max(sides) == length if length <= tile else max(sides) <= tile
        assert max(sides) - min(sides) <= 1
    if max(height, width) <= tile:
        assert network.sizes == [(2, 3, height, width)]
        return
    overlap = FADE if halo is None else 2 * halo
    along = [max(1, -(-(length - overlap) // (tile - overlap))) for length in (height, width)]
    assert len(network.sizes) == 2 * along[0] * along[1]
    assert {size[0] for size in network.sizes} == {1}


def test_images_that_fit_into_a_tile_run_together() -> None:
    network = Recorder(halo=0)
    images = [dark_image(8, 8), dark_image(20, 8), dark_image(8, 8, seed=1)]
    results = enhance_batch(images, network, InferenceOptions(tile=10))
    assert all(torch.equal(*pair) for pair in zip(results, images, strict=True))
    assert sorted(network.sizes) == [(1, 3, 10, 8), (1, 3, 10, 8), (2, 3, 8, 8)]


@pytest.mark.parametrize(
    ("network", "least"),
    [
        (Identity(), 1),
        (Recorder(halo=3), 7),
        (Upscale(2), 5),
        (Blocks(4), 20),
        (Blocks(4, min_size=44), 68),
        (PSENet(), 80),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tiles_that_cannot_hold_the_overlap_are_refused(network: Enhancer, least: int) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    for tile in (-1, 0, least - 1):
        expected = (
            rf"at least {least} here, where .*, got {tile}" if tile > 0 else f"a whole number of at least 1, got {tile}"
        )
        with pytest.raises(ValueError, match=f"tile must be {expected}"):
            enhance(image, network, tile=tile)
    enhance(image, network, tile=least)


# Gradients.


@pytest.mark.parametrize("name", ["cascade", "divisor"])
def test_gradients_are_those_of_the_whole_image(name: str) -> None:
    network = local(name)
    image = dark_image(44, 61).requires_grad_()
    gradients = []
    for tile in (None, least_tile(network) + 3):
        loss = enhance_batch([image], network, InferenceOptions(tile=tile), clamp=False)[0].square().sum()
        gradients.append(torch.autograd.grad(loss, [image, *network.parameters()]))
    for whole, tiled in zip(*gradients, strict=True):
        assert torch.allclose(whole, tiled, rtol=1e-4, atol=1e-5)


def test_gradients_flow_through_fading_tiles() -> None:
    network = untrained("PSENet")
    image = dark_image(100, 130).requires_grad_()
    loss = enhance_batch([image], network, InferenceOptions(tile=80), clamp=False)[0].square().sum()
    gradients = torch.autograd.grad(loss, [image, *network.parameters()])
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients)


# The command and the transform.


@pytest.mark.parametrize("name", ["PSENet", "CLAHE"])
def test_the_command_takes_a_tile_like_the_function(llie: Run, tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 80, (90, 140, 3), np.uint8)
    write_picture(tmp_path / "in.png", Picture(pixels))
    assert (
        llie("enhance", tmp_path / "in.png", "--out", tmp_path / "out.png", "--enhancer", name, "--tile", 80).code == 0
    )
    result = read_picture(tmp_path / "out.png").pixels
    assert np.array_equal(result, enhance(pixels, name, tile=80))
    assert not np.array_equal(result, enhance(pixels, name))


def test_the_command_takes_a_tile_for_videos(llie: Run, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 24, (130, 90))
    for level in (20, 60):
        writer.write(cv2.resize(np.random.default_rng(level).integers(0, level, (9, 13, 3), np.uint8), (130, 90)))
    writer.release()
    for name, options in (("tiles", ["--tile", 80]), ("whole", [])):
        call = ["enhance", tmp_path / "in.avi", "--out", tmp_path / f"{name}.avi", "--enhancer", "CLAHE", *options]
        assert llie(*call).code == 0
    assert (tmp_path / "tiles.avi").read_bytes() != (tmp_path / "whole.avi").read_bytes()


@pytest.mark.parametrize(("tile", "reason"), [("79", "at least 80"), ("0", "--tile"), ("x", "--tile")])
def test_the_command_refuses_wrong_tiles_before_any_work(llie: Run, tmp_path: Path, tile: str, reason: str) -> None:
    write_picture(tmp_path / "in.png", Picture(np.zeros((4, 4, 3), np.uint8)))
    one_line(llie("enhance", tmp_path / "in.png", "--out", tmp_path / "out.png", "--tile", tile), reason)
    assert not (tmp_path / "out.png").exists()


def test_the_transform_takes_a_tile_like_the_function(tmp_path: Path) -> None:
    transforms = pytest.importorskip("llie_preproc.detection.transforms")
    pixels = np.random.default_rng(0).integers(0, 80, (90, 140, 3), np.uint8)
    results = [
        transforms.Enhance("CLAHE", tile=tile, cache_dir=tmp_path).transform({"img": pixels})["img"]
        for tile in (None, 80)
    ]
    for tile, result in zip((None, 80), results, strict=True):
        assert np.array_equal(result, enhance(pixels, "CLAHE", channel_order="bgr", tile=tile))
    assert not np.array_equal(*results)
    with pytest.raises(ValueError, match="tile must be at least 80"):
        transforms.Enhance("CLAHE", tile=8)
