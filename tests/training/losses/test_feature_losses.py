"""Perceptual and contrastive losses equal torchvision's VGG and closed forms; only the output gets a gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.registry import MODELS
from tests.support.random_pictures import images
from training.feature_encoders import FeatureEncoder, VGGEncoder
from training.losses.contrastive import ContrastiveLoss
from training.losses.perceptual import PerceptualLoss

ENCODERS: dict[str, dict[str, Any]] = {
    "vgg": dict(type="llie_preproc.VGGEncoder", layers=19, width=4),
    "squeezenet": dict(type="llie_preproc.SqueezeNetEncoder", normalisation="torchvision"),
    "clip": dict(
        type="llie_preproc.CLIPEncoder", projection=6, embed_dim=16, depth=2, num_heads=2, img_size=32, patch_size=8
    ),
    "sam": dict(
        type="llie_preproc.SAMEncoder", embed_dim=16, depth=2, num_heads=2, img_size=64, window_size=3, out_chans=8
    ),
    "ram": dict(
        type="llie_preproc.RAMEncoder", image_size=32, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 2)
    ),
}
EXTRAS = {"clip": "timm", "ram": "timm", "sam": "segment_anything"}
COLLABA = dict(stages=["conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"], stage_weights=[0.1, 0.1, 1, 1, 1])


def tiny(name: str) -> FeatureEncoder:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    torch.manual_seed(0)
    return MODELS.build({**ENCODERS[name], "checkpoint": None})


def picture(height: int = 40, width: int = 40, count: int = 2, seed: int = 0) -> Tensor:
    return images(height, width, count, seed)


class Plain(FeatureEncoder):
    """An encoder for closed forms: its stages are 1 and 3 times the picture; its vector is the three channel means."""

    def __init__(self) -> None:
        super().__init__(["once", "thrice"])
        self.freeze(None)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        return {name: image * {"once": 1, "thrice": 3}[name] for name in stages}

    def vector(self, image: Tensor) -> Tensor:
        return image.mean(dim=(2, 3))


def flat(*values: float) -> Tensor:
    """A batch of constant pictures, one for each value."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8).clone()


amounts = st.floats(-1, 2, width=32)


@given(a=amounts, b=amounts, weights=st.tuples(st.floats(0, 4), st.floats(0, 4)).filter(any))
def test_the_perceptual_loss_is_the_weighted_sum_over_stages(a: float, b: float, weights: tuple[float, float]) -> None:
    d = abs(a - b)
    forms = {"l1": (d, 3 * d), "l2": (d * d, 9 * d * d)}
    for distance, (once, thrice) in forms.items():
        loss = PerceptualLoss(Plain(), ["once", "thrice"], weights, distance)
        mean = PerceptualLoss(Plain(), ["once", "thrice"], distance=distance)
        expected = weights[0] * once + weights[1] * thrice
        assert loss(flat(a, a), flat(b, b)).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert mean(flat(a, a), flat(b, b)).item() == pytest.approx((once + thrice) / 2, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_collabas_perceptual_loss_equals_numpy(distance: str) -> None:
    """The loss is CollaBA's Eq. 9 with the released weights, here computed with torchvision's layers."""
    encoder = tiny("vgg")
    output, target = picture(48, 33), picture(48, 33, seed=1)
    table = [c if isinstance(c, str) else c // 16 for c in torchvision.models.vgg.cfgs["E"]]
    network = torchvision.models.vgg.make_layers(table)
    network.load_state_dict({k.removeprefix("features."): v for k, v in encoder.state_dict().items()})
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = 0.0
    for index, weight in zip((2, 7, 16, 25, 34), (0.1, 0.1, 1, 1, 1), strict=True):
        a, b = (
            network[: index + 1](torchvision.transforms.functional.normalize(x, mean, std)).detach().double().numpy()
            for x in (output, target)
        )
        power = np.abs(a - b) ** (1 if distance == "l1" else 2)
        expected += weight * power.sum(axis=(1, 2, 3)).mean() / a[0].size
    loss = PerceptualLoss(encoder, **COLLABA, distance=distance)
    assert loss(output, target).item() == pytest.approx(expected, rel=1e-4)


@given(
    p=amounts, n=amounts, a=amounts, weight=st.floats(0.1, 5), eps=st.sampled_from([1e-7, 1e-2]), shift=st.floats(-1, 1)
)
def test_the_contrastive_loss_is_a_ratio(p: float, n: float, a: float, weight: float, eps: float, shift: float) -> None:
    loss = ContrastiveLoss(Plain(), weight, eps)
    shifted = [flat(x + shift) for x in (a, p, n)]
    exact = [x[0, 0, 0, 0].double().item() for x in shifted]
    if abs(exact[0] - exact[2]) < 1e-3:
        return
    expected = weight * abs(exact[0] - exact[1]) / (abs(exact[0] - exact[2]) + eps)
    assert loss(*shifted).item() == pytest.approx(expected, rel=1e-2, abs=1e-4)


def test_the_contrastive_loss_has_the_expected_values() -> None:
    loss = ContrastiveLoss(Plain())
    assert loss(flat(0.5), flat(0.5), flat(0.1)).item() == 0
    assert loss(flat(0.5), flat(0.6), flat(0.1)).item() == pytest.approx(0.25, rel=1e-4)
    assert loss(flat(0.5), flat(0.7), flat(0.1)).item() == pytest.approx(0.5, rel=1e-4)
    assert loss(flat(0.5), flat(0.6), flat(-0.3)).item() == pytest.approx(0.125, rel=1e-4)
    # The loss is the mean of the pictures' ratios, 0.25 and 1, and not the ratio of the sums.
    both = loss(flat(0.5, 0.5), flat(0.6, 0.8), flat(0.1, 0.2))
    assert both.item() == pytest.approx(0.625, rel=1e-4)
    # The loss is greatest at the dark input; Semi-LLIE's Eq. 4, as printed, would be least there.
    assert loss(flat(0.1), flat(0.6), flat(0.1)).item() > 1e6


def test_the_contrastive_pictures_may_differ_in_size() -> None:
    loss = ContrastiveLoss(tiny("vgg"))
    assert loss(picture(48, 40), picture(48, 40, seed=1), picture(24, 20)).isfinite()


# Number of pictures that each loss takes.
LOSSES = {"perceptual": 2, "contrastive": 3}


def build(kind: str, encoder: FeatureEncoder) -> nn.Module:
    return PerceptualLoss(encoder, encoder.stages, distance="l2") if kind == "perceptual" else ContrastiveLoss(encoder)


@pytest.mark.parametrize("kind", list(LOSSES))
@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("grad", [False, True], ids=["constant", "requiring"])
def test_only_the_output_gets_a_gradient(kind: str, name: str, grad: bool) -> None:
    """The output comes from a network, as in training. The other inputs get no gradient even if they require one."""
    loss = build(kind, tiny(name)).train()
    enhancer = nn.Conv2d(3, 3, 1)
    others = [picture(seed=i).requires_grad_(grad) for i in range(1, LOSSES[kind])]
    loss(enhancer(picture()), *others).backward()
    for p in enhancer.parameters():
        assert p.grad is not None
        assert p.grad.isfinite().all()
        assert (p.grad != 0).all()
    assert all(x.grad is None for x in others)
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())
    assert not any(m.training for m in loss.encoder.modules())


@pytest.mark.parametrize("name", list(ENCODERS))
def test_the_contrastive_gradient_leads_towards_the_teacher(name: str) -> None:
    """A few steps down the gradient bring the student's vector nearer to the teacher's, relative to the dark input."""
    encoder = tiny(name)
    loss = ContrastiveLoss(encoder)
    bright = picture(32, 32, 1)
    teacher, dark = bright, 0.1 * bright
    student = (0.5 * bright).requires_grad_()
    optimiser = torch.optim.Adam([student], lr=4e-3)
    values = []
    for _ in range(4):
        optimiser.zero_grad()
        value = loss(student, teacher, dark)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.97 * values[0]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100))
@pytest.mark.parametrize("kind", list(LOSSES))
def test_two_half_batches_have_the_mean_loss_of_the_whole(kind: str, seed: int) -> None:
    """This holds for the loss and its gradient, so two processes train as one."""
    loss = build(kind, tiny("vgg"))
    images = [picture(32, 32, 4, seed + i) for i in range(LOSSES[kind])]
    images[0].requires_grad_()
    whole = loss(*images)
    halves = [loss(*(x[part] for x in images)) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(halves) / 2, rtol=1e-4, atol=1e-6)
    one, two = (torch.autograd.grad(x, images[0])[0] for x in (whole, sum(halves) / 2))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-7)


def test_a_picture_has_no_perceptual_distance_from_itself() -> None:
    for name in ("vgg", "clip"):
        assert build("perceptual", tiny(name))(picture(), picture()).item() == 0


@pytest.mark.parametrize("kind", list(LOSSES))
def test_mixed_precision_gives_a_float32_loss(kind: str) -> None:
    loss = build(kind, tiny("vgg"))
    images = [picture(seed=i).to(torch.bfloat16) for i in range(LOSSES[kind])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*images)
    assert value.dtype == torch.float32
    assert value.ndim == 0
    assert value.isfinite()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": ["once", "s9"]}, "unknown stages 's9'; Plain has the stages once, thrice"),
        ({"stages": []}, "at least one name"),
        ({"stages": ["once"], "distance": "l3"}, "'l1', 'l2', got 'l3'"),
        ({"stages": ["once", "thrice"], "stage_weights": [1.0]}, "got 1 for 2 stages"),
    ],
)
def test_invalid_arguments_of_the_perceptual_loss_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerceptualLoss(Plain(), **arguments)


def test_invalid_inputs_and_eps_are_refused() -> None:
    perceptual, contrastive = PerceptualLoss(Plain(), ["once"]), ContrastiveLoss(Plain())
    with pytest.raises(ValueError, match=r"the same shape, got \(2, 3, 40, 40\) and \(2, 3, 40, 20\)"):
        perceptual(picture(), picture(40, 20))
    with pytest.raises(ValueError, match="equally many pictures, got 2, 2 and 1"):
        contrastive(picture(), picture(), picture(count=1))
    with pytest.raises(TypeError, match="uint8"):
        perceptual(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="RGB images"):
        contrastive(picture()[:, :1], picture()[:, :1], picture()[:, :1])
    for eps in (0, -1e-3, float("nan")):
        with pytest.raises(ValueError, match="eps must be a number above 0"):
            ContrastiveLoss(Plain(), eps=eps)


def test_losses_of_one_config_share_the_encoder(tmp_path: Path) -> None:
    save_state_dict(VGGEncoder(checkpoint=None, layers=19, width=4).state_dict(), tmp_path / "vgg.safetensors")
    encoder = {**ENCODERS["vgg"], "checkpoint": str(tmp_path / "vgg.safetensors")}
    perceptual = MODELS.build(dict(type="llie_preproc.PerceptualLoss", encoder=encoder, **COLLABA))
    contrastive = MODELS.build(dict(type="llie_preproc.ContrastiveLoss", encoder=encoder, weight=0.5))
    assert perceptual.encoder is contrastive.encoder
    assert contrastive.weight == 0.5
    both = nn.ModuleList([perceptual, contrastive])
    assert len(list(both.parameters())) == 2 * 16


def test_a_deep_copy_of_a_loss_works() -> None:
    loss = build("perceptual", tiny("vgg"))
    twin = copy.deepcopy(loss)
    assert torch.equal(loss(picture(), picture(seed=1)), twin(picture(), picture(seed=1)))
