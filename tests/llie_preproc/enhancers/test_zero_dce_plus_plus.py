"""``ZeroDCEPlusPlus`` with public weights gives what numpy computes; sizes that 12 does not divide lose no pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import read_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import ZeroDCE, ZeroDCEPlusPlus
from llie_preproc.errors import CheckpointError
from llie_preproc.pictures import read_picture
from tests.support.numpy_layers import conv2d, zero_dce_curves

# Inputs and outputs of the layers of the public release.
WIDTHS = ((3, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 3))


def public_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors with the names and shapes of the public file, large enough for curves that brighten."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for number, (inputs, outputs) in enumerate(WIDTHS, 1):
        for name, shape in {"depth_conv": (inputs, 1, 3, 3), "point_conv": (outputs, inputs, 1, 1)}.items():
            found[f"e_conv{number}.{name}.weight"] = 0.3 * torch.randn(shape, generator=generator)
            found[f"e_conv{number}.{name}.bias"] = 0.1 * torch.randn(shape[:1], generator=generator)
    return found


def recomputed(state: dict[str, torch.Tensor], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Result and curves r of the public network on ``(3, H, W)``, H and W being multiples of 12."""
    weights = {key: tensor.double().numpy() for key, tensor in state.items()}

    def layer(number: int, *inputs: np.ndarray) -> np.ndarray:
        depth, point = (f"e_conv{number}.{name}" for name in ("depth_conv", "point_conv"))
        x = np.concatenate(inputs)
        x = np.concatenate([conv2d(c[None], w[None]) for c, w in zip(x, weights[f"{depth}.weight"], strict=True)])
        x = x + weights[f"{depth}.bias"][:, None, None]
        return conv2d(x, weights[f"{point}.weight"], weights[f"{point}.bias"])

    # Interpolation at the centre of a block of 12 x 12 pixels takes the mean of the four in the middle.
    small = sum(image[:, i::12, j::12] for i in (5, 6) for j in (5, 6)) / 4
    curves = zero_dce_curves(layer, small)
    # The corners of the small map are the corners of the large one.
    for axis in (1, 2):
        places = np.linspace(0, curves.shape[axis] - 1, image.shape[axis])
        known = np.arange(curves.shape[axis])
        curves = np.apply_along_axis(lambda line, p=places, k=known: np.interp(p, k, line), axis, curves)
    for _ in range(8):
        image = image + curves * (image**2 - image)
    return image, curves


def assert_computes(network: ZeroDCEPlusPlus, state: dict[str, torch.Tensor], image: np.ndarray) -> None:
    expected, curves = recomputed(state, image.transpose(2, 0, 1).astype(np.float64))
    assert np.abs(enhance(image, network).transpose(2, 0, 1) - expected).max() < 1e-5
    with torch.no_grad():
        maps = network.curve_maps(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    assert np.abs(maps.numpy() + curves).max() < 1e-5


def test_a_file_of_the_public_format_computes_the_public_network(tmp_path: Path) -> None:
    torch.save(public_tensors(), tmp_path / "public.pth")
    network = build_enhancer(f"zero-dce++@{tmp_path / 'public.pth'}")
    assert isinstance(network, ZeroDCEPlusPlus)
    image = np.random.default_rng(0).random((36, 60, 3), np.float32)
    assert_computes(network, public_tensors(), image)
    assert np.abs(enhance(image, network) - image).mean() > 0.05


def test_converted_public_weights_compute_the_public_network(shared_data: Path, tmp_path: Path) -> None:
    source, target = shared_data / "reference_weights" / "peers" / "zero_dce_pp.pth", tmp_path / "z.safetensors"
    assert main(["convert", str(source), "--out", str(target), "--enhancer", "zero-dce++"]) == 0
    state = read_state_dict(source)
    image = read_picture(shared_data / "darkface_samples" / "1482.png").pixels[:120, :144].astype(np.float32) / 255
    for network in (build_enhancer("ZeroDCEPlusPlus", target), build_enhancer(f"zero_dce_pp@{source}")):
        assert sum(p.numel() for p in network.parameters()) == sum(t.numel() for t in state.values()) == 10_561
        assert isinstance(network, ZeroDCEPlusPlus)
        assert_computes(network, state, image)
        assert enhance(image, network).mean() > 1.5 * image.mean()


def test_weights_of_the_other_network_are_refused(tmp_path: Path) -> None:
    torch.save(public_tensors(), tmp_path / "public.pth")
    with pytest.raises(CheckpointError, match=r"public\.pth is not a checkpoint of ZeroDCE: 0 of 14"):
        build_enhancer("zero-dce", tmp_path / "public.pth")
    torch.save({f"e_{k}": v for k, v in ZeroDCE().state_dict().items()}, tmp_path / "first.pth")
    with pytest.raises(CheckpointError, match=r"first\.pth is not a checkpoint of ZeroDCEPlusPlus: 0 of 28"):
        build_enhancer("zero-dce++", tmp_path / "first.pth")


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (12, 25), (37, 59)])
@pytest.mark.parametrize("downscale", [1, 4, 12])
def test_every_pixel_of_any_size_gets_a_curve(size: tuple[int, int], downscale: int) -> None:
    network = ZeroDCEPlusPlus(4, 2, downscale)
    seen: list[tuple[int, ...]] = []
    network.conv1.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    image = torch.rand(2, 3, *size)
    assert network.curve_maps(image).shape == network(image).shape == (2, 3, *size)
    assert set(seen) == {(2, 3, *(-(-n // downscale) for n in size))}


def test_iterations_share_the_curve() -> None:
    """Each iteration with A = 1 squares one minus the value."""
    image = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    result = ZeroDCEPlusPlus(iterations=3).apply_curves(image, torch.ones(1, 3, 6, 5))
    assert torch.allclose(result, 1 - (1 - image) ** 8, atol=1e-6)


def test_every_parameter_gets_a_gradient() -> None:
    network = ZeroDCEPlusPlus().double()
    network.load_state_dict({k.removeprefix("e_"): v for k, v in public_tensors().items()})
    network(0.3 * torch.rand(1, 3, 48, 48, dtype=torch.float64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"iterations": 0}, {"downscale": 0}, {"downscale": 2.5}])
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ZeroDCEPlusPlus(**arguments)
