"""``discriminators.py``: the networks have the published numbers of parameters, sizes and receptive fields."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.enhancers import CollaBA
from llie_preproc.registry import MODELS
from tests.support.networks import parameter_count
from training.discriminators import PatchDiscriminator, UNetDiscriminator


def influence(network: nn.Module, size: int, row: int, column: int) -> Tensor:
    """Mask ``(H, W)`` of the input pixels that the logit at a place depends on."""
    image = torch.rand(1, 3, size, size, requires_grad=True)
    network(image)[0, 0, row, column].backward()
    return image.grad.abs().sum((0, 1)) > 0


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (dict(type="llie_preproc.UNetDiscriminator"), 4_376_897),
        (dict(type="llie_preproc.PatchDiscriminator"), 2_764_737),
        # pix2pix has 2,768,705 parameters for pairs of pictures; the weights for the second picture are subtracted.
        (dict(type="llie_preproc.PatchDiscriminator", norm="batch"), 2_768_705 - 3 * 64 * 16),
    ],
)
def test_the_number_of_parameters_equals_the_published_one(config: dict, count: int) -> None:
    assert parameter_count(MODELS.build(config)) == count


def test_the_global_discriminator_equals_the_prior_without_its_sigmoid() -> None:
    torch.manual_seed(0)
    network, discriminator = CollaBA().eval(), UNetDiscriminator().eval()
    discriminator.load_state_dict(network.prior.state_dict())
    image = torch.rand(2, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(discriminator(image).sigmoid(), network.attention(image))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("size", "logits"), [((256, 256), (30, 30)), ((70, 70), (6, 6)), ((24, 31), (1, 1))])
def test_patch_logits_have_the_size_of_pix2pix(norm: str, size: tuple[int, int], logits: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert PatchDiscriminator(norm)(torch.empty(2, 3, *size)).shape == (2, 1, *logits)


def test_patch_logits_see_seventy_pixels() -> None:
    torch.manual_seed(0)
    seen = influence(PatchDiscriminator(), 160, 9, 9)
    rows, columns = seen.nonzero().T
    assert rows.max() - rows.min() + 1 == 70
    assert columns.max() - columns.min() + 1 == 70


def test_global_logits_have_one_value_for_each_pixel() -> None:
    torch.manual_seed(0)
    discriminator = UNetDiscriminator().eval()
    assert discriminator(torch.rand(1, 3, 16, 24)).shape == (1, 1, 16, 24)
    seen = influence(discriminator, 128, 64, 64)
    assert seen[60:69, 60:69].all()
    assert not seen[:8].any()


@pytest.mark.parametrize("discriminator", [UNetDiscriminator, PatchDiscriminator])
def test_the_scale_of_weights_matters_only_without_spectral_norm(discriminator: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = discriminator().eval()
    scaled = copy.deepcopy(network)
    inner = [m for m in scaled.modules() if isinstance(m, nn.Conv2d)][1:-1]
    for conv in inner:
        conv.weight.data *= 3
    image = torch.rand(1, 3, 32, 32)
    same = torch.allclose(network(image), scaled(image), atol=1e-5)
    assert same is (discriminator is UNetDiscriminator)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_initial_weights_are_normally_distributed(norm: str) -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(norm)
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.bias is None for conv in convs] == [False, *[norm == "batch"] * 3, False]
    for conv in convs[:-1]:
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert conv.weight.mean().item() == pytest.approx(0, abs=0.002)
        assert conv.bias is None or not conv.bias.any()
    scales = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(scales) == (3 if norm == "batch" else 0)
    assert all(0.015 < scale.std() < 0.025 and abs(scale.mean() - 1) < 0.01 for scale in scales)


@pytest.mark.parametrize("build", [UNetDiscriminator, PatchDiscriminator, lambda: PatchDiscriminator("batch")])
def test_an_adversarial_step_trains_every_parameter_and_the_picture(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = build().train()
    real, false = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32, requires_grad=True)
    sides = (network(real), 1.0), (network(false), 0.0)
    sum(F.binary_cross_entropy_with_logits(y, torch.full_like(y, target)) for y, target in sides).backward()
    assert not [k for k, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert false.grad.abs().sum() > 0
    restored = pickle.loads(pickle.dumps(network)).eval()
    assert torch.equal(restored(real), network.eval()(real))


@pytest.mark.parametrize(
    ("network", "size", "message"), [(UNetDiscriminator, 20, "multiples of 8"), (PatchDiscriminator, 23, "at least 24")]
)
def test_sizes_that_do_not_fit_are_refused(network: type[nn.Module], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=rf"{message}.*\(1, 3, {size}, {size}\)"):
        network()(torch.rand(1, 3, size, size))


def test_other_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="norm must be one of 'none', 'batch'"):
        PatchDiscriminator("instance")
