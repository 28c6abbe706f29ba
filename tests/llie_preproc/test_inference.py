"""``enhance`` gives equal values for every kind, order and layout of picture, and refuses anything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import llie_preproc
from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.enhancers import GammaCorrection, Identity, PSENet, Upscale
from llie_preproc.errors import CheckpointError, ImageError
from llie_preproc.inference import enhance_batch, evaluating

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
NUMPY_KINDS = [np.uint8, np.uint16, np.float16, np.float32, np.float64]
TENSOR_KINDS = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32]
LAYOUTS = ["single", "batch", "list"]


def levels(size: tuple[int, int], dtype: type, seed: int = 0) -> np.ndarray:
    """``(H, W, 3)`` of 256 levels; as floats they are exact in float16 too."""
    level = np.random.default_rng(seed).integers(0, 256, (*size, 3))
    if np.dtype(dtype).kind == "f":
        return (level / 256).astype(dtype)
    return level.astype(dtype) * (257 if dtype is np.uint16 else 1)


def arrange(image: np.ndarray | Tensor, layout: str) -> np.ndarray | Tensor | list:
    if layout == "single":
        return image
    if layout == "list":
        return [image, image]
    return np.stack([image, image]) if isinstance(image, np.ndarray) else torch.stack([image, image])


def assert_same(result: object, expected: object) -> None:
    """Assert equal types, dtypes, shapes and values, of every item of a list too."""
    assert type(result) is type(expected)
    if isinstance(expected, list):
        assert len(result) == len(expected)
        for pair in zip(result, expected, strict=True):
            assert_same(*pair)
        return
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert bool((result == expected).all()) if expected.dtype != torch.uint16 else result.tolist() == expected.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", NUMPY_KINDS)
def test_identity_returns_equal_arrays(dtype: type, layout: str) -> None:
    images = arrange(levels((5, 7), dtype), layout)
    assert_same(enhance(images, Identity()), images)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TENSOR_KINDS, ids=str)
def test_identity_returns_equal_tensors(dtype: torch.dtype, layout: str) -> None:
    image = torch.from_numpy(levels((5, 7), np.uint8)).permute(2, 0, 1)
    image = image.to(torch.float32).div(256).to(dtype) if dtype.is_floating_point else image.to(dtype)
    images = arrange(image, layout)
    assert_same(enhance(images, Identity()), images)


def test_identity_keeps_every_16_bit_level() -> None:
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)[..., None].repeat(3, axis=2)
    assert np.array_equal(enhance(image, Identity()), image)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(SIZES, max_size=6), batch_size=st.integers(1, 4))
def test_order_and_sizes_of_a_list_are_kept(sizes: list[tuple[int, int]], batch_size: int) -> None:
    images = [levels(size, np.uint8, seed) for seed, size in enumerate(sizes)]
    assert_same(enhance(images, Identity(), batch_size=batch_size), images)
    enlarged = enhance(images, Upscale(scale=2, mode="nearest"), batch_size=batch_size)
    assert_same(enlarged, [image.repeat(2, axis=0).repeat(2, axis=1) for image in images])


@settings(max_examples=20, deadline=None)
@given(size=SIZES, dtype=st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_all_kinds_of_pictures_agree(size: tuple[int, int], dtype: type) -> None:
    """A picture has the formula's result as an array, as a tensor, alone and in a batch."""
    image = levels(size, dtype)
    result = enhance(image, GammaCorrection(0.5))
    full = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)
    assert np.allclose(result, full * np.sqrt(image / full), atol=0.5001 if full > 1 else 1e-6)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(enhance(tensor, GammaCorrection(0.5)).permute(1, 2, 0).numpy(), result)
    assert np.array_equal(enhance(image[None], GammaCorrection(0.5))[0], result)


@settings(max_examples=15, deadline=None)
@given(size=SIZES)
def test_bgr_equals_flipping_by_hand(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = PSENet().eval()
    image = levels(size, np.uint8)
    flipped = np.ascontiguousarray(image[..., ::-1])
    assert np.array_equal(enhance(flipped, network, channel_order="bgr"), enhance(image, network)[..., ::-1])


def test_arrays_in_any_memory_layout_are_taken() -> None:
    image = levels((6, 8), np.uint8)
    assert np.array_equal(enhance(image[::-1, ::2, ::-1], Identity()), image[::-1, ::2, ::-1])
    image.flags.writeable = False
    assert np.array_equal(enhance(image, Identity()), image)
    assert np.array_equal(enhance(image.astype(">u2"), Identity()), image)


def test_results_are_clamped_and_carry_no_gradient() -> None:
    result = enhance(torch.full((3, 2, 2), 0.5, requires_grad=True), Upscale(scale=2))
    assert not result.requires_grad
    edge = np.zeros((8, 8, 3), np.float32)
    edge[:, 4:] = 1
    # Bicubic interpolation overshoots at an edge.
    overshooting = enhance_batch([torch.from_numpy(edge).permute(2, 0, 1)], Upscale(scale=2), clamp=False)[0]
    assert overshooting.max() > 1
    assert enhance(edge, Upscale(scale=2)).max() == 1


def test_float_rounding_outside_the_range_is_accepted_and_clamped() -> None:
    image = np.float32([[[-0.0005, 0.5, 1.0005]]])
    assert enhance(image, Identity()).tolist() == [[[0, 0.5, 1]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 255.0, -1.0])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_values_outside_of_the_range_are_refused(value: float, as_tensor: bool) -> None:
    image = np.full((3, 4, 3), 0.5, np.float32)
    image[1, 2, 0] = value
    bad = torch.from_numpy(image).permute(2, 0, 1) if as_tensor else image
    good = torch.full((3, 9, 9), 0.5) if as_tensor else np.full((9, 9, 3), 0.5)
    with pytest.raises(ImageError, match=r"image 1.*(not finite|\[0, 1\])"):
        enhance([good, bad], Identity())


@pytest.mark.parametrize(
    ("images", "exception", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"\(H, W, 3\).*\(4, 4, 4\)"),
        (torch.zeros(1, 4, 4), ValueError, r"\(3, H, W\).*\(1, 4, 4\)"),
        (np.zeros((4, 4), np.uint8), ValueError, r"\(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"\(0, 4, 3\)"),
        ([np.zeros((2, 4, 4, 3), np.uint8)], ValueError, "list"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "int64"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), TypeError, "int32"),
        ("night.jpg", TypeError, "str"),
    ],
)
def test_wrong_images_are_refused(images: object, exception: type[Exception], message: str) -> None:
    with pytest.raises(exception, match=message):
        enhance(images, Identity())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_order": "gbr"}, "gbr"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"precision": "int8"}, "int8"),
        ({"precision": "float16"}, "PSENet.*float16.*float32"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        enhance(np.zeros((8, 8, 3), np.uint8), PSENet(), **options)


def test_float32_holds_inside_a_callers_autocast() -> None:
    torch.manual_seed(0)
    network, image = PSENet().eval(), levels((16, 16), np.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = enhance(image, network)
    assert np.array_equal(inside, enhance(image, network))


def test_modes_are_restored() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    network[1].eval()
    before = [m.training for m in network.modules()]
    with evaluating(network):
        assert not any(m.training for m in network.modules())
    assert [m.training for m in network.modules()] == before


def test_enhancers_are_built_by_name_config_and_instance() -> None:
    assert isinstance(build_enhancer("Identity"), Identity)
    assert isinstance(build_enhancer("llie_preproc.Identity"), Identity)
    assert build_enhancer({"type": "Upscale", "scale": 4}).scale == 4
    network = PSENet()
    assert build_enhancer(network) is network
    assert not build_enhancer("PSENet", checkpoint=None).training


@pytest.mark.parametrize(
    ("config", "exception", "message"),
    [
        ("PSNet", KeyError, "PSNet.*PSENet"),
        ({"width": 2}, TypeError, "type.*width"),
        ({"type": "PSENet", "widht": 2}, TypeError, "widht"),
        ({"type": "Upscale", "scale": 3}, ValueError, "3"),
    ],
)
def test_wrong_configs_are_refused(config: object, exception: type[Exception], message: str) -> None:
    with pytest.raises(exception, match=message):
        build_enhancer(config)


def seeded(build: Callable[[], torch.nn.Module]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return build().state_dict()


def test_without_checkpoint_the_weights_are_random() -> None:
    expected = seeded(PSENet)
    built = seeded(lambda: build_enhancer("PSENet", checkpoint=None))
    assert all(torch.equal(built[k], expected[k]) for k in expected)


def test_a_checkpoint_in_the_config_is_loaded(tmp_path: object) -> None:
    state = seeded(PSENet)
    save_state_dict(state, f"{tmp_path}/a.safetensors")
    built = build_enhancer({"type": "PSENet", "checkpoint": f"{tmp_path}/a.safetensors"}, checkpoint=None).state_dict()
    assert all(torch.equal(built[k], state[k]) for k in state)
    with pytest.raises(CheckpointError, match="PSENet"):
        build_enhancer({"type": "PSENet", "width": 2, "checkpoint": f"{tmp_path}/a.safetensors"})


def test_the_package_offers_the_public_functions() -> None:
    assert llie_preproc.enhance is enhance
    assert llie_preproc.build_enhancer is build_enhancer
