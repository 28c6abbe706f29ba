"""``SCI`` with its public weights gives what numpy computes, and its result is never darker than the picture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import save_file

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import read_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import SCI
from llie_preproc.errors import CheckpointError
from llie_preproc.pictures import read_picture
from tests.support.numpy_layers import conv2d, sigmoid


def recomputed(weights: dict[str, np.ndarray], image: np.ndarray, layers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Result and illumination of the public network on ``(3, H, W)``, from its weight file's tensors by name."""
    w = {k.removeprefix("enhance."): v.astype(np.float64) for k, v in weights.items() if k.startswith("enhance.")}

    def batch_norm(x: np.ndarray, name: str) -> np.ndarray:
        mean, variance, gain, offset = (
            w[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + offset

    features = np.maximum(conv2d(image, w["in_conv.0.weight"], w["in_conv.0.bias"]), 0)
    for _ in range(layers):
        block = batch_norm(conv2d(features, w["blocks.0.0.weight"], w["blocks.0.0.bias"]), "blocks.0.1")
        features = features + np.maximum(block, 0)
    illumination = sigmoid(conv2d(features, w["out_conv.0.weight"], w["out_conv.0.bias"])) + image
    illumination = np.clip(illumination, 1e-4, 1)
    return image / illumination, illumination


# Published weights, and how much brighter they make a picture of DARK FACE at least.
PUBLIC = {
    "sci_medium_official.safetensors": 1.5,
    "peers/sci_easy.pt": 1.1,
    "peers/sci_medium.pt": 1.5,
    "peers/sci_difficult.pt": 1.5,
}


@pytest.mark.parametrize("file", PUBLIC)
def test_converted_public_weights_compute_the_public_network(
    file: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, target = shared_data / "reference_weights" / file, tmp_path / "s.safetensors"
    assert main(["convert", str(source), "--out", str(target), "--enhancer", "SCI"]) == 0
    report = capsys.readouterr().out
    assert "11 of 11 tensors matched" in report
    assert all(name.startswith("calibrate.") for name in re.findall(r"[(,] ?(\w+\.[\w.]+)", report.split(";")[1]))
    network = build_enhancer("SCI", target)
    image = read_picture(shared_data / "darkface_samples" / "1482.png").pixels[:96, :128].astype(np.float32) / 255
    planes = image.transpose(2, 0, 1)
    public = {key: tensor.numpy() for key, tensor in read_state_dict(source).items()}
    expected, illumination = recomputed(public, planes.astype(np.float64))
    assert expected.mean() > PUBLIC[file] * image.mean()
    assert np.abs(enhance(image, network).transpose(2, 0, 1) - expected).max() < 1e-5
    assert np.array_equal(enhance(image, f"sci@{source}"), enhance(image, network))
    with torch.no_grad():
        estimated = network.illumination(torch.from_numpy(planes)[None])[0]
    assert np.abs(estimated.numpy() - illumination).max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_layers_apply_the_shared_block_again(tmp_path: Path, layers: int) -> None:
    generator = np.random.default_rng(layers)
    block = {f"0.{k}": 0.2 * generator.normal(size=s) for k, s in {"weight": (5, 5, 3, 3), "bias": (5,)}.items()}
    block |= {f"1.{k}": generator.uniform(0.5, 1, 5) for k in ("running_mean", "running_var", "weight", "bias")}
    weights = {f"enhance.{name}.{k}": v for name in ("conv", "blocks.0") for k, v in block.items()}
    for name, shape in {"in_conv.0": (5, 3, 3, 3), "out_conv.0": (3, 5, 3, 3)}.items():
        weights[f"enhance.{name}.weight"] = 0.1 * generator.normal(size=shape)
        weights[f"enhance.{name}.bias"] = generator.normal(size=shape[:1])
    state = {k: torch.from_numpy(v).float() for k, v in weights.items()}
    state["enhance.conv.1.num_batches_tracked"] = torch.tensor(3)
    state["calibrate.in_conv.0.weight"] = torch.zeros(16, 3, 3, 3)
    torch.save(state, tmp_path / "public.pt")
    config = {"type": "SCI", "layers": layers, "channels": 5, "checkpoint": tmp_path / "public.pt"}
    image = 0.4 * generator.random((12, 14, 3), np.float32)
    expected, _ = recomputed(weights, image.transpose(2, 0, 1).astype(np.float64), layers)
    assert np.abs(enhance(image, build_enhancer(config)).transpose(2, 0, 1) - expected).max() < 1e-5


def test_weights_without_the_network_are_refused(shared_data: Path, tmp_path: Path) -> None:
    weights = load_file(shared_data / "reference_weights" / "sci_medium_official.safetensors")
    rest = {k: torch.from_numpy(v) for k, v in weights.items() if k.startswith("calibrate.")}
    save_file(rest, tmp_path / "rest.safetensors")
    with pytest.raises(CheckpointError, match="0 of 11"):
        build_enhancer("SCI", tmp_path / "rest.safetensors")


@given(seed=st.integers(0, 2**16), layers=st.integers(1, 3))
def test_results_are_brighter_and_in_range(seed: int, layers: int) -> None:
    """This holds for any weights, because the illumination is at most 1 and at least the image."""
    torch.manual_seed(seed)
    network = SCI(layers, channels=4).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    image = torch.rand(1, 3, 8, 8)
    image[..., :2], image[..., 2:4] = 0, 1
    with torch.no_grad():
        result = network(image)
    assert (result >= image).all()
    assert result.max() <= 1
    assert (result[..., :2] == 0).all()


def test_a_constant_illumination_divides() -> None:
    network = SCI()
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.constant_(network.last.bias, -2)
    image = 0.5 * torch.rand(1, 3, 9, 7)
    assert torch.allclose(network(image), image / (image + 1 / (1 + np.exp(2))), atol=1e-6)


def test_the_gradient_is_bounded_at_black() -> None:
    """An illumination of zero is replaced by the floor of 1e-4."""
    network = SCI()
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.constant_(network.last.bias, -100)
    image = torch.zeros(1, 3, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image).sum(), image)
    assert torch.allclose(gradient, torch.full_like(gradient, 1e4))


def test_every_parameter_gets_a_gradient_larger_than_rounding() -> None:
    """The gradient of a bias before the batch norm would consist of rounding errors."""
    torch.manual_seed(0)
    network = SCI(channels=4).double().train()
    network(0.3 * torch.rand(2, 3, 16, 16, dtype=torch.float64)).square().mean().backward()
    assert min(p.grad.abs().max().item() for p in network.parameters()) > 1e-6


def test_layers_share_their_weights() -> None:
    one, three = SCI(1), SCI(3)
    three.load_state_dict(one.state_dict())
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in three.parameters()) == 255


@pytest.mark.parametrize("layers", [1, 3])
def test_the_illumination_at_a_pixel_depends_on_pixels_as_far_as_declared(layers: int) -> None:
    torch.manual_seed(0)
    network = SCI(layers, channels=8).double().eval()
    image = torch.rand(1, 3, 17, 17, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.illumination(0.3 * image)[0, :, 8, 8].sum(), image)
    reached = gradient[0].abs().sum(0).nonzero()
    halo = network.capabilities.halo
    assert reached.min(0).values.tolist() == [8 - halo] * 2
    assert reached.max(0).values.tolist() == [8 + halo] * 2


@pytest.mark.parametrize("arguments", [{"layers": 0}, {"channels": 0}])
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SCI(**arguments)
