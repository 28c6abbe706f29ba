"""``llie convert`` keeps the values of public and of own checkpoints, and overwrites only with ``--overwrite``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from llie_preproc import build_enhancer, enhance
from llie_preproc.enhancers import PSENet
from tests.support.command import Run, one_line


def test_converted_public_weights_reproduce_the_public_outputs(llie: Run, tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "reference_weights"
    target = tmp_path / "new" / "psenet.safetensors"
    result = llie("convert", folder / "psenet_sice_official.safetensors", "--out", target, "--enhancer", "PSENet")
    assert result.code == 0
    assert "62 of 62 tensors matched" in result.out
    network = PSENet().eval()
    network.load_state_dict(load_file(target))
    reference = np.load(folder / "psenet_reference_outputs.npz")
    enhanced = enhance(reference["image"].astype(np.float32) / 255, network)
    assert np.abs(enhanced - reference["sice"].transpose(1, 2, 0)).max() < 1e-5


def test_a_training_checkpoint_converts(llie: Run, tmp_path: Path) -> None:
    network = PSENet()
    state = {f"enhancer.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "epoch_3.pth")
    call = ("convert", tmp_path / "epoch_3.pth", "--out", tmp_path / "a.safetensors", "--enhancer", "PSENet")
    assert llie(*call).code == 0
    converted = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(v, converted[k]) for k, v in network.state_dict().items())
    one_line(llie(*call), "a.safetensors", "--overwrite")
    assert llie(*call, "--overwrite").code == 0


def test_wrong_conversions_are_refused(llie: Run, tmp_path: Path, weights: Path) -> None:
    before = weights.read_bytes()
    one_line(llie("convert", weights, "--out", weights, "--enhancer", "PSENet", "--overwrite"), "is an input")
    one_line(llie("convert", weights, "--out", tmp_path / "a.pth", "--enhancer", "PSENet"), "a.pth", ".safetensors")
    one_line(
        llie("convert", weights, "--out", tmp_path / "a.safetensors", "--enhancer", "CLAHE"), "CLAHE has no weights"
    )
    one_line(
        llie("convert", tmp_path / "nowhere.pth", "--out", tmp_path / "a.safetensors", "--enhancer", "PSENet"),
        "nowhere",
    )
    assert weights.read_bytes() == before
    assert not (tmp_path / "a.safetensors").exists()


def test_half_stores_the_nearest_float16_which_loads_as_float32(llie: Run, tmp_path: Path, weights: Path) -> None:
    target = tmp_path / "half.safetensors"
    assert llie("convert", weights, "--out", target, "--enhancer", "PSENet", "--half").code == 0
    exact, half = load_file(weights), load_file(target)
    for name, tensor in exact.items():
        expected = tensor.numpy().astype(np.float16) if tensor.is_floating_point() else tensor.numpy()
        assert np.array_equal(half[name].numpy(), expected)
    loaded = build_enhancer("PSENet", target).state_dict()
    assert all(loaded[name].dtype == exact[name].dtype for name in exact)
    assert target.stat().st_size < 0.7 * weights.stat().st_size


def test_numbers_beyond_float16_are_not_stored_in_half(llie: Run, tmp_path: Path) -> None:
    state = PSENet().state_dict()
    name = next(iter(state))
    state[name] = torch.full_like(state[name], 1e6)
    torch.save(state, tmp_path / "large.pth")
    call = ("convert", tmp_path / "large.pth", "--out", tmp_path / "a.safetensors", "--enhancer", "PSENet")
    one_line(llie(*call, "--half"), name, "float16")
    assert llie(*call).code == 0
