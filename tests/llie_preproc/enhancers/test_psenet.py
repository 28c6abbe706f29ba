"""``PSENet`` has the published parameters, and with the public weights gives the public outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llie_preproc import build_enhancer
from llie_preproc.enhancers import PSENet


def test_psenet_has_the_published_parameters() -> None:
    blocks = {name: sum(p.numel() for p in block.parameters()) for name, block in PSENet().named_children()}
    assert list(blocks.values()) == [189, 736, 1048, 2864, 3632, 2848, 2848, 723, 363]
    assert sum(blocks.values()) == 15_251


@pytest.mark.parametrize("weights", ["sice", "afifi"])
def test_psenet_reproduces_the_public_outputs(shared_data: Path, weights: str) -> None:
    folder = shared_data / "reference_weights"
    reference = np.load(folder / "psenet_reference_outputs.npz")
    network = build_enhancer("PSENet", folder / f"psenet_{weights}_official.safetensors")
    image = torch.from_numpy(reference["image"]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        assert (network(image)[0] - torch.from_numpy(reference[weights])).abs().max() < 1e-5
        if weights == "sice":
            gamma = torch.from_numpy(reference["sice_gamma"])
            assert (network.gamma_map(image)[0] - gamma).abs().max() < 1e-4


def test_psenets_width_scales_its_parameters() -> None:
    counts = [sum(p.numel() for p in PSENet(width).parameters()) for width in (0.5, 1, 2)]
    assert counts == sorted(counts)
    with pytest.raises(ValueError, match="width"):
        PSENet(0.01)
