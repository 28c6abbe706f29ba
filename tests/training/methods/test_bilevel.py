"""Bi-level adversarial training: Eq. 17 against explicit Hessians, who gets which gradient, and the shipped configs."""

from __future__ import annotations

import copy
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.enhancers.base import Capabilities, Enhancer
from llie_preproc.enhancers.collaba import SpectralConv2d
from llie_preproc.registry import MODELS
from tests.support.ablations import ablation_rows
from tests.support.configs import read_config
from tests.support.processes import Programs
from training.discriminators import PatchDiscriminator, UNetDiscriminator
from training.hooks import read_run
from training.losses.perceptual import PerceptualLoss
from training.methods.bilevel import BilevelAdversarial, best_response_ratio
from training.optim import AutocastOptimWrapper, MethodOptimWrapperConstructor

PIXEL = dict(pixel=dict(type="llie_preproc.L1Loss"))
PUBLISHED = {
    "unet": dict(type="llie_preproc.UNetDiscriminator"),
    "patch": dict(type="llie_preproc.PatchDiscriminator"),
}
SMALL = {"unet": dict(type="llie_preproc.TestJudge"), "patch": dict(type="llie_preproc.TestJudge")}


@MODELS.register_module(name="TestJudge", force=True)
class Judge(nn.Sequential):
    """A discriminator with what makes the published ones awkward: spectral norm, in-place activations, biases."""

    def __init__(self) -> None:
        act = nn.LeakyReLU(0.2, inplace=True)
        super().__init__(nn.Conv2d(3, 8, 3), act, SpectralConv2d(8, 16, 4, stride=2), act, nn.Conv2d(16, 1, 1))


PERCEPTUAL = dict(
    type="llie_preproc.PerceptualLoss",
    encoder=dict(type="llie_preproc.VGGEncoder", layers=19, width=4, checkpoint=None),
    stages=("conv1_2", "conv3_4"),
    loss_weight=1.2,
)
LOSSES = PIXEL | dict(perceptual=PERCEPTUAL)


def method(enhancer: object = "ZeroDCE", losses: dict | None = None, **options: object) -> BilevelAdversarial:
    torch.manual_seed(0)
    options = {"discriminators": SMALL, "illumination_weight": 0, **options}
    return BilevelAdversarial(enhancer, PIXEL if losses is None else losses, **options).train()


def batch(size: int = 32, scale: int = 1, count: int = 2, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(count):
        normal = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        target = normal.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        samples.append(BaseDataElement(target=target, target_x1=normal))
    return {"inputs": [sample.target_x1 // 4 for sample in samples], "data_samples": samples}


def loss(model: BilevelAdversarial, data: dict) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(data, True), mode="loss")


def optimiser(model: BilevelAdversarial, part: dict | None = None, **parts: dict) -> OptimWrapperDict:
    part = part or dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
    config = {name: parts.get(name, part) for name in model.optimised()}
    return MethodOptimWrapperConstructor(config)(model)


def changed(before: dict[str, Tensor], module: nn.Module) -> bool:
    return any(not torch.equal(before[k], v) for k, v in module.named_parameters())


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.named_parameters()}


@settings(max_examples=60, deadline=None)
@given(
    phi=st.sampled_from([F.softplus, lambda u: 0.5 * u**2, torch.exp, lambda u: F.softplus(-u) ** 2]),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 10_000),
)
def test_equation_17_is_the_hessian_product_where_the_outer_products_are_exact(
    phi: Callable[[Tensor], Tensor], sizes: tuple[int, int], seed: int
) -> None:
    """L_adv = phi(a.w + h(s)): all its second derivatives are multiples, by phi'', of outer products of gradients.

    With h nonlinear, d2 L_adv / ds2 is not; Eq. 13 to 15 do not take it.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    m, n = sizes
    a, b, c, d, w, s = draw(m), draw(n), draw(n, n), draw(m), draw(m), draw(n)

    def adversarial(w: Tensor, s: Tensor) -> Tensor:
        return phi(a @ w + b @ torch.tanh(c @ s))

    def total(w: Tensor, s: Tensor) -> Tensor:
        return w.sum() * s.sin().sum() + (w**2).sum() + (s**3).sum() + d @ w.exp()

    w_grad, s_grad = w.clone().requires_grad_(), s.clone().requires_grad_()
    adv_w, adv_s = torch.autograd.grad(adversarial(w_grad, s_grad), (w_grad, s_grad))
    (total_w,) = torch.autograd.grad(total(w_grad, s_grad), (w_grad,))
    (h_ww, h_ws), _ = hessian(adversarial, (w, s))
    # Eq. 15. The Hessian has rank one: its inverse is taken where it has one.
    b_solution = -torch.linalg.pinv(h_ww, rtol=1e-9) @ total_w
    expected = h_ws.T @ b_solution
    result = -best_response_ratio([adv_w], [total_w]) * adv_s
    assert torch.allclose(result, expected, rtol=1e-6, atol=1e-9 * (1 + expected.abs().max()))


def test_equation_17_is_the_derivative_through_the_best_response() -> None:
    """The follower solves L_adv = (a.w + h(s))^2 / 2 exactly, and the total derivative is taken through its answer."""
    torch.manual_seed(3)
    a, b, slope, start = (torch.randn(4, dtype=torch.float64) for _ in range(4))
    s = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def response(s: Tensor) -> Tensor:
        return start - a * (a @ start + b @ s.sin()) / (a @ a)

    direct = (s**2).sum()
    (through,) = torch.autograd.grad(direct + slope @ response(s), (s,))
    (alone,) = torch.autograd.grad((s**2).sum(), (s,))
    # Eq. 17 wants the follower near its optimum: at it both gradients of L_adv are zero.
    w = (response(s) + 1e-4 * a).detach().requires_grad_()
    adv_w, adv_s = torch.autograd.grad(0.5 * (a @ w + b @ s.sin()) ** 2, (w, s))
    assert torch.allclose(alone - best_response_ratio([adv_w], [slope]) * adv_s, through, rtol=1e-9)


class _Gated(nn.Module):
    """A discriminator whose parameters count for pictures that are not black: the logit is ``a.w + mean``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
        self.a = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)

    def forward(self, image: Tensor) -> Tensor:
        logit = image.double().mean() + (image.mean() > 0) * (self.a @ self.w)
        return logit.reshape(1, 1, 1, 1)


class _Curved(Enhancer):
    """``image * exp(g) + sin(o)``."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor([0.7, 0.4], dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.s[0].exp() + self.s[1].sin()


def test_a_step_adds_the_explicit_best_response() -> None:
    """The whole iteration on a problem where Eq. 16 is exact: one logit, linear in w, and black references."""
    model = method(_Curved(), {}, discriminators={"unet": SMALL["unet"]}, adversarial_weight=2.0, max_ratio=math.inf)
    model.discriminators["unet"] = gated = _Gated()
    data = batch()
    for sample in data["data_samples"]:
        sample.target = torch.zeros_like(sample.target)
    mean = model.data_preprocessor(data, True)["inputs"].double().mean()
    before = model.enhancer.s.detach().clone()
    model.train_step(data, optimiser(model))
    w = gated.w.detach()

    def adversarial(w: Tensor, s: Tensor) -> Tensor:
        return F.softplus(gated.a @ w + mean * s[0].exp() + s[1].sin())

    def total(w: Tensor, s: Tensor) -> Tensor:
        return 0.5 * 2.0 * F.softplus(-(gated.a @ w + mean * s[0].exp() + s[1].sin()))

    w_grad, s_grad = w.clone().requires_grad_(), before.clone().requires_grad_()
    total_w, total_s = torch.autograd.grad(total(w_grad, s_grad), (w_grad, s_grad))
    (h_ww, h_ws), _ = hessian(adversarial, (w, before))
    best_response = -h_ws.T @ torch.linalg.pinv(h_ww, rtol=1e-9) @ total_w
    assert best_response.abs().max() > 0.01
    assert torch.allclose(before - 0.01 * (total_s + best_response), model.enhancer.s.detach(), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.01, 100).flatmap(lambda x: st.sampled_from([x, -x])),
    bound=st.floats(0.01, 2),
)
def test_the_ratio_is_a_projection(seed: int, scale: float, bound: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (), (4,)]
    adv, total = ([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2))
    flat_adv, flat_total = (torch.cat([g.flatten() for g in grads]).numpy() for grads in (adv, total))
    expected = flat_adv @ flat_total / (flat_adv @ flat_adv)
    assert best_response_ratio(adv, total).item() == pytest.approx(expected, rel=1e-9)
    assert best_response_ratio(adv, [scale * g for g in adv]).item() == pytest.approx(scale, rel=1e-9)
    # G_BR = -ratio * grad_s L_adv does not depend on the scale or the sign of L_adv.
    assert scale * best_response_ratio([scale * g for g in adv], total).item() == pytest.approx(expected, rel=1e-9)
    assert best_response_ratio(adv, total, bound).item() == pytest.approx(max(-bound, min(bound, expected)), rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_ratio_is_zero_where_it_is_undefined(bad: float) -> None:
    good, zero, wrong = torch.ones(3), torch.zeros(3), torch.tensor([bad, 1.0, 1.0])
    assert best_response_ratio([zero], [good]) == 0
    assert best_response_ratio([wrong], [good]) == 0
    assert best_response_ratio([good], [wrong]) == 0
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        best_response_ratio([good], [good[:2]])
    with pytest.raises(ValueError, match="same parameters"):
        best_response_ratio([], [])


def test_the_best_response_changes_the_update() -> None:
    updated = []
    for bia in (True, False):
        model = method(bia=bia)
        log = model.train_step(batch(), optimiser(model))
        assert ("best_response" in log) == bia
        updated.append(torch.cat([p.detach().flatten() for p in model.enhancer.parameters()]))
    assert not torch.equal(*updated)
    assert abs(log["loss"].item()) > 0


def test_the_gradient_of_an_attached_fake_is_not_zero_and_of_a_detached_is() -> None:
    model, data = method(), batch()
    target = torch.stack([sample.target for sample in data["data_samples"]]).float() / 255
    output = model.enhancer(model.data_preprocessor(data, True)["inputs"])
    parameters = list(model.enhancer.parameters())
    sums = []
    for fake in (output, output.detach()):
        loss = model._adversarial_loss(target, model._judged(fake))
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        sums.append(sum(0 if g is None else g.abs().sum().item() for g in grads))
    assert sums[0] > 0
    assert sums[1] == 0


class _Attentive(Enhancer):
    """A small network of scale 2 with an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = Capabilities(scale=2)
        self.prior, self.conv = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(4, 12, 3, padding=1)

    def enhance_with_attention(self, image: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.prior(image).sigmoid()
        return F.pixel_shuffle(self.conv(torch.cat([image, attention], 1)), 2), attention

    def forward(self, image: Tensor) -> Tensor:
        return self.enhance_with_attention(image)[0]


TERMS = ("pixel", "perceptual", "illumination", "attention_tv", "adversarial")


def attentive(**options: object) -> BilevelAdversarial:
    torch.manual_seed(0)
    return method(_Attentive(), LOSSES, illumination_weight=1, attention_tv_weight=1, **options)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_reaches_the_enhancer_and_its_weight_and_no_discriminator(term: str) -> None:
    model = attentive()
    terms = loss(model, batch(scale=2))
    terms[f"loss_{term}"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.enhancer.parameters())
    assert {name for name, rho in model.weights.rho.items() if rho.grad is not None} == {term}
    assert model.weights.rho[term].grad.abs() > 0
    assert all(p.grad is None for p in model.discriminators.parameters())
    assert all(p.grad is None for p in model.losses.parameters())
    only_prior = term in ("illumination", "attention_tv")
    assert (model.enhancer.conv.weight.grad is None) == only_prior


def test_the_loss_is_equation_11() -> None:
    model, data = attentive(), batch(scale=2)
    with torch.no_grad():
        for i, rho in enumerate(model.weights.rho.values()):
            rho.fill_(0.6 + 0.3 * i)
    copied = copy.deepcopy(model)
    copied.weights = None
    learned, fixed = (loss(m, data) for m in (model, copied))
    expected = 0.0
    for name in TERMS:
        square = model.weights.rho[name].item() ** 2
        expected += fixed[f"loss_{name}"].item() / (2 * square) + math.log(1 + square)
    total, _ = BaseModel.parse_losses(model, learned)
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_steps_train_their_own_parameters() -> None:
    model = attentive(ema=0.9)
    wrappers = optimiser(model)
    records = []
    for name, part in (("enhancer", model.enhancer), ("discriminator", model.discriminators)):
        others = model.discriminators if name == "enhancer" else model.optimised()["enhancer"]
        step = wrappers[name].step

        def recorded(step=step, part=part, others=others, name=name) -> None:
            before = snapshot(others)
            assert all(p.grad is None or not p.grad.any() for p in others.parameters())
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
            step()
            assert not changed(before, others)
            records.append(name)

        wrappers[name].step = recorded
    before = snapshot(model)
    log = model.train_step(batch(scale=2), wrappers)
    assert records == ["discriminator", "enhancer"]
    assert all(not torch.equal(before[k], p) for k, p in model.named_parameters() if p.requires_grad)
    assert all(torch.isfinite(value) for value in log.values())
    old = before["enhancer.conv.weight"]
    assert torch.allclose(model.average.conv.weight, 0.9 * old + 0.1 * model.enhancer.conv.weight, atol=1e-7)


def test_the_references_of_the_losses_are_sharpened_and_those_of_the_discriminators_are_not() -> None:
    data, seen = batch(64), {}
    data["data_samples"][0].target[:, :, :20] = 200
    for sharpen in (True, False):
        model = method(sharpen_target=sharpen, bia=False)
        model.losses["pixel"].register_forward_pre_hook(lambda _, args: seen.update(pixel=args[1]))
        judged = []
        model.discriminators["patch"].register_forward_pre_hook(lambda _, args, kept=judged: kept.append(args[0]))
        model.train_step(data, optimiser(model))
        target = torch.stack([sample.target for sample in data["data_samples"]]).float() / 255
        assert torch.equal(seen["pixel"], target) != sharpen
        assert any(torch.equal(picture, target) for picture in judged)


def test_the_enhancer_steps_at_its_interval_and_resumes_there() -> None:
    model, data = method(enhancer_interval=3), batch()
    wrappers, steps = optimiser(model), []
    for _ in range(4):
        before, judges = snapshot(model.enhancer), snapshot(model.discriminators)
        log = model.train_step(data, wrappers)
        steps.append(changed(before, model.enhancer))
        assert ("loss" in log) == steps[-1]
        assert changed(judges, model.discriminators)
    assert steps == [True, False, False, True]
    resumed = method(enhancer_interval=3)
    resumed.load_training_state(model.training_state())
    before = snapshot(resumed.enhancer)
    resumed.train_step(data, optimiser(resumed))
    assert not changed(before, resumed.enhancer)


def test_equal_seeds_train_equal_weights() -> None:
    states = []
    for _ in range(2):
        model = attentive()
        wrappers = optimiser(model, dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-3)))
        for seed in range(2):
            model.train_step(batch(scale=2, seed=seed), wrappers)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_mixed_precision_is_finite_and_near() -> None:
    ratios = []
    for kind in ("OptimWrapper", "llie_preproc.AutocastOptimWrapper"):
        model = attentive()
        wrappers = optimiser(model, dict(type=kind, optimizer=dict(type="Adam", lr=1e-3)))
        assert isinstance(wrappers["enhancer"], AutocastOptimWrapper) == ("Autocast" in kind)
        for _ in range(2):
            log = model.train_step(batch(scale=2), wrappers)
        assert all(torch.isfinite(value) for value in log.values())
        assert all(p.isfinite().all() for p in model.parameters())
        ratios.append(log["best_response"].item())
    assert ratios[0] == pytest.approx(ratios[1], rel=0.2)


@pytest.mark.further
def test_collaba_itself_takes_a_step() -> None:
    options = dict(illumination_weight=1, attention_tv_weight=1, discriminators=PUBLISHED, ema=0.999)
    model = method("CollaBA", LOSSES, **options)
    assert isinstance(model.losses["perceptual"], PerceptualLoss)
    assert isinstance(model.discriminators["unet"], UNetDiscriminator)
    assert isinstance(model.discriminators["patch"], PatchDiscriminator)
    before = snapshot(model)
    log = model.train_step(batch(scale=2, count=1), optimiser(model))
    assert {f"loss_{name}" for name in TERMS} <= set(log)
    assert all(torch.isfinite(value) for value in log.values())
    still = [k for k, p in model.named_parameters() if p.requires_grad and torch.equal(before[k], p)]
    assert still == []


def trained(rank: int, world: int, folder: str) -> None:
    """A few steps on this rank's share of eight samples, dealt out as the samplers do; writes weights and log."""
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo")
    norms = {"unet": SMALL["unet"], "patch": dict(type="llie_preproc.PatchDiscriminator", norm="batch")}
    model = attentive(discriminators=norms, ema=0.9)
    wrappers = optimiser(model)
    for seed in range(3):
        data = batch(16, scale=2, count=8, seed=seed)
        log = model.train_step({k: v[rank::world] for k, v in data.items()}, wrappers)
    torch.save((model.state_dict(), log), f"{folder}/{world}_{rank}.pt")


@pytest.mark.slow
def test_two_processes_of_half_the_batch_are_one(tmp_path: Path, programs: Programs) -> None:
    trained(0, 1, str(tmp_path))
    done = programs.run_together(2, __file__, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (alone, log), *ranks = (torch.load(tmp_path / name, weights_only=True) for name in ("1_0.pt", "2_0.pt", "2_1.pt"))
    for state, logged in ranks:
        assert all(torch.allclose(state[k].double(), v.double(), atol=1e-5) for k, v in alone.items())
        found, expected = ({k: v.item() for k, v in each.items()} for each in (logged, log))
        # A quotient whose terms nearly cancel: another order of the samples changes its third digit, and a half of
        # them alone its first.
        assert found.pop("best_response") == pytest.approx(expected.pop("best_response"), rel=1e-2)
        assert found == pytest.approx(expected, abs=1e-5)
    assert abs(log["best_response"]) > 1e-4


@pytest.mark.parametrize("enhancer", [dict(type="IAMLUNet", width=4, depth=1), "PSENet", "SCI"])
def test_other_networks_train_without_an_attention(enhancer: object) -> None:
    model = method(enhancer, LOSSES)
    before = snapshot(model.enhancer)
    log = model.train_step(batch(), optimiser(model))
    assert all(torch.isfinite(value) for value in log.values())
    assert changed(before, model.enhancer)


def test_weights_that_are_not_learned_are_fixed() -> None:
    model, data = method(learned_weights=False, discriminators=None, adversarial_weight=0, bia=False), batch()
    assert set(model.optimised()) == {"enhancer"}
    assert model.optimised()["enhancer"] is model.enhancer
    terms = loss(model, data)
    assert set(terms) == {"loss_pixel"}
    log = model.train_step(data, optimiser(model))
    assert log["loss"].item() == pytest.approx(terms["loss_pixel"].item())


def test_idle_discriminators_stay_as_they_are() -> None:
    model = method(adversarial_weight=0, bia=False)
    before = snapshot(model.discriminators)
    log = model.train_step(batch(), optimiser(model))
    assert not changed(before, model.discriminators)
    assert "discriminator" not in log


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(illumination_weight=1), "ZeroDCE predicts no illumination attention: set illumination_weight=0"),
        (dict(attention_tv_weight=1), "ZeroDCE predicts no illumination attention"),
        (dict(enhancer=dict(type="CollaBA", modulation=None), illumination_weight=1), "modulation=None.*set illumin"),
        (dict(discriminators=None), "adversarial_weight is 0.1, but there are no discriminators"),
        (dict(adversarial_weight=0), "bia=False"),
        (dict(adversarial_weight=0, bia=False, enhancer_interval=3), "enhancer_interval=1"),
        (dict(adversarial_weight=-1), "adversarial_weight must be a number of at least 0, got -1"),
        (dict(adversarial_weight=math.nan), "adversarial_weight must be a number of at least 0, got nan"),
        (dict(max_ratio=0), "max_ratio must be a number above 0, got 0"),
        (dict(enhancer_interval=0), "enhancer_interval must be a whole number of at least 1, got 0"),
        (dict(losses=dict(adversarial=dict(type="llie_preproc.L1Loss"))), r"\['adversarial'\]"),
        (dict(losses={}, adversarial_weight=0, bia=False), "no loss term"),
        (dict(enhancer="CLAHE"), "differentiable"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        method(**options)


def test_data_that_do_not_fit_are_named() -> None:
    model = attentive()
    with pytest.raises(ValueError, match=r"enlarges 2 times, to \(2, 3, 64, 64\).*\(2, 3, 32, 32\)"):
        model.train_step(batch(), optimiser(model))
    data = batch(scale=2)
    for sample in data["data_samples"]:
        del sample.target_x1
    with pytest.raises(ValueError, match="target_x1"):
        model.train_step(data, optimiser(model))


def test_accumulated_gradients_are_refused() -> None:
    part = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
    model = method()
    for name in ("enhancer", "discriminator"):
        wrappers = optimiser(model, part, **{name: dict(**part, accumulative_counts=2)})
        with pytest.raises(ValueError, match=f"accumulative_counts=2 for '{name}'"):
            model.train_step(batch(), wrappers)


CONFIGS = Path("mm_configs/enhancers")
PAPER = {"pixel", "perceptual", "illumination", "adversarial"}
TABLE_5 = ablation_rows("CollaBA, Table 5")
FIG_14 = ablation_rows("CollaBA, Fig. 14")


def configured(name: str, row: str) -> tuple[BilevelAdversarial, Config]:
    """The method of a shipped config with options on the command line, with a small VGG and small discriminators."""
    path = str(CONFIGS / f"{name}.py")
    cfg = Config.fromfile(path)
    if row:
        cfg.merge_from_dict(parse_args(["train", path, "--cfg-options", *row.split()]).cfg_options)
    if cfg.model.losses.perceptual is not None:
        cfg.model.losses.perceptual.encoder.update(checkpoint=None, width=4)
    model = dict(cfg.model, ema=None, discriminators={k: v and SMALL[k] for k, v in cfg.model.discriminators.items()})
    return MODELS.build(model), cfg


def facts(model: BilevelAdversarial) -> dict[str, object]:
    return {
        "bia": model.bia,
        "terms": set(model.weights.rho) if model.weights is not None else None,
        "regulariser": model.weights is not None and model.weights.regulariser,
        "prior": model.enhancer.prior is not None,
        "modulation": type(model.enhancer.groups[0].modulate[0]).__name__,
        "upscaler": type(model.enhancer.upscaler).__name__,
    }


FULL = dict(
    bia=True,
    terms=PAPER,
    regulariser=True,
    prior=True,
    modulation="_FeatureTransform",
    upscaler="_MergingUpscaler",
)


@pytest.mark.examples(3)
@pytest.mark.parametrize(
    ("row", "difference"),
    [
        (TABLE_5["0) CollaBA"], dict(bia=True)),
        (TABLE_5["1) w/o BIA"], {}),
        (TABLE_5["2) w/o GMP"], dict(prior=False, modulation="_Unmodulated", terms=PAPER - {"illumination"})),
        (TABLE_5["3) w/o CD-CFT (w/ Concat)"], dict(modulation="_Concatenation")),
        (TABLE_5["4) w/o MSMU (w/ Bilinear)"], dict(upscaler="_InterpolatingUpscaler")),
        (FIG_14["rec"], dict(regulariser=False, terms={"pixel"})),
        (FIG_14["+ per"], dict(regulariser=False, terms={"pixel", "perceptual"})),
        (FIG_14["+ illu"], dict(regulariser=False, terms={"pixel", "perceptual", "illumination"})),
        (FIG_14["+ adv"], dict(regulariser=False)),
        (FIG_14["+ R"], {}),
        (FIG_14["fixed weights (ours)"], dict(regulariser=False, terms=None)),
    ],
    ids=[*TABLE_5, *FIG_14],
)
def test_a_row_of_the_papers_ablations_is_one_line(row: str, difference: dict) -> None:
    model, cfg = configured("collaba_x2_rellisur", row)
    assert facts(model) == FULL | dict(bia=False) | difference
    # The optimisers of the config still fit the parts.
    assert set(build_optim_wrapper(model, cfg.optim_wrapper).keys()) == {"enhancer", "discriminator"}


@pytest.mark.parametrize("code", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_shipped_schedules(scale: int, code: bool) -> None:
    model, cfg = configured(f"collaba_x{scale}_rellisur" + "_code" * code, "")
    crop = cfg.train_dataloader.dataset.transforms[0].size
    assert model.enhancer.scale == cfg.train_dataloader.dataset.scale == cfg.val_dataloader.dataset.scale == scale
    assert (crop * scale, cfg.train_dataloader.batch_size) == ((256, 8) if code else (160, 16))
    assert cfg.optim_wrapper.enhancer.optimizer.lr == (1e-4 if code and scale == 2 else 2e-4)
    assert (model.bia, model.enhancer_interval) == ((False, 3) if code and scale == 4 else (True, 1))
    assert set(model.discriminators) == ({"unet"} if code else {"unet", "patch"})
    assert set(model.weights.rho) == PAPER | ({"attention_tv"} if code else set())
    assert model.sharpen_target == code
    assert model.loss_weights["perceptual"] == (1.2 if scale == 2 else 1.0)
    # Runs keep a dump of their config: its names must be Python's.
    assert Config.fromstring(cfg.dump(), ".py").model == cfg.model


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    """Options that put a small set in RELLISUR's layout, and no weights of VGG, into a shipped config."""
    generator = np.random.default_rng(0)
    for split in ("Train", "Val"):
        for folder, scale in (("LLLR", 1), ("NLHR-Duplicates/X1", 1), ("NLHR-Duplicates/X2", 2)):
            (tmp_path / split / folder).mkdir(parents=True)
            for scene in range(3 if split == "Train" else 1):
                pixels = generator.integers(0, 255, (40 * scale, 40 * scale, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / folder / f"{scene:05}-3.0.png")
    loaders = ("train_dataloader", "val_dataloader")
    return [
        *(f"{loader}.dataset.root={tmp_path}" for loader in loaders),
        *(f"{loader}.num_workers=0" for loader in loaders),
        "train_dataloader.persistent_workers=False",
        "model.losses.perceptual.encoder.checkpoint=None",
        "model.losses.perceptual.encoder.width=4",
        "default_hooks.logger.interval=1",
    ]


@pytest.mark.further
def test_a_shipped_config_runs_and_exports(pairs: list[str], tmp_path: Path) -> None:
    options = [
        *pairs,
        "train_dataloader.batch_size=1",
        "train_dataloader.dataset.transforms.0.size=16",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=2",
        "default_hooks.checkpoint.interval=2",
    ]
    path = str(CONFIGS / "collaba_x2_rellisur.py")
    assert not main(["train", path, "--out", str(tmp_path / "work"), "--cfg-options", *options])
    assert {p.name for p in (tmp_path / "work").glob("*.pth")} == {"iter_2.pth"}
    exported = build_enhancer("CollaBA", checkpoint=tmp_path / "work" / "enhancer.safetensors")
    assert exported.scale == 2
    log = "\n".join(p.read_text() for p in tmp_path.rglob("*.log"))
    for name in ("loss_adversarial", "rho_pixel", "best_response", "iqa/psnr"):
        assert name in log


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(pairs: list[str], tmp_path: Path) -> None:
    cfg = read_config(CONFIGS / "collaba_x2_rellisur.py")
    cfg.model.update(enhancer="ZeroDCE", discriminators=SMALL, illumination_weight=0, enhancer_interval=2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.scale = 1
    cfg.dump(path := tmp_path / "config.py")
    options = [
        *pairs,
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.transforms.0.size=32",
        "param_scheduler.0.milestones=[2,3]",
        "train_cfg.max_iters=5",
        "train_cfg.val_interval=10",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.max_keep_ckpts=5",
    ]

    def run(work: str, *flags: str) -> dict[str, Tensor]:
        assert not main(["train", str(path), "--out", str(tmp_path / work), *flags, "--cfg-options", *options])
        return read_run(tmp_path / work / "iter_5.pth")["state_dict"]

    whole = run("whole")
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "iter_3.pth", tmp_path / "parts")
    parts = run("parts", "--resume")
    assert any(name.startswith("weights.rho") for name in whole)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


if __name__ == "__main__":
    trained(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), sys.argv[1])
