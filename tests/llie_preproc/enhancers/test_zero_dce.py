"""``ZeroDCE`` with its public weights gives what numpy computes, and its curves have their closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from llie_preproc import build_enhancer, enhance
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import ZeroDCE
from llie_preproc.pictures import read_picture
from tests.support.numpy_layers import conv2d, zero_dce_curves


def recomputed(weights: dict[str, np.ndarray], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Result and curves r of the public network on ``(3, H, W)``, computed from its weight file's tensors by name."""

    def layer(number: int, *inputs: np.ndarray) -> np.ndarray:
        name = f"e_conv{number}"
        return conv2d(np.concatenate(inputs), weights[f"{name}.weight"], weights[f"{name}.bias"])

    curves = zero_dce_curves(layer, image)
    for r in np.split(curves, 8):
        image = image + r * (image**2 - image)
    return image, curves


def test_converted_public_weights_compute_the_public_network(shared_data: Path, tmp_path: Path) -> None:
    source, target = shared_data / "reference_weights" / "zero_dce_official.safetensors", tmp_path / "z.safetensors"
    assert main(["convert", str(source), "--out", str(target), "--enhancer", "ZeroDCE"]) == 0
    network = build_enhancer("ZeroDCE", target)
    weights = load_file(source)
    assert sum(p.numel() for p in network.parameters()) == sum(w.size for w in weights.values()) == 79_416
    image = read_picture(shared_data / "darkface_samples" / "1482.png").pixels[:64, :80].astype(np.float32) / 255
    expected, curves = recomputed(weights, image.transpose(2, 0, 1).astype(np.float64))
    assert expected.mean() > 1.5 * image.mean()
    assert np.abs(enhance(image, network).transpose(2, 0, 1) - expected).max() < 1e-5
    with torch.no_grad():
        maps = network.curve_maps(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    assert np.abs(maps.numpy() + curves).max() < 1e-5


def test_full_curves_are_powers() -> None:
    """Each iteration with A = 1 squares one minus the value; each iteration with A = -1 squares the value."""
    network = ZeroDCE(iterations=3)
    image = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    full = torch.ones(1, 9, 6, 5)
    assert torch.allclose(network.apply_curves(image, full), 1 - (1 - image) ** 8, atol=1e-6)
    assert torch.allclose(network.apply_curves(image, -full), image**8, atol=1e-6)
    first = torch.cat([full[:, :3], 0 * full[:, 3:]], dim=1)
    assert torch.allclose(network.apply_curves(image, first), 1 - (1 - image) ** 2, atol=1e-6)


@given(curves=hnp.arrays(np.float32, (24,), elements=st.floats(-1, 1, width=32)))
def test_curves_are_monotone_and_keep_the_range(curves: np.ndarray) -> None:
    ramp = torch.linspace(0, 1, 50).expand(1, 3, 1, 50)
    maps = torch.from_numpy(curves).reshape(1, 24, 1, 1).expand(1, 24, 1, 50)
    result = ZeroDCE().apply_curves(ramp, maps)
    assert result[..., 0].abs().max() == 0
    assert (result[..., -1] - 1).abs().max() == 0
    assert result.diff(dim=-1).min() >= -1e-6


def test_the_curves_at_a_pixel_depend_on_pixels_as_far_as_declared() -> None:
    network = ZeroDCE(channels=8).double()
    image = torch.rand(1, 3, 21, 21, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.curve_maps(image)[0, :, 10, 10].sum(), image)
    reached = gradient[0].abs().sum(0).nonzero()
    halo = network.capabilities.halo
    assert reached.min(0).values.tolist() == [10 - halo] * 2
    assert reached.max(0).values.tolist() == [10 + halo] * 2


def test_a_new_network_is_close_to_the_identity() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert (ZeroDCE()(image) - image).abs().max() < 0.05


@pytest.mark.parametrize("iterations", [1, 5])
def test_there_is_a_curve_for_each_channel_and_iteration(iterations: int) -> None:
    assert ZeroDCE(4, iterations).curve_maps(torch.rand(2, 3, 5, 7)).shape == (2, 3 * iterations, 5, 7)


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"iterations": 0}])
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ZeroDCE(**arguments)
