"""``complexity`` counts as many multiply-adds as closed forms and a published figure say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from llie_preproc import build_enhancer
from llie_preproc.complexity import complexity
from llie_preproc.enhancers import CLAHE, Capabilities, Enhancer, PSENet, Upscale
from llie_preproc.enhancers.names import enhancer_classes


class OneLayer(Enhancer):
    def __init__(self, layer: nn.Module, capabilities: Capabilities | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.capabilities = capabilities or Capabilities()

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 20 * 30 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, (3, 5), stride=2, padding=(1, 2)), 10 * 15 * 8 * 3 * 15),
        (nn.Conv2d(3, 6, 3, groups=3, padding=1, bias=False), 20 * 30 * 6 * 9),
        (nn.ConvTranspose2d(3, 4, 2, stride=2), 20 * 30 * 3 * 4 * 4),
        (nn.Linear(30, 7), 3 * 20 * 30 * 7),
        (nn.BatchNorm2d(3), 0),
        (nn.AvgPool2d(2), 0),
    ],
)
def test_single_layers_have_the_count_of_the_closed_form(layer: nn.Module, macs: int) -> None:
    counted = complexity(OneLayer(layer), 20, 30)
    assert counted.macs == macs
    assert counted.parameters == sum(p.numel() for p in layer.parameters())


def test_the_size_is_padded_to_what_the_network_needs() -> None:
    layer = OneLayer(nn.Conv2d(3, 1, 1), Capabilities(size_divisor=8, min_size=16))
    assert complexity(layer, 9, 17).macs == 16 * 24 * 3


def test_psenet_has_the_published_multiply_adds() -> None:
    """Table 3 gives 1.804032 G at 1080x720, of which 0.0117 G are pooling and 0.0218 G interpolation."""
    assert complexity(PSENet(), 720, 1080).macs == pytest.approx(1.804032e9 - 0.0117e9 - 0.0218e9, abs=1e5)


def test_zero_dce_computes_each_weight_once_a_pixel() -> None:
    network = build_enhancer("ZeroDCE", checkpoint=None)
    weights = sum(p.numel() for k, p in network.named_parameters() if k.endswith("weight"))
    assert complexity(network, 31, 47).macs == 31 * 47 * weights


def test_a_custom_operator_is_counted_by_its_formula() -> None:
    @torch.library.custom_op("llie_preproc_tests::counted", mutates_args=())
    def counted(x: Tensor) -> Tensor:
        return x.clone()

    @counted.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    @register_flop_formula(torch.ops.llie_preproc_tests.counted)
    def _(shape: tuple[int, ...], *_: object, **__: object) -> int:
        return 10 * shape[-1] * shape[-2]

    class Counted(Upscale):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(counted(image))

    assert complexity(Counted(), 3, 4).macs == 5 * 3 * 4


def test_computations_outside_of_torch_have_no_count() -> None:
    assert complexity(CLAHE()).macs is None


@pytest.mark.examples(4)
@pytest.mark.parametrize("name", sorted(enhancer_classes()))
def test_every_enhancer_that_pytorch_computes_is_counted(name: str) -> None:
    network = build_enhancer(name, checkpoint=None)
    assert (complexity(network, 48, 80).macs is None) == (network.compile_refusal is not None)


@pytest.mark.parametrize("name", ["IAMLUNet", "PSENet", "ZeroDCE"])
def test_the_count_equals_that_of_the_layers_during_a_run(name: str) -> None:
    network = build_enhancer(name, checkpoint=None)
    counted = complexity(network, 48, 80).macs
    macs: list[int] = []

    def count(layer: nn.Conv2d | nn.ConvTranspose2d, inputs: tuple[Tensor], output: Tensor) -> None:
        pixels = output if isinstance(layer, nn.Conv2d) else inputs[0]
        macs.append(pixels.numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.rand(1, 3, 48, 80))
    assert counted == sum(macs)


def test_counting_does_not_change_the_network() -> None:
    network = PSENet().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    complexity(network, 1000, 1000)
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("size", [(0, 8), (8, -1)])
def test_sizes_must_be_positive(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        complexity(PSENet(), *size)
