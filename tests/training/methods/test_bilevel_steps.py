"""``BilevelAdversarial``: each term trains its own parameters, and two processes train as one."""

from __future__ import annotations

import copy
import math
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.enhancers.base import Capabilities, Enhancer
from tests.support.bilevel_methods import LOSSES, SMALL, batch, changed, loss, method, optimiser, snapshot
from tests.support.processes import Programs
from training.discriminators import PatchDiscriminator, UNetDiscriminator
from training.losses.perceptual import PerceptualLoss
from training.methods.bilevel import BilevelAdversarial
from training.optim import AutocastOptimWrapper

PUBLISHED = {
    "unet": dict(type="llie_preproc.UNetDiscriminator"),
    "patch": dict(type="llie_preproc.PatchDiscriminator"),
}


class _Attentive(Enhancer):
    """A small network of scale 2 that predicts an illumination attention."""

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
def test_each_term_reaches_the_enhancer_and_its_weight_only(term: str) -> None:
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


def test_the_loss_follows_equation_11() -> None:
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


def test_each_step_trains_only_its_part() -> None:
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


def test_references_are_sharpened_for_the_losses_only() -> None:
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


def test_the_enhancer_steps_at_its_interval_also_after_a_resume() -> None:
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


def test_mixed_precision_stays_finite_and_near_float32() -> None:
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
def test_a_step_trains_every_parameter_of_collaba() -> None:
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
    """Take three steps on this rank's share of eight samples, ``[rank::world]``; save the weights and the log."""
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
def test_two_processes_with_half_a_batch_train_as_one(tmp_path: Path, programs: Programs) -> None:
    trained(0, 1, str(tmp_path))
    done = programs.run_together(2, __file__, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (alone, log), *ranks = (torch.load(tmp_path / name, weights_only=True) for name in ("1_0.pt", "2_0.pt", "2_1.pt"))
    for state, logged in ranks:
        assert all(torch.allclose(state[k].double(), v.double(), atol=1e-5) for k, v in alone.items())
        found, expected = ({k: v.item() for k, v in each.items()} for each in (logged, log))
        # The terms of this quotient nearly cancel, so another order of the samples changes its third digit. Half of the
        # samples would change its first digit.
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


def test_without_learned_weights_only_the_enhancer_is_optimised() -> None:
    model, data = method(learned_weights=False, discriminators=None, adversarial_weight=0, bia=False), batch()
    assert set(model.optimised()) == {"enhancer"}
    assert model.optimised()["enhancer"] is model.enhancer
    terms = loss(model, data)
    assert set(terms) == {"loss_pixel"}
    log = model.train_step(data, optimiser(model))
    assert log["loss"].item() == pytest.approx(terms["loss_pixel"].item())


def test_discriminators_without_an_adversarial_term_are_not_trained() -> None:
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
        (dict(enhancer="CLAHE"), "no gradient flows through CLAHE"),
    ],
)
def test_wrong_arguments_are_named(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        method(**options)


def test_wrong_data_are_named() -> None:
    model = attentive()
    with pytest.raises(ValueError, match=r"enlarges 2 times, to \(2, 3, 64, 64\).*\(2, 3, 32, 32\)"):
        model.train_step(batch(), optimiser(model))


def test_the_normal_light_at_the_size_of_the_input_follows_from_the_target() -> None:
    torch.manual_seed(0)
    model = method(dict(type="llie_preproc.CollaBA", width=16, prior_width=4), illumination_weight=1.0)
    # Each pixel of the target's smaller copy stands for 2x2 equal pixels of the target.
    data = batch(scale=2)
    given = loss(model, data)["loss_illumination"]
    for sample in data["data_samples"]:
        del sample.target_x1
    torch.testing.assert_close(loss(model, data)["loss_illumination"], given)
    for sample in data["data_samples"]:
        sample.target_x1 = 255 - sample.target[:, ::2, ::2]
    assert not torch.allclose(loss(model, data)["loss_illumination"], given)


def test_accumulated_gradients_are_refused() -> None:
    part = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
    model = method()
    for name in ("enhancer", "discriminator"):
        wrappers = optimiser(model, part, **{name: dict(**part, accumulative_counts=2)})
        with pytest.raises(ValueError, match=f"accumulative_counts=2 for '{name}'"):
            model.train_step(batch(), wrappers)


if __name__ == "__main__":
    trained(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), sys.argv[1])
