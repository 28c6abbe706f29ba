"""Networks that predict curve maps can predict them on a small picture (``map_side``); checkpointing saves memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data, transform
from torch import Tensor

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import default_weights
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import CurveEnhancer, Enhancer
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.inference import enhance_batch
from llie_preproc.inference_options import InferenceOptions
from llie_preproc.pictures import Picture, read_picture, write_picture
from tests.support.marks import slow_where
from tests.support.networks import SMALL

CURVES = sorted(name for name, kind in enhancer_classes().items() if issubclass(kind, CurveEnhancer))
TRAINABLE = sorted(set(CURVES) - {"AdaptiveGamma"})


def built(name: str, seed: int = 0) -> CurveEnhancer:
    torch.manual_seed(seed)
    network = build_enhancer(name, DEFAULT_WEIGHTS if default_weights(name) else None)
    assert isinstance(network, CurveEnhancer)
    return network


def night(side: int) -> np.ndarray:
    """A darkened photograph, ``(side, 1.5 side, 3)`` in [0, 1]."""
    photograph = transform.resize(data.coffee() / 255, (side, 3 * side // 2), anti_aliasing=True)
    return (0.25 * photograph**1.5).astype(np.float32)


def test_five_enhancers_predict_curves() -> None:
    assert CURVES == ["AdaptiveGamma", "PSENet", "SCI", "ZeroDCE", "ZeroDCEPlusPlus"]


@pytest.mark.parametrize("name", CURVES)
def test_a_picture_within_map_side_is_enhanced_at_full_size(name: str) -> None:
    image = night(40)
    assert np.array_equal(enhance(image, built(name), map_side=60), enhance(image, built(name)))


# Zero-DCE++ computes on so small a picture that padding reaches all of it.
@pytest.mark.parametrize("name", sorted(set(CURVES) - {"ZeroDCEPlusPlus"}))
def test_a_uniform_picture_has_the_same_curve_at_every_size(name: str) -> None:
    """Convolutions see padding only near the border; elsewhere the map is one value, which resampling keeps."""
    image = np.full((128, 192, 3), 0.2, np.float32)
    small, full = (enhance(image, built(name), map_side=side)[40:88, 60:132] for side in (96, None))
    assert np.allclose(small, full, atol=2e-5)
    assert not np.allclose(full, 0.2, atol=1e-4)


@pytest.mark.parametrize("name", ["PSENet", "AdaptiveGamma"])
def test_a_small_map_changes_the_result_of_a_photograph_little(name: str) -> None:
    image = night(200)
    full, small = (enhance(image, built(name), map_side=side) for side in (None, 150))
    error = np.abs(small - full).mean()
    assert 0 < error < 0.1 * np.abs(full - image).mean()


def test_edges_keep_their_place() -> None:
    """The map is applied at full size, so a step of one pixel stays a step of one pixel."""
    image = np.full((96, 144, 3), 0.05, np.float32)
    image[:, 71:] = 0.4
    result = enhance(image, built("PSENet"), map_side=48)
    steps = np.abs(np.diff(result[48, :, 0]))
    assert steps.argmax() == 70
    assert steps[70] > 5 * np.delete(steps, 70).max()


@pytest.mark.parametrize("name", TRAINABLE)
def test_gradients_reach_every_parameter_through_the_small_map(name: str) -> None:
    network = built(name).train()
    image = torch.from_numpy(night(48)).permute(2, 0, 1)
    enhance_batch([image], network, InferenceOptions(map_side=32), clamp=False)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_wrong_uses_of_map_side_are_refused() -> None:
    image = night(40)
    with pytest.raises(ValueError, match="CollaBA has none"):
        enhance(image, build_enhancer("CollaBA", checkpoint=None), map_side=32)
    with pytest.raises(ValueError, match="exclude each other"):
        enhance(image, built("PSENet"), map_side=32, tile=100)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        enhance(image, built("PSENet"), map_side=0)


@pytest.mark.examples(6)
@pytest.mark.parametrize("name", slow_where({"SemiLLIE", "CollaBA"}, [*TRAINABLE, "IAMLUNet", "SemiLLIE", "CollaBA"]))
@pytest.mark.parametrize("sides", [{}, {"map_side": 16}, {"tile": 80}], ids=["whole", "small map", "tiles"])
def test_checkpointing_changes_no_gradient_and_no_statistic(name: str, sides: dict[str, int]) -> None:
    if "map_side" in sides and name not in CURVES:
        pytest.skip(f"{name} predicts no map")
    kept, recomputed = (trained(name, sides, checkpointing) for checkpointing in (False, True))
    for (key, ours), theirs in zip(recomputed.state_dict().items(), kept.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    pairs = zip(recomputed.named_parameters(), kept.parameters(), strict=True)
    # Semi-LLIE's gradient map has fixed kernels, which get no gradient.
    for (key, ours), theirs in ((a, b) for a, b in pairs if b.requires_grad):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6), key


def trained(name: str, sides: dict[str, int], checkpointing: bool) -> Enhancer:
    torch.manual_seed(0)
    network = build_enhancer({"type": name, **SMALL.get(name, {})}, checkpoint=None).train()
    image = torch.from_numpy(night(48)).permute(2, 0, 1)
    options = InferenceOptions(**sides)
    enhance_batch([image], network, options, clamp=False, checkpointing=checkpointing)[0].square().mean().backward()
    return network


@pytest.mark.parametrize("map_side", [None, 24])
def test_checkpointing_keeps_fewer_activations(map_side: int | None) -> None:
    assert saved(True, map_side) < saved(False, map_side) / 10


def saved(checkpointing: bool, map_side: int | None) -> int:
    """Number of bytes of activations that the graph of a network keeps for the backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    image = torch.from_numpy(night(48)).permute(2, 0, 1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        options = InferenceOptions(map_side=map_side)
        enhance_batch([image], built("ZeroDCE"), options, clamp=False, checkpointing=checkpointing)
    return sum(sizes)


def test_the_command_enhances_by_small_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = (255 * night(40)).round().astype(np.uint8)
    write_picture(tmp_path / "night.png", Picture(pixels))
    options = [
        "enhance",
        str(tmp_path / "night.png"),
        "--out",
        str(tmp_path / "bright.png"),
        "--device",
        "cpu",
        "--map-side",
    ]
    assert main([*options, "24"]) == 0
    assert np.array_equal(read_picture(tmp_path / "bright.png").pixels, enhance(pixels, built("PSENet"), map_side=24))
    assert main([*options, "24", "--overwrite", "--enhancer", "CLAHE"]) == 2
    assert "CLAHE has none" in capsys.readouterr().err


def test_the_cache_distinguishes_map_sides(tmp_path: Path) -> None:
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from llie_preproc.detection import Enhance

    image = (255 * night(40)).astype(np.uint8)
    results = [
        Enhance("PSENet", cache_dir=tmp_path, map_side=side)({"img": image.copy()})["img"] for side in (None, 24, 24)
    ]
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[1], results[2])
    assert len(list(tmp_path.rglob("*.npy"))) == 2
