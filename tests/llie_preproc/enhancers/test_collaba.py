"""``CollaBA`` has the published size, computes torch's spectral norm and the paper's equations, and can be exported."""

from __future__ import annotations

import copy
import functools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from llie_preproc.enhancers import CollaBA, collaba
from tests.support.networks import parameter_count
from tests.support.random_pictures import dark_images


def on_meta(**arguments: object) -> CollaBA:
    with torch.device("meta"):
        return CollaBA(**arguments).eval()


def giga_macs(network: nn.Module) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 128, 128, device="meta"))
    return counter.get_total_flops() / 2e9


@functools.cache
def built(scale: int = 2) -> CollaBA:
    torch.manual_seed(0)
    return CollaBA(scale).eval()


# Published figures.


@pytest.mark.parametrize(("scale", "condition", "first"), [(2, 28_880, 8_640), (4, 26_720, 2_160)])
def test_blocks_have_the_parameters_of_the_public_code(scale: int, condition: int, first: int) -> None:
    network = on_meta(scale=scale)
    assert parameter_count(network.prior) == 4_376_897
    assert parameter_count(network.condition) == condition
    assert parameter_count(network.first) == first
    assert [parameter_count(group) for group in network.groups] == [2_473_000, 1_515_400, 1_036_600, 1_036_600]
    group = network.groups[0]
    assert parameter_count(group.modulate[0]) == 25_920
    assert parameter_count(group.blocks[0]) == 1_181_780
    assert parameter_count(group.blocks[0].blocks[0]) == 128_080
    assert parameter_count(group.blocks[0].select_top) == 2_400


# The public totals include a convolution of 57,680 parameters that nothing uses.
@pytest.mark.examples(1)
@pytest.mark.parametrize(("scale", "count", "macs"), [(2, 10_651_217, 21.03), (4, 10_642_577, 64.55)])
def test_public_upscaler_gives_the_public_totals(scale: int, count: int, macs: float) -> None:
    network = on_meta(scale=scale, upscaler="nearest")
    assert parameter_count(network) == count - 57_680
    assert giga_macs(network) == pytest.approx(macs, rel=1e-3)


# The paper says 13.453 and 13.625 M, and 22.059 and 66.872 GMACs.
@pytest.mark.examples(1)
@pytest.mark.parametrize(("scale", "count", "macs"), [(2, 10_998_977, 21.562), (4, 10_990_337, 66.662)])
def test_the_network_has_the_documented_totals(scale: int, count: int, macs: float) -> None:
    network = on_meta(scale=scale)
    assert parameter_count(network) == count
    assert giga_macs(network) == pytest.approx(macs, abs=1e-3)


# Switches of Table 5.


@pytest.mark.examples(3)
@pytest.mark.parametrize("modulation", ["cft", "concat", None])
@pytest.mark.parametrize("upscaler", ["msmu", "bilinear", "nearest"])
def test_every_switch_changes_what_it_names(modulation: str | None, upscaler: str) -> None:
    full, network = on_meta(), CollaBA(modulation=modulation, upscaler=upscaler)
    modulations = {"cft": 0, "concat": 8 * (2 * 80 * 80 - 25_920)}
    modulations[None] = -8 * 25_920 - parameter_count(full.prior) - parameter_count(full.condition)
    replaced = 0 if upscaler == "msmu" else 117_520 - parameter_count(full.upscaler)
    assert parameter_count(network) - parameter_count(full) == modulations[modulation] + replaced
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 32, 48)


@pytest.mark.examples(1)
@pytest.mark.parametrize("arguments", [{"modulation": "concat"}, {"modulation": None}, {"upscaler": "bilinear"}])
def test_gradients_reach_every_parameter_of_the_ablations(arguments: dict) -> None:
    torch.manual_seed(0)
    network = CollaBA(**arguments).train()
    (network(dark_images(16, 24)) - torch.rand(1, 3, 32, 48)).square().sum().backward()
    assert not [k for k, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("arguments", [{"scale": 3}, {"modulation": "add"}, {"upscaler": "bicubic"}])
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be one of"):
        CollaBA(**arguments)


@pytest.mark.parametrize("modulation", ["cft", None])
def test_sizes_that_are_no_multiples_of_eight_are_refused(modulation: str | None) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8.*\(1, 3, 16, 20\)"):
        on_meta(modulation=modulation)(torch.empty(1, 3, 16, 20, device="meta"))


# Attention.


@pytest.mark.parametrize("scale", [2, 4])
def test_the_attention_is_the_one_used_for_the_result(scale: int) -> None:
    network, image = built(scale), dark_images(24, 32)
    with torch.no_grad():
        enhanced, attention = network.enhance_with_attention(image)
        assert torch.equal(attention, network.attention(image))
        assert torch.equal(enhanced, network(image))
    assert attention.shape == (1, 1, 24, 32)
    assert 0 < attention.min() <= attention.max() < 1


def test_a_loss_on_the_attention_trains_only_the_prior() -> None:
    torch.manual_seed(0)
    network = CollaBA().train()
    network.enhance_with_attention(dark_images(16, 16))[1].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.prior.parameters())
    assert {k.split(".")[0] for k, p in network.named_parameters() if p.grad is not None} == {"prior"}


def test_without_a_prior_there_is_no_attention() -> None:
    network = on_meta(modulation=None)
    for method in (network.attention, network.enhance_with_attention):
        with pytest.raises(ValueError, match="modulation=None"):
            method(torch.empty(1, 3, 16, 16, device="meta"))


# Blocks.


def test_one_pixel_changes_the_whole_result() -> None:
    """Context blocks and selections pool over the whole image, far beyond what the convolutions reach."""
    network = copy.deepcopy(built()).double()
    image = dark_images(128, 16).double()
    changed = image.clone()
    changed[..., 0, 0] += 0.5
    with torch.no_grad():
        difference = (network(changed) - network(image)).abs()
    assert difference[..., -16:, :].min() > 0


def test_a_context_block_pools_by_softmax() -> None:
    torch.manual_seed(0)
    block = collaba._ContextBlock(8, groups=2)
    x = torch.randn(2, 8, 5, 6)
    y = block.conv2(F.leaky_relu(block.conv1(x), 0.2))
    mask = block.mask(y).exp()
    pooled = (y * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    context = block.context2(F.leaky_relu(block.context1(pooled), 0.2))
    assert torch.allclose(block(x), F.leaky_relu(y + context, 0.2) + x, atol=1e-6)


@pytest.mark.parametrize("branches", [2, 3])
def test_selection_weighs_each_channel_to_one(branches: int) -> None:
    torch.manual_seed(0)
    selection = collaba._Selection(16, branches)
    features = [torch.randn(2, 16, 4 * 2**i, 4) for i in range(branches)]
    weights = selection(features)
    assert torch.allclose(torch.stack(weights).sum(0), torch.ones(2, 16, 1, 1))
    same = torch.randn(1, 16, 3, 3)
    assert torch.allclose(collaba._fuse(collaba._Selection(16, 2), same, same), same, atol=1e-6)


def test_the_feature_transform_scales_around_one() -> None:
    transform = collaba._FeatureTransform(8)
    for parameter in transform.parameters():
        nn.init.zeros_(parameter)
    transform.scale[2].bias.data.fill_(0.5)
    transform.shift[2].bias.data.fill_(-2)
    x, prior = torch.randn(1, 8, 3, 3), torch.randn(1, 8, 3, 3)
    assert torch.allclose(transform(x, prior), 1.5 * x - 2)


def literal_msmu(upscaler: nn.Module, feature: Tensor) -> Tensor:
    """The paper's upscaler MSMU, written as Eq. 5, Eq. 6 and the last equation of section 3.2.4 say."""
    up = functools.partial(F.interpolate, align_corners=False)
    sizes = {1: feature}
    for size, conv in zip((2, 4), upscaler.shuffles, strict=True):
        sizes[size] = F.pixel_shuffle(F.leaky_relu(conv(sizes[size // 2]), 0.2), 2)
    outputs = []
    for target, selection in zip((1, 2, 4), upscaler.selections, strict=True):
        branches = []
        for size, feature in sizes.items():
            while size > target:
                size //= 2
                feature = upscaler.downs[0 if size == 2 else 1](feature)
            branches.append(up(feature, scale_factor=target // size, mode="bilinear") if size < target else feature)
        pooled = sum(branches).mean((2, 3), keepdim=True)
        squeezed = F.leaky_relu(selection.squeeze(pooled), 0.2)
        weights = torch.softmax(torch.stack([expand(squeezed) for expand in selection.expand]), 0)
        gathered = sum(weight * branch for weight, branch in zip(weights, branches, strict=True))
        outputs.append(up(gathered, scale_factor=4 // target, mode="bicubic") if target < 4 else gathered)
    return upscaler.merge(torch.cat(outputs, 1))


def test_msmu_computes_the_papers_equations() -> None:
    torch.manual_seed(0)
    upscaler = collaba._MergingUpscaler(16).double()
    feature = torch.randn(2, 16, 6, 5, dtype=torch.float64)
    assert torch.allclose(upscaler(feature), literal_msmu(upscaler, feature), atol=1e-12)


def test_msmu_of_only_its_first_branch_is_bicubic() -> None:
    """If only branch 1 is selected and merged, MSMU is the bicubic enlargement of one 1x1 convolution."""
    torch.manual_seed(0)
    upscaler = collaba._MergingUpscaler(8)
    upscaler.selections[0].forward = lambda levels: [torch.full((1, 8, 1, 1), float(i == 0)) for i in range(3)]
    upscaler.merge.weight.data[:, 8:] = 0
    feature = torch.randn(1, 8, 5, 7)
    projected = F.conv2d(feature, upscaler.merge.weight[:, :8])
    expected = F.interpolate(projected, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.allclose(upscaler(feature), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_body_sees_every_pixel_once(scale: int) -> None:
    """The first convolution's input shuffles back to the whole picture, for both scales."""
    network, image, seen = built(scale), dark_images(16, 24), []
    handle = network.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(image)
    handle.remove()
    assert seen[0].shape[-1] * 4 == 24 * scale
    assert torch.equal(F.pixel_shuffle(seen[0], 4 // scale), image)


# Spectral norm.


def test_spectral_conv_equals_torchs_spectral_norm() -> None:
    torch.manual_seed(0)
    ours = collaba.SpectralConv2d(6, 8, 3).train()
    plain = nn.Conv2d(6, 8, 3, padding=1, bias=False)
    plain.weight.data.copy_(ours.weight)
    theirs = parametrizations.spectral_norm(plain).train()
    theirs.parametrizations.weight[0]._v.copy_(F.normalize(ours.u @ ours.weight.detach().flatten(1), dim=0))
    x = torch.randn(2, 6, 7, 7)
    for _ in range(2):
        expected, result = theirs(x), ours(x)
        assert torch.allclose(result, expected, atol=1e-6)
    expected.square().sum().backward()
    result.square().sum().backward()
    assert torch.allclose(ours.weight.grad, theirs.parametrizations.weight.original.grad, atol=1e-4)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-6)


def test_spectral_norm_converges_in_training_and_is_fixed_in_evaluation() -> None:
    torch.manual_seed(0)
    conv = collaba.SpectralConv2d(4, 8, 3).train()
    x = torch.randn(1, 4, 5, 5)
    for _ in range(200):
        conv(x)
    largest = torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2)
    assert torch.allclose(conv._singular_value(), largest, rtol=1e-5)
    conv.eval()
    state = conv.u.clone()
    assert torch.equal(conv(x), conv(x))
    assert torch.equal(conv.u, state)


def test_two_training_passes_may_come_before_one_backward() -> None:
    """A discriminator sees a real and a false picture before the backward pass of both losses."""
    conv = collaba.SpectralConv2d(3, 4, 3).train()
    (conv(torch.randn(1, 3, 4, 4)).sum() + conv(torch.randn(1, 3, 4, 4)).sum()).backward()
    assert torch.isfinite(conv.weight.grad).all()


# Copies and exports.


def test_copies_after_a_training_step_agree() -> None:
    torch.manual_seed(0)
    network = CollaBA().train()
    network(dark_images(16, 16)).square().sum().backward()
    loaded = CollaBA()
    loaded.load_state_dict(network.state_dict())
    image = dark_images(24, 16, seed=1)
    with torch.no_grad():
        expected = network.eval()(image)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), loaded.eval()):
            assert torch.equal(other(image), expected)


@pytest.mark.slow
def test_the_network_compiles_as_one_graph() -> None:
    network, image = built(), dark_images(16, 24)
    with torch.no_grad():
        assert torch.allclose(torch.compile(network, backend="eager", fullgraph=True)(image), network(image), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_onnx_export_takes_any_size(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network, path = built(), str(tmp_path / "collaba.onnx")
    axes = {name: {2: "height", 3: "width"} for name in ("image", "enhanced")}
    torch.onnx.export(
        network, (dark_images(16, 24),), path, opset_version=17, dynamo=False,
        input_names=["image"], output_names=["enhanced"], dynamic_axes=axes,
    )  # fmt: skip
    session = runtime.InferenceSession(path)
    for image in (dark_images(16, 24), dark_images(40, 32, seed=1)):
        (enhanced,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            assert np.allclose(enhanced, network(image).numpy(), atol=1e-5)
