"""Every registered enhancer keeps the promises of the base class."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llie_preproc import build_enhancer, enhance
from llie_preproc.enhancers import Capabilities, Enhancer, pad_to_requirements
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import ImageError
from llie_preproc.inference import enhance_batch
from tests.support.marks import slow_where
from tests.support.networks import untrained
from tests.support.random_pictures import dark_image

NAMES = sorted(enhancer_classes())
every_enhancer = pytest.mark.parametrize("name", NAMES)


@pytest.mark.examples(30)
@every_enhancer
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (13, 17), (37, 41)])
def test_any_size_comes_back_at_the_declared_scale(name: str, size: tuple[int, int]) -> None:
    network = untrained(name)
    result = enhance(dark_image(*size), network)
    assert result.shape == (3, size[0] * network.scale, size[1] * network.scale)
    assert torch.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.examples(18)
@every_enhancer
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_results_of_uniform_pictures_are_finite_and_the_same_each_time(name: str, value: float) -> None:
    image = torch.full((3, 24, 24), value)
    result = enhance(image, untrained(name))
    assert torch.isfinite(result).all()
    assert torch.equal(result, enhance(image, untrained(name)))


@every_enhancer
def test_a_picture_has_the_same_result_alone_and_beside_a_larger_one(name: str) -> None:
    small, large = dark_image(19, 23), dark_image(40, 33, seed=1)
    alone = enhance(small, untrained(name))
    assert torch.equal(enhance([large, small], untrained(name))[1], alone)
    assert torch.equal(enhance([small, large], untrained(name), batch_size=1)[0], alone)


@every_enhancer
def test_pictures_of_one_batch_do_not_affect_each_other(name: str) -> None:
    first, second = dark_image(24, 16), dark_image(24, 16, seed=1)
    together = enhance(torch.stack([first, second]), untrained(name))
    assert torch.allclose(together[1], enhance(second, untrained(name)), atol=1e-5)


@every_enhancer
def test_the_input_is_left_as_it_was(name: str) -> None:
    image = dark_image(16, 24)
    before = image.clone()
    enhance(image, untrained(name))
    assert torch.equal(image, before)


@every_enhancer
@pytest.mark.parametrize("bad", [torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 0, 8)])
def test_wrong_shapes_are_refused(name: str, bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        untrained(name)(bad)


@every_enhancer
def test_integers_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="uint8"):
        untrained(name)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.examples(6)
@every_enhancer
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = build_enhancer(name, checkpoint=None).train()
    parameters = {k: p for k, p in network.named_parameters() if p.requires_grad}
    if not parameters:
        pytest.skip(f"{name} has no parameters")
    result = enhance_batch([dark_image(48, 40), dark_image(48, 40, seed=1)], network, clamp=False)
    weights = torch.rand(result[0].shape, generator=torch.Generator().manual_seed(0))
    sum(((weights - r) ** 2).sum() for r in result).backward()
    unreached = [k for k, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached
    assert all(torch.isfinite(p.grad).all() for p in parameters.values() if p.grad is not None)


@every_enhancer
def test_gradients_to_the_input_are_finite_where_declared(name: str) -> None:
    network = untrained(name)
    image = dark_image(32, 32)
    image[:, :8], image[:, 8:16] = 0, 1
    image.requires_grad_()
    result = enhance_batch([image], network, clamp=False)[0]
    if not network.capabilities.differentiable:
        assert not result.requires_grad
        return
    (gradient,) = torch.autograd.grad(result.square().sum(), image)
    assert torch.isfinite(gradient).all()
    assert gradient[:, 16:].abs().sum() > 0


@pytest.mark.examples(6)
@every_enhancer
def test_declared_precisions_are_faithful(name: str) -> None:
    network, image = untrained(name), dark_image(32, 40)
    exact = enhance(image, network)
    for dtype in network.capabilities.precisions:
        # Not every supported torch has float16 autocast on the CPU.
        if dtype != torch.float16:
            rounded = enhance(image, network, precision=str(dtype).removeprefix("torch."))
            assert (rounded - exact).abs().mean() < 0.01


@every_enhancer
def test_float32_is_always_declared(name: str) -> None:
    assert torch.float32 in untrained(name).capabilities.precisions


@every_enhancer
def test_a_state_dict_gives_another_network_the_same_result(name: str) -> None:
    torch.manual_seed(1)
    other = build_enhancer(name, checkpoint=None)
    other.load_state_dict(untrained(name).state_dict())
    assert torch.equal(enhance(dark_image(24, 32), other), enhance(dark_image(24, 32), untrained(name)))


@pytest.mark.examples(12)
@every_enhancer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_give_the_same_result(name: str, duplicate: Callable[[Enhancer], Enhancer]) -> None:
    expected = enhance(dark_image(24, 32), untrained(name))
    other = duplicate(untrained(name))
    assert other.capabilities == untrained(name).capabilities
    assert torch.equal(enhance(dark_image(24, 32), other), expected)


# CollaBA's graph has thousands of operations, so it is among the slow ones.
@pytest.mark.examples(3)
@pytest.mark.parametrize("name", slow_where({"CollaBA", "SemiLLIE", "IAMLUNet", "Cascade"}, NAMES))
@pytest.mark.filterwarnings("ignore:Dynamo does not know")
def test_an_enhancer_compiles_as_one_graph_or_says_why_not(name: str) -> None:
    network = copy.deepcopy(untrained(name))
    image = pad_to_requirements(dark_image(24, 32)[None], network.capabilities)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.compiler.reset()
    if network.compile_refusal is not None:
        with pytest.raises(torch._dynamo.exc.TorchDynamoException), torch.no_grad():
            compiled(image)
        return
    with torch.no_grad():
        assert torch.allclose(compiled(image), network(image), atol=1e-5)


def required(length: int, capabilities: Capabilities) -> int:
    """The smallest size of at least ``length`` that the network itself takes."""
    return math.ceil(max(length, capabilities.min_size) / capabilities.size_divisor) * capabilities.size_divisor


@every_enhancer
@pytest.mark.parametrize("size", [(1, 1), (1, 33), (40, 56)])
def test_the_network_takes_the_sizes_that_it_declares(name: str, size: tuple[int, int]) -> None:
    network = untrained(name)
    height, width = (required(n, network.capabilities) for n in size)
    with torch.no_grad():
        result = network(dark_image(height, width)[None])
    assert result.shape == (1, 3, network.scale * height, network.scale * width)
    assert torch.isfinite(result).all()


FAR = 40


@pytest.mark.examples(4)
@every_enhancer
def test_the_result_at_a_pixel_depends_on_pixels_as_far_as_declared(name: str) -> None:
    network = untrained(name)
    capabilities = network.capabilities
    if not capabilities.differentiable:
        assert looks_further_by_difference(network)
        return
    # The pixel is near a corner, so that most of the picture is far from it. In the corner itself, some networks see a
    # reflection.
    size, at = required(96, capabilities), 20
    image = dark_image(size, size)[None].requires_grad_()
    result = network(image)[..., network.scale * at, network.scale * at]
    (gradient,) = torch.autograd.grad(result.sum(), image)
    seen = gradient[0].abs().sum(0) > 0
    offsets = (torch.arange(size) - at).abs()
    distance = torch.maximum(offsets[:, None], offsets)
    if capabilities.halo is None:
        assert seen[distance > FAR].any()
    else:
        assert capabilities.halo < FAR
        assert seen[distance <= capabilities.halo].any()
        assert not seen[distance > capabilities.halo].any()


def looks_further_by_difference(network: Enhancer) -> bool:
    """Whether pixels further than ``FAR`` change a result; CLAHE's tiles, 64 pixels wide here, are larger than that."""
    first, second = dark_image(512, 512), dark_image(512, 512)
    at = 60
    second[:, at + FAR + 1 :], second[:, :, at + FAR + 1 :] = 0.9, 0.9
    return not torch.equal(*(enhance(image, network)[:, at, at] for image in (first, second)))


@every_enhancer
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pictures_that_are_not_finite_are_refused(name: str, value: float) -> None:
    image = dark_image(16, 24)
    image[1, 2, 3] = value
    with pytest.raises(ImageError, match="not finite"):
        enhance(image, untrained(name))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_result_that_is_not_finite_is_refused(value: float) -> None:
    class Broken(Enhancer):
        def forward(self, image: Tensor) -> Tensor:
            return torch.where(image > 0.9, value, image)

    good, bad = dark_image(16, 24), dark_image(16, 24)
    bad[0, 5, 6] = 1
    assert torch.equal(enhance(good, Broken()), good)
    with pytest.raises(ImageError, match="image 1: the result of Broken under float32 is not finite"):
        enhance([good, bad], Broken())


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 20), width=st.integers(1, 20), divisor=st.sampled_from([1, 2, 4, 8]), least=st.integers(1, 30)
)
def test_padding_equals_numpys(height: int, width: int, divisor: int, least: int) -> None:
    image = dark_image(height, width)[None]
    padded = pad_to_requirements(image, Capabilities(size_divisor=divisor, min_size=least))
    for before, after in zip(image.shape[-2:], padded.shape[-2:], strict=True):
        assert after % divisor == 0
        assert max(before, least) <= after < max(before, least) + divisor
    expected = image[0].numpy()
    for axis, (before, after) in enumerate(zip(image.shape[-2:], padded.shape[-2:], strict=True), start=1):
        mirrored = min(after, 2 * before - 1)
        expected = np.pad(expected, [(0, mirrored - before if a == axis else 0) for a in range(3)], mode="reflect")
        expected = np.pad(expected, [(0, after - mirrored if a == axis else 0) for a in range(3)], mode="edge")
    assert np.array_equal(padded[0].numpy(), expected)
