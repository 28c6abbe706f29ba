"""``joint/losses.py``: each auxiliary loss equals its closed form, and its gradient reaches the enhancer."""

import copy

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.structures import BaseDataElement, PixelData

from llie_preproc import build_enhancer
from llie_preproc.enhancers import CurveEnhancer
from llie_preproc.registry import MODELS
from tests.support.random_pictures import images
from training.methods.progressive import pseudo_ground_truth, reference_images

NAMES = ("FidelityLoss", "ExposureLoss", "MapSmoothnessLoss", "PairedLoss", "SelfEnhancementLoss")


def picture(height=40, width=56, seed=0, brightest=0.4):
    return brightest * images(height, width, seed=seed)


def enhancer_of(kind="PSENet", **options):
    torch.manual_seed(1)
    return build_enhancer(dict(type=kind, **options), checkpoint=None)


def build(name, enhancer=None, **options):
    loss = MODELS.build(dict(type=f"llie_preproc.{name}", **options))
    if enhancer is not None and hasattr(loss, "bind"):
        loss.bind(enhancer)
    return loss


def with_pair(data, valid=None):
    sample = BaseDataElement(metainfo=dict(img_path="dark/7.png"))
    sample.gt_normal_light = PixelData(data=data)
    if valid is not None:
        sample.gt_normal_light.valid = valid
    return sample


def normal_light(height=40, width=56, seed=5):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Scaled(CurveEnhancer):
    """A network with one factor ``f``: its map is a ramp of step ``f``; its result is ``f`` times the picture."""

    def __init__(self, factor=1.5):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def predict_map(self, image):
        ramp = torch.arange(image.shape[-1]).to(image).expand_as(image)
        return self.factor * ramp

    def apply_map(self, image, map):
        return self.factor * image


@pytest.mark.parametrize("kind", ["PSENet", "ZeroDCE", "SCI"])
@pytest.mark.parametrize("name", NAMES)
def test_each_loss_reaches_every_parameter_of_the_enhancer(name, kind):
    enhancer = enhancer_of(kind)
    loss = build(name, enhancer)
    with torch.no_grad():
        # The weights are changed, because fidelity has no gradient at the initial ones.
        for parameter in enhancer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    enhancer.train()
    image = picture()
    loss(image, enhancer(image), enhancer, with_pair(normal_light())).backward()
    without = [n for n, p in enhancer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_no_loss_changes_running_statistics(name):
    """Running statistics come only from the pass whose output the detector sees."""
    enhancer, image = enhancer_of("SCI").train(), picture()
    loss = build(name, enhancer, **({"side": 16} if name == "FidelityLoss" else {}))
    output = enhancer(image)
    before = copy.deepcopy(enhancer.state_dict())
    loss(image, output, enhancer, with_pair(normal_light())).backward()
    assert all(torch.equal(before[key], value) for key, value in enhancer.state_dict().items())


@pytest.mark.parametrize(("side", "expected"), [(None, 0.15), (16, 0.15)])
def test_fidelity_is_zero_at_the_start_and_the_distance_later(side, expected):
    """The factor goes from 1.5 to 2 on a constant picture of 0.3, so the distance is 0.15."""
    enhancer, image = Scaled(1.5), torch.full((1, 3, 24, 32), 0.3)
    loss = build("FidelityLoss", enhancer, side=side)
    assert loss(image, enhancer(image), enhancer) == 0
    with torch.no_grad():
        enhancer.factor.fill_(2.0)
    assert loss(image, enhancer(image), enhancer).item() == pytest.approx(expected)
    squared = build("FidelityLoss", Scaled(1.5), side=side, distance=dict(type="llie_preproc.MSELoss"))
    assert squared(image, enhancer(image), enhancer).item() == pytest.approx(expected**2)


def test_fidelity_with_map_side_is_zero_at_the_start():
    from llie_preproc.inference import enhance_batch
    from llie_preproc.inference_options import InferenceOptions

    enhancer, image = enhancer_of("ZeroDCE"), picture()
    output = enhance_batch([image[0]], enhancer, InferenceOptions(map_side=20), clamp=False)[0][None]
    assert build("FidelityLoss", enhancer, map_side=20)(image, output, enhancer) == 0
    assert build("FidelityLoss", enhancer)(image, output, enhancer) > 0


def test_the_initial_copy_is_not_trained():
    enhancer, image = enhancer_of("SCI"), picture()
    loss = build("FidelityLoss", enhancer).train()
    before = copy.deepcopy(loss.state_dict())
    loss(image, enhancer.train()(image) + 0.1, enhancer).backward()
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not any(module.training for module in loss.initial.modules())
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())


def test_the_initial_copy_is_loaded_on_resume():
    start, now, image = Scaled(1.5), Scaled(2.0), torch.full((1, 3, 24, 32), 0.3)
    saved = build("FidelityLoss", start).state_dict()
    resumed = build("FidelityLoss", now)
    assert resumed(image, now(image), now) == 0
    resumed.load_state_dict(saved)
    assert resumed(image, now(image), now).item() == pytest.approx(0.15)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (16, 16), (17, 50), (5, 3)])
def test_exposure_of_a_constant_picture_is_its_distance_from_the_level(height, width):
    output = torch.tensor([0.1, 0.3, 0.8]).view(1, 3, 1, 1).expand(1, 3, height, width)
    assert build("ExposureLoss")(output, output, Scaled()).item() == pytest.approx(0.2, abs=1e-6)
    assert build("ExposureLoss", level=0.4)(output, output, Scaled()).item() == pytest.approx(0.0, abs=1e-6)


def test_exposure_compares_means_of_regions():
    """One of four regions is white; a region with a checkerboard counts as its mean."""
    output = torch.full((1, 3, 32, 32), 0.6)
    output[..., :16, :16] = 1.0
    checkers = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    output[..., 16:, 16:] = 0.3 + 0.6 * checkers
    assert build("ExposureLoss")(output, output, Scaled()).item() == pytest.approx(0.4 / 4, abs=1e-6)


def test_smoothness_of_ramps_and_exponentials_has_a_closed_form():
    """A ramp of step f has the loss 2 f^2; an exponential of rate r has, in the logarithm, the loss r^2."""
    image = picture(20, 30)
    loss = build("MapSmoothnessLoss", Scaled(0.5), form="squared")
    assert loss(image, image, Scaled(0.5)).item() == pytest.approx(2 * 0.25)
    assert loss(image, image, Scaled(0.0)) == 0

    class Exponential(Scaled):
        def predict_map(self, image):
            return super().predict_map(image).exp()

    log = build("MapSmoothnessLoss", Exponential(0.2), form="log")
    assert log(image, image, Exponential(0.2)).item() == pytest.approx(0.04, rel=1e-2)


def test_the_default_form_of_smoothness_depends_on_the_network():
    image = picture()
    for kind, form in (("PSENet", "log"), ("ZeroDCE", "squared")):
        enhancer = enhancer_of(kind)
        given = {form: build("MapSmoothnessLoss", form=form)(image, image, enhancer) for form in ("log", "squared")}
        assert build("MapSmoothnessLoss")(image, image, enhancer) == given[form]


def test_smoothness_shrinks_the_picture_to_side():
    seen = []

    class Watched(Scaled):
        def predict_map(self, image):
            seen.append(tuple(image.shape[-2:]))
            return super().predict_map(image)

    for side in (64, None):
        build("MapSmoothnessLoss", side=side)(picture(96, 128), picture(96, 128), Watched())
    build("MapSmoothnessLoss", side=64)(picture(1, 128), picture(1, 128), Watched())
    assert seen == [(48, 64), (96, 128), (2, 64)]


def test_a_pair_in_bytes_is_compared_in_the_range_0_to_1():
    output = torch.full((1, 3, 8, 12), 0.25)
    pair = torch.full((3, 8, 12), 51, dtype=torch.uint8)
    assert build("PairedLoss")(output, output, Scaled(), with_pair(pair)).item() == pytest.approx(0.05)
    squared = build("PairedLoss", distance=dict(type="llie_preproc.MSELoss"))
    assert squared(output, output, Scaled(), with_pair(pair)).item() == pytest.approx(0.05**2)


def test_pixels_outside_the_valid_part_of_a_pair_do_not_count():
    output = torch.full((1, 3, 8, 12), 0.25, requires_grad=True)
    valid = torch.zeros(1, 8, 12, dtype=torch.bool)
    valid[..., :6] = True
    sample = with_pair(torch.full((3, 8, 12), 51, dtype=torch.uint8), valid)
    loss = build("PairedLoss")(output, output, Scaled(), sample)
    loss.backward()
    assert loss.item() == pytest.approx(0.05 / 2)
    assert torch.equal(output.grad[0] != 0, valid.expand(3, -1, -1))


@pytest.mark.parametrize("sample", [None, BaseDataElement(metainfo=dict(img_path="dark/7.png"))])
def test_a_picture_without_a_pair_has_a_loss_of_zero_with_gradients(sample):
    enhancer = enhancer_of("ZeroDCE")
    image = picture()
    output = enhancer(image)
    assert build("PairedLoss")(image, output * torch.inf, enhancer, sample) == 0
    build("PairedLoss")(image, output, enhancer, sample).backward()
    assert all(p.grad is not None and not p.grad.any() for p in enhancer.parameters())
    with pytest.raises(ValueError, match="no gt_normal_light"):
        build("PairedLoss", missing="error")(image, output, enhancer, sample)


def test_self_enhancement_is_the_distance_to_the_pseudo_ground_truth():
    enhancer, image = enhancer_of(), picture(40, 56)
    loss = build("SelfEnhancementLoss", enhancer, side=28, num_references=2)
    torch.manual_seed(3)
    value = loss(image, image, enhancer)
    torch.manual_seed(3)
    small = torch.nn.functional.interpolate(image, (20, 28), mode="bilinear", antialias=True)
    output = enhancer(small)
    candidates = [small, output.clamp(0, 1), *reference_images(small, 2, (0.0, 3.0), (-2.0, 0.0))]
    expected = (output - pseudo_ground_truth(candidates)).square().mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert value > 0


@pytest.mark.parametrize("size", [(300, 20), (9, 5)])
def test_self_enhancement_takes_pictures_of_any_shape(size):
    enhancer = enhancer_of()
    value = build("SelfEnhancementLoss", enhancer)(picture(*size), picture(*size), enhancer)
    assert torch.isfinite(value)


@pytest.mark.further
def test_self_enhancement_brightens_a_dark_picture():
    enhancer, image = enhancer_of(), picture(48, 48, brightest=0.2)
    loss = build("SelfEnhancementLoss", enhancer)
    optimiser = torch.optim.Adam(enhancer.parameters(), lr=3e-3)
    before = enhancer(image).mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        loss(image, image, enhancer).backward()
        optimiser.step()
    assert enhancer(image).mean().item() > before + 0.05


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("FidelityLoss", dict(side=0), "side must be a whole number of at least 1"),
        ("FidelityLoss", dict(map_side=-1), "map_side must be a whole number of at least 1"),
        ("FidelityLoss", dict(side=64, map_side=32), "side and map_side cannot be combined"),
        ("ExposureLoss", dict(level=1.5), "level must be a number of at least 0 and of at most 1"),
        ("MapSmoothnessLoss", dict(form="cubic"), "'cubic'"),
        ("MapSmoothnessLoss", dict(side=1), "side must be a whole number of at least 2"),
        ("PairedLoss", dict(missing="ignore"), "'ignore'"),
        ("SelfEnhancementLoss", dict(side=0), "side must be a whole number of at least 1"),
        ("SelfEnhancementLoss", dict(num_references=0), "num_references"),
        ("SelfEnhancementLoss", dict(patch=24), "patch must be an odd whole number"),
    ],
)
def test_bad_options_are_named(name, options, match):
    with pytest.raises(ValueError, match=match):
        build(name, **options)


def test_enhancers_that_a_loss_cannot_train_are_named():
    with pytest.raises(ValueError, match="IAMLUNet has none"):
        build("MapSmoothnessLoss", enhancer_of("IAMLUNet", width=4))
    with pytest.raises(ValueError, match="CollaBA has 2"):
        build("SelfEnhancementLoss", enhancer_of("CollaBA", scale=2))
    with pytest.raises(ValueError, match="bind"):
        build("FidelityLoss")(picture(), picture(), Scaled())


def test_a_pair_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"dark/7\.png.*\(3, 40, 56\).*\(3, 40, 55\)"):
        build("PairedLoss")(picture(), picture(), Scaled(), with_pair(normal_light(40, 55)))
