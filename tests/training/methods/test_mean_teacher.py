"""``SemiSupervisedMeanTeacher``: terms equal closed forms, and each optimiser and average changes only its part."""

import copy
import math

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.nn import functional as F

from tests.support.mean_teachers import TERMS, at, images, samples, untouched
from tests.support.training_runs import apart
from training.losses.adversarial import discriminator_loss
from training.losses.contrastive import ContrastiveLoss
from training.methods.mean_teacher import SemiSupervisedMeanTeacher, ramp_up

pytestmark = pytest.mark.usefixtures("after_the_ramp")

ENCODER = {"type": "llie_preproc.VGGEncoder", "checkpoint": None, "width": 2}
LOSSES = {
    "l1": {"type": "llie_preproc.L1Loss"},
    "perceptual": {
        "type": "llie_preproc.PerceptualLoss",
        "encoder": ENCODER,
        "stages": ["relu2_2", "relu3_3"],
        "distance": "l2",
        "loss_weight": 0.1,
    },
    "gradient": {"type": "llie_preproc.GradientLoss", "loss_weight": 0.1},
}
CONTRASTIVE = {"type": "llie_preproc.ContrastiveLoss", "encoder": ENCODER}
DISCRIMINATOR = {"type": "llie_preproc.PatchDiscriminator", "norm": "batch", "width": 8}


def unit(data_samples, field):
    return torch.stack([s.get(field) for s in data_samples]).float() / 255


def method(**options):
    torch.manual_seed(0)
    chosen = {
        "enhancer": {"type": "llie_preproc.IAMLUNet", "width": 4, "depth": 2},
        "losses": LOSSES,
        "contrastive": CONTRASTIVE,
        "discriminator": DISCRIMINATOR,
    }
    return SemiSupervisedMeanTeacher(**chosen | options).train()


def wrappers(model, rate=0.01):
    parts = model.optimised()
    built = {k: OptimWrapper(torch.optim.SGD(m.parameters(), lr=rate)) for k, m in parts.items()}
    return OptimWrapperDict(**built) if len(built) > 1 else built["enhancer"]


def batch(seed=0):
    return {"inputs": list((255 * images(seed)).byte()), "data_samples": samples()}


@pytest.mark.parametrize(
    ("time", "expected"), [(0, math.exp(-5)), (100, math.exp(-1.25)), (200, 1), (300, 1), (160, math.exp(-0.2))]
)
def test_the_ramp_follows_the_paper(time, expected):
    assert ramp_up(time, 200) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epoch", [0, 50, 100, 199, 200])
def test_lambda_1_follows_the_epoch_of_the_runner(epoch):
    at(epoch)
    assert method().consistency_factor() == pytest.approx(0.2 * math.exp(-5 * (1 - epoch / 200) ** 2))
    # The public code reaches the full weight after half of the training.
    expected = 0.1 * math.exp(-5 * (1 - min(epoch, 100) / 100) ** 2)
    assert method(ramp=0.5, consistency_weight=0.1).consistency_factor() == pytest.approx(expected)


def test_lambda_1_without_a_runner_is_the_full_weight():
    MessageHub.get_instance("nothing_runs")
    assert method().consistency_factor() == 0.2


@pytest.mark.parametrize("term", TERMS)
def test_each_term_trains_the_student_and_nothing_else(term):
    model = apart(method())
    terms = model.loss(images(), samples())
    assert list(terms) == TERMS
    terms[term].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.enhancer.parameters())
    for other in (model.teacher, model.discriminator, model.losses, model.contrastive):
        assert untouched(other)
    # The discriminator is frozen only while the adversarial term is computed.
    assert all(p.requires_grad for p in model.discriminator.parameters())


def test_the_terms_follow_eq_10():
    at(100)
    model = apart(method(consistency_weight=0.3, adversarial_weight=0.7)).eval()
    image, data = images(), samples()
    terms = model.loss(image, data)
    target, weak, strong = (unit(data, f) for f in ("target", "unpaired", "strong"))
    output, student, teacher = model.enhancer(image), model.enhancer(strong), model.teacher(weak)
    lambda_1 = 0.3 * math.exp(-1.25)
    contrastive = model.contrastive["contrastive"]
    assert isinstance(contrastive, ContrastiveLoss)
    expected = {
        "loss_l1": F.l1_loss(output, target),
        "loss_perceptual": 0.1 * model.losses["perceptual"](output, target),
        "loss_gradient": 0.1 * model.losses["gradient"](output, target),
        "loss_adversarial": 0.7 * -F.logsigmoid(model.discriminator(output)).mean(),
        "loss_consistency": lambda_1 * (student - teacher).abs().mean(),
        "loss_contrastive": lambda_1 * contrastive(student, teacher, weak),
    }
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-5
    )


def test_the_contrastive_loss_is_multiplied_by_its_weight():
    doubled = method(contrastive=CONTRASTIVE | {"loss_weight": 2.0})
    doubled.contrastive = (model := method()).contrastive
    terms = [apart(m).loss(images(), samples())["loss_contrastive"].item() for m in (model, doubled)]
    assert terms[1] == pytest.approx(2 * terms[0], rel=1e-5)


def test_a_step_of_the_discriminator_changes_no_enhancer():
    model = apart(method())
    optimisers = wrappers(model)
    model.train_step(batch(), optimisers)
    enhancer, teacher = copy.deepcopy(model.enhancer), copy.deepcopy(model.teacher)
    before = copy.deepcopy(model.discriminator)
    real, fake = images(1), images(2)
    loss = model._discrimination(real, fake)
    assert loss.item() == pytest.approx(discriminator_loss(before(real), before(fake)).item(), rel=1e-5)
    optimisers["discriminator"].update_params(loss)
    assert any(
        not torch.equal(a, b) for a, b in zip(before.parameters(), model.discriminator.parameters(), strict=True)
    )
    for kept, now in ((enhancer, model.enhancer), (teacher, model.teacher)):
        assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), now.parameters(), strict=True))


@pytest.mark.parametrize("frozen_part", ["enhancer", "discriminator"])
def test_each_optimiser_changes_only_its_part(frozen_part):
    model = apart(method())
    optimisers = wrappers(model)
    optimisers[frozen_part].optimizer.param_groups[0]["lr"] = 0.0
    before = {k: copy.deepcopy(m) for k, m in model.optimised().items()}
    log = model.train_step(batch(), optimisers)
    for name, module in model.optimised().items():
        same = [torch.equal(a, b) for a, b in zip(before[name].parameters(), module.parameters(), strict=True)]
        assert all(same) == (name == frozen_part)
        assert all(p.grad is None for p in module.parameters())
    assert {"loss", "discriminator", *TERMS} == set(log)


def test_the_discriminator_judges_the_outputs_of_the_enhancers_step():
    """Its first loss has a closed form, which compares outputs for the paired inputs with the references."""
    model = apart(method(discriminator={"type": "llie_preproc.PatchDiscriminator"}))
    data = batch()
    image = torch.stack(data["inputs"]).float() / 255
    with torch.no_grad():
        fake, real = (model.discriminator(x) for x in (model.enhancer(image), unit(data["data_samples"], "target")))
    expected = -(F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean())
    log = model.train_step(data, wrappers(model))
    assert log["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("momentum", [0.6, 0.996])
def test_the_teacher_averages_the_student(momentum):
    """Eq. 2 has the factor min(1 - 1 / (it + 1), momentum), so the teacher is at first the mean of all weights."""
    model, steps = method(momentum=momentum, contrastive=None, losses={"l1": LOSSES["l1"]}), 7
    optimisers = wrappers(model)
    history, expected = [], None
    for step in range(steps):
        model.train_step(batch(step), optimisers)
        history.append([p.detach().double().clone() for p in model.enhancer.parameters()])
        beta = min(1 - 1 / (step + 1), momentum)
        previous = expected or history[0]
        expected = [beta * kept + (1 - beta) * new for kept, new in zip(previous, history[-1], strict=True)]
    for found, value in zip(model.teacher.parameters(), expected, strict=True):
        assert np.allclose(found.double().numpy(), value.numpy(), rtol=1e-7, atol=1e-7)
    if momentum == 0.996:
        for k, found in enumerate(model.teacher.parameters()):
            mean = torch.stack([weights[k] for weights in history]).mean(0)
            assert np.allclose(found.double().numpy(), mean.numpy(), rtol=2e-7, atol=1e-7)
    assert model.updates == steps
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_number_of_updates_is_saved_with_the_weights():
    model = apart(method())
    model.after_step()
    model.after_step()
    other = method()
    other.load_state_dict(model.state_dict())
    assert other.updates == 2
    apart(other)
    before = [p.clone() for p in other.teacher.parameters()]
    other.after_step()
    for old, new, student in zip(before, other.teacher.parameters(), other.enhancer.parameters(), strict=True):
        assert torch.allclose(new, old * 2 / 3 + student / 3, atol=1e-6)


def test_the_teacher_is_evaluated_and_drops_no_paths():
    model = method(enhancer={"type": "llie_preproc.SemiLLIE", "width": 4, "groups": 1}, discriminator=None)
    assert model.evaluated is model.teacher is not model.enhancer
    assert model.enhancer.training
    assert not model.teacher.training
    assert not model.contrastive["contrastive"].encoder.training
    apart(model)
    picture = images()[0]
    [sample] = model([picture], mode="predict")
    assert torch.allclose(sample.enhanced, model.teacher(picture[None])[0].clamp(0, 1), atol=1e-6)


def test_terms_that_are_left_out_need_no_data():
    model = method(consistency_weight=0, contrastive=None, discriminator=None)
    assert list(model.optimised()) == ["enhancer"]
    log = model.train_step(
        {"inputs": batch()["inputs"], "data_samples": samples(unpaired=0, strong=0)}, wrappers(model)
    )
    assert set(log) == {"loss", *TERMS[:3]}


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_the_adversarial_term_follows_the_discriminator(kind):
    """The discriminator prefers bright pictures, so the adversarial term alone brightens the output."""
    model = method(adversarial=kind, adversarial_weight=100.0, consistency_weight=0, contrastive=None)
    model.losses = torch.nn.ModuleDict()
    model.discriminator = torch.nn.Conv2d(3, 1, 1)
    torch.nn.init.constant_(model.discriminator.weight, 1.0)
    torch.nn.init.constant_(model.discriminator.bias, -2.0)
    image = 0.2 * images()
    before = model.enhancer(image).mean().item()
    optimiser = torch.optim.Adam(model.enhancer.parameters(), lr=1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        sum(model.loss(image, samples()).values()).backward()
        optimiser.step()
    assert model.enhancer(image).mean().item() > before + 0.01


def test_mixed_precision_keeps_float32_losses_and_all_gradients():
    model = apart(method())
    exact = model.loss(images(), samples())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.loss(images(), samples())
    assert {t.dtype for t in mixed.values()} == {torch.float32}
    assert {k: v.item() for k, v in mixed.items()} == pytest.approx({k: v.item() for k, v in exact.items()}, rel=0.3)
    for term in TERMS:
        model.zero_grad()
        mixed[term].backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.enhancer.parameters())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"losses": {"l1": None}}, "at least one loss"),
        ({"consistency_weight": -0.1}, "consistency_weight must be a number of at least 0, got -0.1"),
        ({"adversarial_weight": math.inf}, "adversarial_weight"),
        ({"adversarial": "wgan"}, "'bce', 'lsgan', got 'wgan'"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"ramp": 0.0}, "ramp must be a number above 0"),
        ({"ramp": 200}, "ramp must be a number above 0 and of at most 1, got 200"),
        ({"consistency_weight": 0}, "set contrastive=None"),
        ({"enhancer": "CLAHE"}, "no gradient flows through CLAHE"),
    ],
)
def test_wrong_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        method(**options)


def test_wrong_pictures_are_named():
    model = method()
    for field in ("target", "unpaired", "strong"):
        with pytest.raises(ValueError, match=f"'{field}'"):
            model.loss(images(), samples(**{field: 0}))
    with pytest.raises(ValueError, match="the same shape"):
        method(enhancer={"type": "CollaBA"}).loss(images(), samples())
