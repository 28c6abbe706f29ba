"""``IAMLUNet`` has the parameters of its layer table, gives what numpy computes, and offers what its training needs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from llie_preproc.enhancers import IAMLUNet
from tests.support.numpy_layers import conv2d, sigmoid
from tests.support.places import ROOT
from tests.support.random_pictures import dark_images


def counted(width: int, depth: int) -> int:
    """Number of parameters of double convolutions, CBAM of reduction 16 and 2x2 transposed convolutions."""
    channels = [width << level for level in range(depth + 1)]

    def block(inputs: int, c: int) -> int:
        hidden = max(c // 16, 1)
        double = 9 * inputs * c + c + 9 * c * c + c
        return double + (2 * c * hidden + hidden + c) + (2 * 7 * 7 + 1)

    down = sum(block(i, c) for i, c in zip([3, *channels], channels, strict=False))
    up = sum(4 * 2 * c * c + c + block(2 * c, c) for c in channels[:-1])
    return down + up + 3 * width + 3


@pytest.mark.parametrize(
    ("width", "depth", "millions"), [(32, 3, "1.94"), (32, 4, "7.8"), (48, 3, "4.4"), (64, 3, "7.8"), (64, 4, "31.3")]
)
def test_the_network_has_the_parameters_of_the_layer_table(width: int, depth: int, millions: str) -> None:
    """The paper states no count; these fit a usual U-Net whose encoder has one level more than its decoder."""
    count = sum(p.numel() for p in IAMLUNet(width, depth).parameters())
    assert count == counted(width, depth)
    assert f"{count / 1e6:.{len(millions.partition('.')[2])}f}" == millions


def test_the_counts_in_the_docstring_are_right() -> None:
    assert [sum(p.numel() for p in n.parameters()) for n in (IAMLUNet(), IAMLUNet(depth=3))] == [7_817_146, 1_940_676]


def test_the_count_of_the_narrow_network_is_that_of_its_config() -> None:
    count = sum(p.numel() for p in IAMLUNet(width=16, depth=3).parameters())
    config = ROOT / "mm_configs" / "enhancers" / "detector_consistency_yolox-nano_iaml.py"
    assert f"A narrow IAMLUNet ({count:,} parameters)" in config.read_text(encoding="utf-8")


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def group_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    groups = x.reshape(8, -1)
    normal = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    return normal.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


class Recomputed:
    """The network's layers in numpy, from its state dict."""

    def __init__(self, network: IAMLUNet, norm: str) -> None:
        self.state = {k: v.double().numpy() for k, v in network.state_dict().items()}
        self.norm = norm

    def block(self, x: np.ndarray, name: str) -> np.ndarray:
        step = 3 if self.norm == "group" else 2
        for first in (0, step):
            x = conv2d(x, self.state[f"{name}.{first}.weight"], self.state.get(f"{name}.{first}.bias", 0))
            if self.norm == "group":
                x = group_norm(x, *(self.state[f"{name}.{first + 1}.{k}"] for k in ("weight", "bias")))
            x = leaky(x)
        return self.attended(x, f"{name}.{2 * step}")

    def attended(self, x: np.ndarray, name: str) -> np.ndarray:
        w = {k.removeprefix(f"{name}."): v for k, v in self.state.items() if k.startswith(f"{name}.")}

        def perceptron(v: np.ndarray) -> np.ndarray:
            hidden = leaky(w["squeeze.weight"][:, :, 0, 0] @ v + w["squeeze.bias"])
            return w["excite.weight"][:, :, 0, 0] @ hidden + w["excite.bias"]

        x = x * sigmoid(perceptron(x.mean((1, 2))) + perceptron(x.max((1, 2))))[:, None, None]
        return x * sigmoid(conv2d(np.stack([x.mean(0), x.max(0)]), w["spatial.weight"], w["spatial.bias"]))

    def up(self, x: np.ndarray, name: str) -> np.ndarray:
        """A transposed 2x2 convolution of stride 2: each pixel becomes its own 2x2 block."""
        blocks = np.einsum("chw,coij->ohiwj", x, self.state[f"{name}.weight"])
        flat = blocks.reshape(blocks.shape[0], 2 * x.shape[1], 2 * x.shape[2])
        return flat + self.state[f"{name}.bias"][:, None, None]

    def levels(self, image: np.ndarray, depth: int) -> list[np.ndarray]:
        features = [self.block(image, "encoder.blocks.0")]
        for i in range(1, depth + 1):
            c, h, w = features[-1].shape
            pooled = features[-1].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))
            features.append(self.block(pooled, f"encoder.blocks.{i}"))
        x, decoded = features[-1], []
        for i in range(depth):
            joined = np.concatenate([features[depth - 1 - i], self.up(x, f"decoder.ups.{i}")])
            x = self.block(joined, f"decoder.blocks.{i}")
            decoded.append(x)
        return decoded

    def image(self, image: np.ndarray, depth: int) -> np.ndarray:
        last = self.levels(image, depth)[-1]
        return image + conv2d(last, self.state["decoder.head.weight"], self.state["decoder.head.bias"])


@pytest.mark.parametrize(("width", "norm"), [(4, "none"), (8, "group"), (32, "none")])
def test_the_network_computes_the_documented_layers(width: int, norm: str) -> None:
    torch.manual_seed(1)
    network = IAMLUNet(width, depth=2, norm=norm).eval()
    image = dark_images(12, 20)
    reference = Recomputed(network, norm)
    with torch.no_grad():
        decoded = network.decode(network.encode(image))
        enhanced = network(image)
    pixels = image[0].double().numpy()
    for level, expected in zip(decoded, reference.levels(pixels, 2), strict=True):
        assert np.abs(level[0].numpy() - expected).max() < 1e-5
    assert np.abs(enhanced[0].numpy() - reference.image(pixels, 2)).max() < 1e-5


def test_each_level_has_half_the_size_and_twice_the_channels() -> None:
    network = IAMLUNet(width=4, depth=3)
    features = network.encode(dark_images(24, 40, count=2))
    assert [tuple(f.shape) for f in features] == [(2, 4, 24, 40), (2, 8, 12, 20), (2, 16, 6, 10), (2, 32, 3, 5)]
    assert [d.shape for d in network.decode(features)] == [f.shape for f in features[2::-1]]


def test_a_teacher_decoder_shares_the_encoder_and_nothing_else() -> None:
    """By Eq. 2 and 3 the teacher starts as a copy of the student's decoder, and keeps its weights afterwards."""
    network = IAMLUNet(width=4, depth=2)
    teacher = copy.deepcopy(network.decoder).requires_grad_(False)
    with torch.no_grad():
        features = network.encode(dark_images(8, 8))
        before = teacher(features)
        assert all(map(torch.equal, before, network.decode(features)))
        for parameter in network.decoder.parameters():
            parameter.add_(0.1)
        assert all(map(torch.equal, before, teacher(features)))
        assert not any(map(torch.equal, before, network.decode(features)))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_loss_on_one_level_trains_the_levels_up_to_it(level: int) -> None:
    network = IAMLUNet(width=8, depth=3)
    network.decode(network.encode(dark_images(16, 16)))[level].square().mean().backward()
    blocks = [*network.decoder.blocks]
    for index, block in enumerate(blocks):
        reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in block.parameters()]
        assert all(reached) if index <= level else not any(reached)
    assert all(p.grad.abs().sum() > 0 for p in network.encoder.blocks[-1].parameters())


def test_with_a_head_of_zeros_the_image_is_unchanged() -> None:
    network = IAMLUNet(width=4, depth=2)
    torch.nn.init.zeros_(network.decoder.head.weight)
    torch.nn.init.zeros_(network.decoder.head.bias)
    image = dark_images(8, 12)
    assert torch.equal(network(image), image)


def test_the_image_reaches_the_coarsest_scale() -> None:
    """With PyTorch's own initialisation the maps at that scale vary a hundred times less."""
    torch.manual_seed(0)
    with torch.no_grad():
        spreads = [f.std(dim=(2, 3)).mean().item() for f in IAMLUNet().encode(dark_images(64, 64))]
    assert min(spreads) > 0.03


def test_the_network_learns() -> None:
    torch.manual_seed(0)
    network, image = IAMLUNet(width=8, depth=2), dark_images(32, 32)
    target = image**0.5
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (network(image) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * (image - target).square().mean()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"norm": "batch"}, "norm"),
        ({"width": 12, "norm": "group"}, "multiple of 8"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        IAMLUNet(**arguments)


def test_sizes_that_do_not_divide_are_refused() -> None:
    network = IAMLUNet(width=4, depth=3)
    with pytest.raises(ValueError, match=r"multiples of 8, got \(16, 20\)"):
        network(dark_images(16, 20))


def test_features_of_another_depth_are_refused() -> None:
    features = IAMLUNet(width=4, depth=3).encode(dark_images(8, 8))
    with pytest.raises(ValueError, match="2 levels needs 3 feature maps, got 4"):
        IAMLUNet(width=4, depth=2).decode(features)
