"""``DetectorConsistency``: terms equal those of MMDetection's detectors, and only the enhancer gets a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from scipy import special

from llie_preproc.errors import CheckpointError
from tests.support.frozen_detectors import NAMES, plain_detector, plain_features, write_detector
from tests.support.networks import Gain, same
from tests.support.sam_training import pixels
from training import randomness
from training.methods import DetectorConsistency
from training.methods.detector_consistency import relative_distance, score_divergence

NETWORK = {"type": "llie_preproc.GainUNet", "channels": (8, 12), "blocks": (1, 1)}
L1 = {"l1": {"type": "llie_preproc.L1Loss"}}
TERMS = ["loss_feature", "loss_score"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Arguments of each tiny detector by name."""
    folder = tmp_path_factory.mktemp("detectors")
    return {name: write_detector(folder, name) for name in NAMES}


@pytest.fixture
def method(written):
    def build(detector="retinanet", enhancer=NETWORK, **options):
        torch.manual_seed(1)
        return DetectorConsistency(enhancer, written[detector] if isinstance(detector, str) else detector, **options)

    return build


def samples(*targets):
    return [BaseDataElement(target=target) for target in targets]


def unit(*pictures):
    return torch.stack(list(pictures)).float() / 255


TARGETS = [pixels(0, 64, 96), pixels(1, 64, 96)]
BOTH = dict(feature_weight=1.0, score_weight=1.0)


def distance(found, expected):
    """``sum |f - r| / sum |r|`` of each picture, averaged, in numpy."""
    ratios = []
    for f, r in zip(found.double().numpy(), expected.double().numpy(), strict=True):
        ratios.append(np.abs(f - r).sum() / np.abs(r).sum())
    return np.mean(ratios)


def bernoulli_divergence(logits, wanted):
    """Kullback-Leibler divergences of two coins with the given logits, by SciPy's relative entropy."""
    (p, p_not), (q, q_not) = ((special.expit(x), special.expit(-x)) for x in (wanted, logits))
    return special.rel_entr(p, q) + special.rel_entr(p_not, q_not)


def divergence(found, expected):
    maps = zip((m.double().numpy() for m in found), (m.double().numpy() for m in expected), strict=True)
    return np.mean([bernoulli_divergence(f, e).sum(1).mean() for f, e in maps])


def plain_scores(name, model, features):
    """The scores of MMDetection's own head for the features that its own ``extract_feat`` gave."""
    with torch.no_grad():
        if name == "faster_rcnn":
            return list(model.rpn_head(features)[0])
        answers = model.bbox_head(features)
    return [*answers[0], *(answers[2] if name == "yolox" else [])]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1.0, 0.75])
def test_terms_equal_those_of_plain_mmdetection(method, written, name, factor):
    model = method({**written[name], "scales": (factor, factor)}, **BOTH)
    model.enhancer = Gain(start=0.5)
    losses = model.loss(unit(*TARGETS), samples(*TARGETS))
    plain = plain_detector(name)
    expected = plain_features(plain, list(unit(*TARGETS)), factor)
    found = plain_features(plain, list(0.5 * unit(*TARGETS)), factor)
    distances = [distance(f, e) for f, e in zip(found, expected, strict=True)]
    assert np.mean(distances) > 0.05
    assert losses["loss_feature"].item() == pytest.approx(np.mean(distances), rel=1e-3)
    scores = divergence(plain_scores(name, plain, found), plain_scores(name, plain, expected))
    assert scores > 1e-4
    assert losses["loss_score"].item() == pytest.approx(scores, rel=5e-3)


def test_weights_and_levels_choose_what_counts(method, written):
    model = method({**written["yolox"], "levels": (2, 0)}, Gain(start=0.5), feature_weight=3.0, losses=L1)
    losses = model.loss(unit(*TARGETS), samples(*TARGETS))
    assert list(losses) == ["loss_l1", "loss_feature"]
    found, expected = (plain_features(plain_detector("yolox"), list(f * unit(*TARGETS))) for f in (0.5, 1.0))
    mean = np.mean([distance(found[level], expected[level]) for level in (0, 2)])
    assert losses["loss_feature"].item() == pytest.approx(3 * mean, rel=1e-3)
    assert losses["loss_l1"].item() == pytest.approx(0.5 * unit(*TARGETS).mean().item(), rel=1e-5)
    alone = method(enhancer=Gain(start=0.5), feature_weight=0, score_weight=0.2)
    assert list(alone.loss(unit(*TARGETS), samples(*TARGETS))) == ["loss_score"]
    whole = method(enhancer=Gain(start=0.5), feature_weight=0, score_weight=2.0)
    terms = [each.loss(unit(*TARGETS), samples(*TARGETS))["loss_score"].item() for each in (alone, whole)]
    assert terms[1] == pytest.approx(10 * terms[0], rel=1e-5)


def test_the_terms_of_several_detectors_are_averaged(method, written):
    enhancer, pictures = Gain(start=0.5), (unit(*TARGETS), samples(*TARGETS))
    single = [method(name, enhancer, **BOTH).loss(*pictures) for name in NAMES]
    together = method([written[name] for name in NAMES], enhancer, **BOTH).loss(*pictures)
    for term in TERMS:
        mean = np.mean([losses[term].item() for losses in single])
        assert together[term].item() == pytest.approx(mean, rel=1e-5)


def test_output_and_reference_are_resized_alike(method, written):
    """A perfect enhancer has no loss at any scale, and the scales differ from step to step."""
    perfect = method({**written["retinanet"], "scales": (0.4, 1.5)}, Gain(), **BOTH)
    dark = method({**written["retinanet"], "scales": (0.4, 1.5)}, Gain(start=0.5), **BOTH)
    torch.manual_seed(0)
    values = []
    for _ in range(5):
        losses = perfect.loss(unit(*TARGETS), samples(*TARGETS))
        assert losses["loss_feature"].item() == 0
        assert losses["loss_score"].item() == pytest.approx(0, abs=1e-6)
        values.append(dark.loss(unit(*TARGETS), samples(*TARGETS))["loss_feature"].item())
    assert len(set(values)) > 2


@pytest.mark.parametrize("term", [*TERMS, "loss_l1"])
@pytest.mark.parametrize("name", ["retinanet", "yolox"])
def test_every_term_trains_all_of_the_enhancer_and_no_detector(method, name, term):
    model = method(name, losses=L1, **BOTH).train()
    losses = model(0.2 * unit(*TARGETS), samples(*TARGETS), mode="loss")
    assert sorted(losses) == sorted([*TERMS, "loss_l1"])
    losses[term].backward()
    gradients = {key: p.grad for key, p in model.enhancer.named_parameters()}
    assert [key for key, g in gradients.items() if g is None or not g.isfinite().all() or not g.abs().max() > 0] == []
    assert all(p.grad is None and not p.requires_grad for p in model.detectors.parameters())
    assert model.enhancer.training
    assert not any(module.training for module in model.detectors.modules())


def test_steps_change_the_enhancer_and_neither_detector_nor_its_norms(method, written):
    model = method([written["retinanet"], written["yolox"]], losses=L1, ema=0.5, **BOTH).train()
    before = {part: {k: v.clone() for k, v in getattr(model, part).state_dict().items()}
              for part in ("detectors", "enhancer", "average")}  # fmt: skip
    assert any(key.endswith("running_mean") for key in before["detectors"])
    wrapper = OptimWrapper(torch.optim.AdamW(model.enhancer.parameters(), lr=1e-3))
    pictures = {"inputs": [target // 4 for target in TARGETS], "data_samples": samples(*TARGETS)}
    for _ in range(2):
        log = model.train_step(pictures, wrapper)
    assert {"loss", "loss_l1", *TERMS} <= set(log)
    assert same(model.detectors.state_dict(), before["detectors"])
    assert not same(model.enhancer.state_dict(), before["enhancer"])
    assert not same(model.average.state_dict(), before["average"])


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_each_term_alone_leads_to_the_gain_that_was_lost(method, weights):
    """The only loss-free factor is 1."""
    enhancer = Gain(start=0.6)
    model = method("retinanet", enhancer, feature_weight=weights[0], score_weight=weights[1])
    optimizer = torch.optim.Adam(enhancer.parameters(), lr=0.04)
    values = []
    for _ in range(20):
        [loss] = model.loss(unit(*TARGETS), samples(*TARGETS)).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert min(values[-5:]) < 0.4 * values[0]
    assert (enhancer.factor - 1).abs().max() < 0.2


def test_an_enlarging_enhancer_is_compared_at_its_own_size(method):
    enlarged = [t.repeat_interleave(2, 1).repeat_interleave(2, 2) for t in TARGETS]
    losses = method("yolox", Gain(2, 0.5), losses=L1, **BOTH).loss(unit(*TARGETS), samples(*enlarged))
    # Repeating pixels and halving the levels commute.
    alone = method("yolox", Gain(1, 0.5), losses=L1, **BOTH).loss(unit(*enlarged), samples(*enlarged))
    for name, value in losses.items():
        assert value.item() == pytest.approx(alone[name].item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"the same shape, got \(2, 3, 128, 192\) and \(2, 3, 64, 96\)"):
        method("yolox", Gain(2)).loss(unit(*TARGETS), samples(*TARGETS))


def test_two_processes_have_the_mean_losses_of_one(method, written, monkeypatch):
    model = method({**written["retinanet"], "scales": (0.5, 1.2)}, Gain(start=0.5), losses=L1, **BOTH)
    targets = [pixels(i) for i in range(4)]

    def losses(rank, world):
        monkeypatch.setattr(randomness, "get_rank", lambda: rank)
        monkeypatch.setattr(randomness, "get_world_size", lambda: world)
        randomness.begin_iteration(3, 5)
        own = targets[rank::world]
        values = model.loss(0.3 * unit(*own), samples(*own))
        randomness.end_iteration()
        return torch.stack([values[name] for name in sorted(values)]).detach()

    whole = losses(0, 1)
    assert torch.equal(whole, losses(0, 1))
    torch.testing.assert_close((losses(0, 2) + losses(1, 2)) / 2, whole, rtol=1e-4, atol=1e-6)


def test_mixed_precision_gives_nearly_the_same_gradient(method):
    steps = []
    for enabled in (False, True):
        model = method("retinanet", losses=L1, **BOTH).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            losses = model(0.2 * unit(*TARGETS), samples(*TARGETS), mode="loss")
        assert {value.dtype for value in losses.values()} == {torch.float32}
        sum(losses.values()).backward()
        steps.append(torch.cat([p.grad.flatten() for p in model.enhancer.parameters()]))
    assert steps[1].isfinite().all()
    assert not torch.equal(*steps)
    assert torch.cosine_similarity(*steps, dim=0) > 0.95


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), shape=st.tuples(*[st.integers(1, 5)] * 4))
def test_a_distance_is_relative_to_the_reference_of_each_picture(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    # References of one picture may be a thousand times larger than those of another one.
    expected = torch.randn(shape, generator=generator) * 10 ** (3 * torch.rand(shape[0], 1, 1, 1, generator=generator))
    found = expected + torch.randn(shape, generator=generator)
    value = relative_distance(found, expected).item()
    assert value == pytest.approx(distance(found, expected), rel=1e-4, abs=1e-6)
    assert relative_distance(3 * found, 3 * expected).item() == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert relative_distance(expected, expected).item() == 0


def test_a_reference_without_features_gives_a_finite_distance():
    found = torch.zeros(1, 2, 3, 3, requires_grad=True)
    relative_distance(found + 1e-9, torch.zeros(1, 2, 3, 3)).backward()
    assert found.grad.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), maps=st.integers(1, 3), spread=st.sampled_from([0.1, 1.0, 5.0, 12.0]))
def test_the_divergence_is_that_of_bernoulli_laws(seed, maps, spread):
    generator = torch.Generator().manual_seed(seed)
    found, expected = (
        [spread * torch.randn(2, 3, 4 - i, 2, generator=generator) for i in range(maps)] for _ in range(2)
    )
    value = score_divergence(found, expected).item()
    assert value == pytest.approx(divergence(found, expected), rel=1e-4, abs=1e-6)
    # By Gibbs' inequality it is positive unless the laws are equal.
    assert value > 0
    assert score_divergence(expected, expected).item() == pytest.approx(0, abs=2e-6)


def test_the_divergence_of_extreme_scores_is_finite():
    """Scores of 1 and 0 have logits whose probabilities round to 1 and 0 in float32."""
    sure, never = torch.full((1, 1, 1, 1), 200.0), torch.full((1, 1, 1, 1), -200.0)
    assert score_divergence([sure], [sure]).item() == 0
    assert score_divergence([never], [never]).item() == 0
    assert score_divergence([never], [sure]).item() == pytest.approx(200)
    own = never.clone().requires_grad_()
    score_divergence([own], [sure]).backward()
    assert own.grad.item() == pytest.approx(-1)


def test_the_slope_of_the_divergence_is_the_difference_of_the_scores():
    """``d/dx KL(q || sigmoid(x)) = sigmoid(x) - q``."""
    own = torch.tensor([-3.0, 0.5, 2.0]).view(1, 3, 1, 1).requires_grad_()
    wanted = torch.tensor([1.0, 0.5, -4.0]).view(1, 3, 1, 1)
    score_divergence([own], [wanted]).backward()
    slope = special.expit(own.detach().numpy()) - special.expit(wanted.numpy())
    assert np.allclose(own.grad.numpy(), slope, atol=1e-6)


def test_samples_that_do_not_fit_are_refused(method):
    picture = unit(TARGETS[0])
    for given_samples in ([], [BaseDataElement()]):
        with pytest.raises(ValueError, match="samples have 'target'"):
            method().loss(picture, given_samples)
    with pytest.raises(ValueError, match=r"the same shape, got \(1, 3, 64, 96\) and \(1, 3, 32, 32\)"):
        method().loss(picture, samples(pixels(0, 32, 32)))
    with pytest.raises(ValueError, match="pictures of one batch must have the same shape"):
        method().loss(unit(*TARGETS), samples(TARGETS[0], pixels(0, 32, 32)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_weight": -1}, "feature_weight must be a number of at least 0, got -1"),
        ({"score_weight": math.nan}, "score_weight must be a number of at least 0, got nan"),
        ({"score_weight": "0.2"}, "score_weight must be a number of at least 0, got '0.2'"),
        ({"feature_weight": 0, "score_weight": 0}, "feature_weight and score_weight are 0, .* use SupervisedTraining"),
        ({"enhancer": "CLAHE"}, "no gradient flows through CLAHE: it cannot be trained"),
        ({"detector": []}, "detector must be the arguments of at least one detector, each with a 'checkpoint'"),
        ({"detector": "yolox.py"}, "detector must be the arguments .* got yolox.py"),
        ({"detector": None}, "detector must be the arguments .* got None"),
        ({"detector": {"config": "yolox.py"}}, "each with a 'checkpoint', that of a trained model, got"),
    ],
)
def test_invalid_settings_are_refused(written, options, message):
    with pytest.raises(ValueError, match=message):
        DetectorConsistency(**{"enhancer": NETWORK, "detector": written["yolox"], **options})


def test_each_of_several_detectors_needs_a_checkpoint(written):
    with pytest.raises(ValueError, match="each with a 'checkpoint'"):
        DetectorConsistency(NETWORK, [written["yolox"], {"config": written["retinanet"]["config"]}])


def test_errors_of_the_detector_name_what_is_wrong(method, written, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        method({**written["yolox"], "checkpoint": str(tmp_path / "absent.pth")})
    with pytest.raises(CheckpointError, match=r"yolox\.pth"):
        method({**written["retinanet"], "checkpoint": written["yolox"]["checkpoint"]})
    with pytest.raises(ValueError, match="each of levels must be one of 0, 1, 2, got 5"):
        method({**written["yolox"], "levels": (5,)})
    with pytest.raises(TypeError, match="level"):
        method({**written["yolox"], "level": 1})


def test_scores_that_exclude_each_other_are_refused_when_the_method_is_built(method, written):
    """A softmax head compares classes with each other, so its logits are no independent scores."""
    softmax = {"model.bbox_head.loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False}}
    detector = dict(config=written["retinanet"]["config"], checkpoint=None, cfg_options=softmax)
    assert method(detector).loss(unit(*TARGETS), samples(*TARGETS))["loss_feature"] > 0
    with pytest.raises(ValueError, match=r"RetinaNet has no dense head with logits .*: set score_weight=0"):
        method(detector, score_weight=0.2)
