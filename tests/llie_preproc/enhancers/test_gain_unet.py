"""``GainUNet`` gives what numpy computes from its documented layers, starts near the identity, and learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llie_preproc import enhance
from llie_preproc.enhancers import GainUNet
from tests.support.networks import parameter_count, untrained
from tests.support.numpy_layers import conv2d
from tests.support.random_pictures import dark_image, dark_images


def counted(channels: tuple[int, ...], blocks: tuple[int, ...]) -> int:
    """Number of parameters of 3x3 convolutions, 2x2 convolutions of stride 2, and the linear layers of the pooling."""

    def conv(inputs: int, outputs: int, side: int = 3) -> int:
        return side * side * inputs * outputs + outputs

    *fine, coarsest = channels
    blocks_of_fine = sum(2 * number * 2 * conv(c, c) for c, number in zip(fine, blocks, strict=False))
    steps = sum(conv(a, b, 2) + conv(b, a, 2) for a, b in zip(fine, channels[1:], strict=True))
    context = (2 * coarsest * coarsest + coarsest) + (2 * coarsest * coarsest + 2 * coarsest)
    ends = conv(6 * 4, channels[0]) + conv(channels[0], 6 * 4)
    return ends + blocks_of_fine + steps + blocks[-1] * (2 * conv(coarsest, coarsest) + context)


@pytest.mark.parametrize(
    ("channels", "blocks"), [((32, 64, 96), (1, 1, 2)), ((4, 8), (2, 1)), ((4, 6, 8, 4), (1,) * 4)]
)
def test_the_network_has_the_parameters_of_its_layers(channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    assert parameter_count(GainUNet(channels, blocks)) == counted(channels, blocks)


def test_the_count_in_the_docstring_is_right() -> None:
    assert parameter_count(GainUNet()) == 670_840
    assert "670,840 parameters" in (GainUNet.__doc__ or "")


def unshuffled(x: np.ndarray) -> np.ndarray:
    """Each 2x2 block of a channel as four channels of half the size, in reading order."""
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * c, h // 2, w // 2)


def shuffled(x: np.ndarray) -> np.ndarray:
    """The inverse of :func:`unshuffled`."""
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


class Recomputed:
    """The network's layers in numpy, from its state dict."""

    def __init__(self, network: GainUNet, scales: int) -> None:
        self.state = {k: v.double().numpy() for k, v in network.state_dict().items()}
        self.fine = scales - 1

    def weights(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def block(self, x: np.ndarray, name: str) -> np.ndarray:
        inner = np.maximum(conv2d(x, *self.weights(f"{name}.first")), 0)
        return x + conv2d(inner, *self.weights(f"{name}.second"))

    def blocks(self, x: np.ndarray, name: str) -> np.ndarray:
        number = 0
        while f"{name}.{number}.first.weight" in self.state:
            x, number = self.block(x, f"{name}.{number}"), number + 1
        assert number
        return x

    def context(self, x: np.ndarray, name: str) -> np.ndarray:
        (squeeze, squeeze_bias), (excite, excite_bias) = (self.weights(f"{name}.{k}") for k in ("squeeze", "excite"))
        pooled = np.concatenate([x.mean((1, 2)), x.max((1, 2))])
        scale, shift = np.split(excite @ np.maximum(squeeze @ pooled + squeeze_bias, 0) + excite_bias, 2)
        return x * (1 + scale)[:, None, None] + shift[:, None, None]

    def down(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self.weights(name)
        c, h, w = x.shape
        return np.einsum("chiwj,ocij->ohw", x.reshape(c, h // 2, 2, w // 2, 2), weight) + bias[:, None, None]

    def up(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self.weights(name)
        blocks = np.einsum("chw,coij->ohiwj", x, weight)
        return blocks.reshape(-1, 2 * x.shape[1], 2 * x.shape[2]) + bias[:, None, None]

    def image(self, image: np.ndarray) -> np.ndarray:
        lifted = np.concatenate([image, (np.maximum(image, 0) + 0.001) ** 0.4])
        x, skips = conv2d(unshuffled(lifted), *self.weights("stem")), []
        for level in range(self.fine):
            skips.append(self.blocks(x, f"encoder.{level}"))
            x = self.down(skips[-1], f"downs.{level}")
        place = 0
        while f"middle.{place}.first.weight" in self.state:
            x = self.context(self.block(x, f"middle.{place}"), f"middle.{place + 1}")
            place += 2
        for level in reversed(range(self.fine)):
            x = self.blocks(self.up(x, f"ups.{level}") + skips[level], f"decoder.{level}")
        gain, offset = np.split(shuffled(conv2d(x, *self.weights("head"))), 2)
        return image + 8 * gain * image + offset


def scattered(network: GainUNet) -> GainUNet:
    """The network with weights of a usual size in all layers, also in those that start near 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("channels", "blocks"), [((6, 8), (1, 2)), ((4, 6, 8), (2, 1, 1)), ((32, 64, 96), (1, 1, 2))])
def test_the_network_computes_the_documented_layers(channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    network = scattered(GainUNet(channels, blocks))
    image = 2.5 * dark_images(16, 24) - 0.1
    with torch.no_grad():
        enhanced = network(image)
    expected = Recomputed(network, len(channels)).image(image[0].double().numpy())
    change = np.abs(expected - image[0].double().numpy()).max()
    assert change > 0.1
    # Float32 sums of up to some hundred terms.
    assert np.abs(enhanced[0].numpy() - expected).max() < 1e-4 * max(1.0, change)


def test_the_result_is_the_picture_with_the_predicted_gain_and_offset() -> None:
    network, image = scattered(GainUNet((4, 8), (1, 1))), dark_images(8, 12, count=2)
    with torch.no_grad():
        gain, offset = network.predict(image)
        enhanced = network(image)
    assert gain.shape == offset.shape == image.shape
    assert gain.abs().max() > 0.01
    assert offset.abs().max() > 0.01
    torch.testing.assert_close(enhanced, (1 + gain) * image + offset)


def test_a_new_network_returns_nearly_its_input() -> None:
    image = dark_image(40, 48)
    change = (enhance(image, untrained("GainUNet")) - image).abs()
    assert 0 < change.max() < 0.1


def test_an_input_outside_the_range_gives_finite_gradients() -> None:
    """A transform of levels below 0 by a power would not be a number."""
    image = (2 * dark_images(16, 16) - 0.3).requires_grad_()
    GainUNet((4, 8), (1, 1))(image).square().sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_gain_and_offset_are_applied_in_float32_under_autocast() -> None:
    """bfloat16 has steps of 1/256 just below 1, so a picture that passed through it would lose levels."""
    network, image = GainUNet((8, 16), (1, 1)), 0.5 + dark_images(16, 16)
    with torch.no_grad():
        torch.nn.init.zeros_(network.head.weight)
        with torch.autocast("cpu", torch.bfloat16):
            enhanced = network(image)
    assert enhanced.dtype == torch.float32
    assert torch.equal(enhanced, image)


def test_bfloat16_is_close_to_float32() -> None:
    network, image = scattered(GainUNet()), dark_image(32, 40)
    exact, rounded = enhance(image, network), enhance(image, network, precision="bfloat16")
    change = (exact - image).abs().mean()
    assert change > 0.02
    # bfloat16 keeps eight bits, and the errors of ten layers add up.
    assert (rounded - exact).abs().mean() < 0.05 * change
    assert not torch.equal(rounded, exact)


def test_float16_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        enhance(dark_image(8, 8), GainUNet((4, 8), (1, 1)), precision="float16")


@pytest.mark.parametrize(("channels", "divisor"), [((4, 8), 4), ((4, 8, 8), 8), ((4, 4, 4, 4), 16)])
def test_sizes_are_multiples_of_twice_the_coarsest_scale(channels: tuple[int, ...], divisor: int) -> None:
    network = GainUNet(channels, (1,) * len(channels))
    assert network.capabilities.size_divisor == divisor
    assert network(dark_images(divisor, 2 * divisor)).shape == (1, 3, divisor, 2 * divisor)
    odd = dark_image(divisor + 1, 2 * divisor - 1)
    assert enhance(odd, network).shape == odd.shape


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, got \(16, 20\)"):
        GainUNet((4, 4, 4), (1, 1, 1))(dark_images(16, 20))


def test_the_light_of_a_far_corner_changes_the_result() -> None:
    network = scattered(GainUNet((4, 8), (1, 1)))
    image = dark_images(64, 64)
    lit = image.clone()
    lit[..., 48:, 48:] = 1
    with torch.no_grad():
        assert (network(lit) - network(image))[..., :8, :8].abs().max() > 1e-4


def test_the_network_learns() -> None:
    torch.manual_seed(0)
    network, image = GainUNet((8, 16), (1, 1)), dark_images(32, 32)
    target = image**0.5
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (network(image) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": (8,), "blocks": (1,)}, "channels and blocks must have one number .* got 1 and 1"),
        ({"channels": (8, 16)}, "channels and blocks must have one number .* got 2 and 3"),
        ({"blocks": (1, 1)}, "channels and blocks must have one number .* got 3 and 2"),
        ({"channels": ()}, "channels and blocks must have one number .* got 0 and 3"),
        ({"channels": (8, 0, 8)}, "each of channels must be a whole number of at least 1, got 0"),
        ({"channels": (8, 8.5, 8)}, "each of channels must be a whole number of at least 1, got 8.5"),
        ({"blocks": (1, -1, 1)}, "each of blocks must be a whole number of at least 1, got -1"),
        ({"blocks": (1, True, 1)}, "each of blocks must be a whole number of at least 1, got True"),
        ({"blocks": (1, 1, float("nan"))}, "each of blocks must be a whole number of at least 1, got nan"),
        ({"channels": 32}, "channels must be a sequence of numbers, got 32"),
        ({"blocks": "112"}, "blocks must be a sequence of numbers, got '112'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GainUNet(**arguments)
