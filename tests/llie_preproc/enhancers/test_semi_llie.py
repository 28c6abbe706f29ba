"""``SemiLLIE`` has the published sizes, and gives what its equations give in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from llie_preproc import build_enhancer
from llie_preproc.complexity import complexity
from llie_preproc.enhancers import SemiLLIE
from tests.support.networks import parameter_count
from tests.support.numpy_layers import conv2d, sigmoid

Weights = dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [({}, 610_548), ({"multiscale": False}, 465_652), ({"multiscale": False, "illumination": False}, 437_745)],
)
def test_the_network_has_the_published_parameters(arguments: dict, count: int) -> None:
    network = SemiLLIE(**arguments)
    assert parameter_count(network) == count
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == 18


def test_each_part_has_the_published_parameters() -> None:
    network = SemiLLIE()
    block = network.groups[0].blocks[0]
    assert parameter_count(network.estimator) == 26_179
    assert parameter_count(network.groups) == 541_916
    assert parameter_count(block.module) == 92_032
    assert parameter_count(SemiLLIE(multiscale=False).groups[0].blocks[0].module) == 55_808
    assert parameter_count(block.attention) == 24_599


@pytest.mark.parametrize(("multiscale", "published"), [(True, 34.996), (False, 26.214)])
def test_the_network_has_the_published_multiply_adds(multiscale: bool, published: float) -> None:
    """The published count is in units of 2^30.

    It leaves out the scan, but includes layer norms (5 for each value), pooling and the gradient map.
    """
    network = SemiLLIE(multiscale=multiscale).to("meta").eval()
    image = torch.empty(1, 3, 256, 256, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.gradient_map(network(image))
    counts = {str(k).split(".")[-1]: v / 2 for k, v in counter.get_flop_counts()["Global"].items()}
    pixels, inner = 256 * 256, 128
    scan = counts.pop("selective_scan")
    projection = 4 * 4 * pixels * inner * 4
    assert scan - projection == 4.5 * 4 * 4 * pixels * inner * 16
    norms, pooling = 5 * pixels * (10 * 64 + 4 * inner), 4 * 64 * pixels
    total = sum(counts.values()) + projection + norms + pooling
    assert total / 2**30 == pytest.approx(published, abs=6e-4)


def test_the_complexity_includes_the_scan() -> None:
    """The scan costs 9 L D N in each of four directions and four blocks; its projection grows with the states too."""
    smaller, larger = (complexity(SemiLLIE(states=n), 32, 40).macs for n in (8, 16))
    projected = 4 * 4 * 2 * 8 * 128 * 32 * 40
    assert larger - smaller == 4 * 4 * 32 * 40 * 128 * 9 * 8 // 2 + projected


def test_the_widths_and_depths_of_fig_7_can_be_built() -> None:
    for argument, values in {"width": (32, 48, 64, 80), "groups": (1, 2, 3), "blocks": (1, 2, 3)}.items():
        counts = [parameter_count(SemiLLIE(**{argument: value})) for value in values]
        assert counts == sorted(set(counts))
    assert len(SemiLLIE(groups=3, blocks=1).groups) == 3


@pytest.mark.parametrize(
    "arguments", [{"width": 0}, {"width": 30}, {"groups": 0}, {"blocks": 0}, {"states": 0}, {"drop_path": 1.0}]
)
def test_wrong_arguments_are_refused_by_name(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SemiLLIE(**arguments)


def test_the_image_is_restored_exactly_when_the_tail_is_zero() -> None:
    network = SemiLLIE(width=16).eval()
    nn.init.zeros_(network.tail.weight)
    nn.init.zeros_(network.tail.bias)
    image = torch.rand(1, 3, 9, 7)
    assert torch.equal(network(image), image)


def test_steps_begin_log_uniform_between_their_bounds() -> None:
    """At zero input the step is softplus of the bias: between 1e-3 and 1e-1, half of them below 1e-2."""
    torch.manual_seed(0)
    bias = SemiLLIE().groups[0].blocks[0].module.scan.step_bias.detach()
    steps = nn.functional.softplus(bias.double())
    assert steps.min() * (1 + 1e-4) >= 1e-3
    assert steps.max() <= 1e-1 * (1 + 1e-4)
    assert 0.4 < (steps < 1e-2).double().mean() < 0.6


def test_drop_path_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = SemiLLIE(width=8, drop_path=0.9)
    image = torch.rand(1, 3, 6, 6)
    trained = [network.train()(image) for _ in range(8)]
    assert any(not torch.equal(trained[0], other) for other in trained[1:])
    assert torch.equal(network.eval()(image), network(image))


def test_the_illumination_map_needs_its_estimator() -> None:
    image = torch.rand(2, 3, 5, 6)
    assert SemiLLIE(width=8).illumination(image).shape == image.shape
    with pytest.raises(ValueError, match="illumination=False"):
        SemiLLIE(width=8, illumination=False).illumination(image)


def test_the_gradient_map_equals_numpys() -> None:
    """The map's differences are twice numpy's gradient; beyond the border, the picture counts as zero."""
    image = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    found = SemiLLIE(width=4).double().gradient_map(image)[0].numpy()
    by_row, by_column = np.gradient(np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1))), axis=(1, 2))
    expected = np.sqrt(4 * (by_row**2 + by_column**2) + 1e-6)[:, 1:-1, 1:-1]
    assert np.allclose(found, expected)


@pytest.mark.parametrize("arguments", [{}, {"multiscale": False}, {"illumination": False}])
def test_the_network_computes_its_equations(arguments: dict) -> None:
    torch.manual_seed(0)
    network = SemiLLIE(width=8, states=3, groups=1, blocks=2, **arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        image = torch.rand(1, 3, 5, 4)
        found = network(image)[0]
    weights = {k: v.double().numpy() for k, v in network.state_dict().items()}
    expected = forward(weights, image[0].double().numpy(), network.mean[0].double().numpy())
    assert np.abs(found.numpy() - expected).max() < 1e-5


def forward(w: Weights, image: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Result ``(3, H, W)`` of a network of one group of two blocks."""
    x = image - mean
    if "estimator.0.weight" in w:
        x = np.concatenate([x, illumination(w, x)])
    shallow = conv2d(x, w["shallow.weight"], w["shallow.bias"])
    group_input = y = norm(w, "embed_norm", shallow)
    for i in range(2):
        y = block(w, f"groups.0.blocks.{i}.", y)
    y = group_input + conv2d(y, w["groups.0.conv.weight"], w["groups.0.conv.bias"])
    y = conv2d(norm(w, "norm", y), w["body_end.weight"], w["body_end.bias"]) + shallow
    return image + conv2d(y, w["tail.weight"], w["tail.bias"])


def illumination(w: Weights, x: np.ndarray) -> np.ndarray:
    y = conv2d(np.concatenate([x, x.mean(0, keepdims=True)]), w["estimator.0.weight"], w["estimator.0.bias"])
    parts = zip(np.split(y, 4), np.split(w["estimator.1.weight"], 4), strict=True)
    y = np.concatenate([conv2d(part, weight) for part, weight in parts]) + w["estimator.1.bias"][:, None, None]
    return conv2d(y, w["estimator.2.weight"], w["estimator.2.bias"])


def block(w: Weights, p: str, x: np.ndarray) -> np.ndarray:
    y = w[p + "scan_skip"][:, None, None] * x + state_space(w, p + "module.", norm(w, p + "scan_norm", x))
    z = norm(w, p + "attention_norm", y)
    z = conv2d(z, w[p + "attention.0.weight"], w[p + "attention.0.bias"])
    z = 0.5 * z * (1 + erf(z / np.sqrt(2)))
    z = conv2d(z, w[p + "attention.2.weight"], w[p + "attention.2.bias"])
    a = conv2d(
        z.mean((1, 2), keepdims=True), w[p + "attention.attention.1.weight"], w[p + "attention.attention.1.bias"]
    )
    a = conv2d(np.maximum(a, 0), w[p + "attention.attention.3.weight"], w[p + "attention.attention.3.bias"])
    return w[p + "attention_skip"][:, None, None] * y + z * sigmoid(a)


def state_space(w: Weights, p: str, x: np.ndarray) -> np.ndarray:
    """Eq. 3, with the 1x1 convolution that merges the branches."""
    features, gate = np.split(np.einsum("oc,chw->ohw", w[p + "expand.weight"], x), 2)
    branches = []
    for i in itertools.count():
        if f"{p}local.{i}.weight" not in w:
            break
        kernels, bias = w[f"{p}local.{i}.weight"], w[f"{p}local.{i}.bias"]
        depthwise = [conv2d(f[None], k[None], b) for f, k, b in zip(features, kernels, bias, strict=True)]
        branches.append(silu(np.concatenate(depthwise)))
    y = np.concatenate(branches)
    if p + "merge.weight" in w:
        y = conv2d(y, w[p + "merge.weight"], w[p + "merge.bias"])
    y = norm(w, p + "norm", scan(w, p + "scan.", y))
    return np.einsum("oc,chw->ohw", w[p + "contract.weight"], y * silu(gate))


def scan(w: Weights, p: str, x: np.ndarray) -> np.ndarray:
    """The scan in four directions (SS2D), computed pixel by pixel."""
    channels, height, width = x.shape
    by_rows = list(itertools.product(range(height), range(width)))
    by_columns = [(i, j) for j, i in itertools.product(range(width), range(height))]
    y = np.zeros_like(x)
    A = -np.exp(w[p + "A_log"])
    rank, states = w[p + "step_weight"].shape[2], A.shape[2]
    for k, walk in enumerate([by_rows, by_columns, by_rows[::-1], by_columns[::-1]]):
        h = np.zeros((channels, states))
        for i, j in walk:
            step, B, C = np.split(w[p + "project"][k] @ x[:, i, j], [rank, rank + states])
            step = np.log1p(np.exp(w[p + "step_weight"][k] @ step + w[p + "step_bias"][k]))[:, None]
            h = np.exp(step * A[k]) * h + step * B * x[:, i, j, None]
            y[:, i, j] += h @ C + w[p + "D"][k] * x[:, i, j]
    return y


def norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return x * w[name + ".weight"][:, None, None] + w[name + ".bias"][:, None, None]


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def test_every_backend_gives_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build_enhancer({"type": "SemiLLIE", "width": 16}, checkpoint=None)
    image = torch.rand(1, 3, 12, 10)
    pictures = []
    for backend in ("chunked", "reference", ""):
        monkeypatch.setenv("LLIE_SCAN_BACKEND", backend)
        pictures.append(network(image))
    assert torch.allclose(pictures[0], pictures[1], atol=1e-5)
    assert torch.allclose(pictures[0], pictures[2], atol=1e-5)
