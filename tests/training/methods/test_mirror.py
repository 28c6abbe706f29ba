"""``MirrorDistillation`` equals its equations in NumPy; the student gets all gradients, the teacher is its average."""

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from PIL import Image
from scipy.ndimage import zoom
from skimage.color import rgb2gray
from torch.nn import functional as F

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.registry import DATASETS, MODELS
from tests.support import random_pictures
from tests.support.ablations import ablation_rows
from tests.support.configs import read_config
from tests.support.training_runs import apart
from training.losses.mirror import cosine_loss, illumination_weight, luminance, mirror_loss, standardise
from training.methods.mirror import MirrorDistillation
from training.run_checkpoints import read_run

TERMS = ["loss_mse", "loss_ssim", "loss_mirror"]
LOSSES = {"mse": {"type": "llie_preproc.MSELoss"}, "ssim": {"type": "llie_preproc.SSIMLoss"}}
ROWS = {int(name[0]): options for name, options in ablation_rows("IAML, Table IV").items()}


def images(count=2, height=32, width=24, seed=0):
    return random_pictures.images(height, width, count, seed)


def maps(seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, *size, generator=generator) for c, size in ((6, (4, 3)), (4, (8, 6)), (2, (32, 24)))]


def samples(count=2, seed=9, **size):
    targets = (255 * images(count, seed=seed, **size)).byte()
    return [BaseDataElement(target=t) for t in targets]


def method(**options):
    torch.manual_seed(0)
    enhancer = {"type": "llie_preproc.IAMLUNet", "width": 4, "depth": 2}
    return MirrorDistillation(**{"enhancer": enhancer, "losses": LOSSES} | options).train()


def gradients(module):
    return [0.0 if p.grad is None else float(p.grad.abs().sum()) for p in module.parameters()]


def test_the_luminance_follows_bt_601():
    image = images()
    r, g, b = image.numpy().transpose(1, 0, 2, 3)
    assert np.allclose(luminance(image)[:, 0], 0.299 * r + 0.587 * g + 0.114 * b, atol=1e-6)
    assert luminance(torch.ones(1, 3, 2, 2)).allclose(torch.ones(1, 1, 2, 2))
    # The function of scikit-image follows BT.709.
    assert not np.allclose(luminance(image)[0, 0], rgb2gray(image[0].permute(1, 2, 0).numpy()), atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), base=st.floats(0, 2), extra=st.floats(0, 2), scale=st.floats(0.01, 1))
def test_the_weight_falls_with_the_luminance_between_its_bounds(seed, base, extra, scale):
    image = scale * images(seed=seed)
    weight, light = illumination_weight(image, base, base + extra), luminance(image)
    assert weight.shape == (2, 1, 32, 24)
    for w, y in zip(weight.flatten(1), light.flatten(1), strict=True):
        assert w.max().item() == pytest.approx(base + extra, abs=1e-5)
        assert w.min().item() == pytest.approx(base, abs=1e-4)
        assert w[y.argmin()] == w.max()
        assert (w[y.argsort()].diff() <= 1e-6).all()
        expected = base + extra * (1 - (y - y.min()) / (y.max() - y.min() + 1e-7))
        assert w.allclose(expected, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(red=st.floats(0, 1), green=st.floats(0, 1), blue=st.floats(0, 1))
def test_constant_illumination_gives_the_unweighted_mirror_loss(red, green, blue):
    image = torch.tensor([red, green, blue])[None, :, None, None].expand(2, 3, 32, 24)
    weight = illumination_weight(image)
    assert (weight == 1).all()
    assert mirror_loss(maps(0), maps(1), weight) == mirror_loss(maps(0), maps(1))


def test_the_darker_of_two_almost_equal_colours_has_the_full_weight():
    """Colours with different bytes never count as equal, however close their luminances are."""
    colours = torch.tensor([[0, 1, 7], [2, 1, 2]]) / 255  # luminances of 1.385 and 1.413 levels
    weight = illumination_weight(colours.T[None, :, None, :])
    assert weight.flatten().tolist() == pytest.approx([1.6, 1.0], abs=1e-3)


def test_standardised_maps_have_mean_0_and_deviation_1_over_each_sample():
    feature = 3 * maps(0)[0] + 5
    values = feature.double().numpy().reshape(2, -1)
    expected = (values - values.mean(1, keepdims=True)) / (values.std(1, keepdims=True) + 1e-6)
    assert np.allclose(standardise(feature).flatten(1), expected, atol=1e-5)


def test_the_mirror_loss_equals_numpy():
    """The loss is Eq. 5 to 9; bilinear resizing by an even factor averages the middle pixels of each block."""
    student, teacher, image = maps(0), maps(1), images()
    r, g, b = image.double().numpy().transpose(1, 0, 2, 3)
    light = 0.299 * r + 0.587 * g + 0.114 * b
    low, high = light.min((1, 2), keepdims=True), light.max((1, 2), keepdims=True)
    weight = 1 + 0.6 * (1 - (light - low) / (high - low + 1e-7))

    def standard(feature):
        values = feature.double().numpy()
        mean, deviation = values.mean((1, 2, 3), keepdims=True), values.std((1, 2, 3), keepdims=True)
        return (values - mean) / (deviation + 1e-6)

    levels = []
    for ours, theirs in zip(student, teacher, strict=True):
        factor = ours.shape[-1] / 24
        resized = zoom(weight, (1, factor, factor), order=1, grid_mode=True, mode="nearest")
        levels.append((resized[:, None] * np.abs(standard(ours) - standard(theirs))).mean())
    found = mirror_loss(student, teacher, illumination_weight(image))
    assert found.item() == pytest.approx(np.mean(levels), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    scales=st.lists(st.floats(0.1, 10), min_size=6, max_size=6),
    shifts=st.lists(st.floats(-5, 5), min_size=6, max_size=6),
)
def test_scales_and_shifts_of_the_maps_do_not_matter(scales, shifts):
    """Eq. 7 lets the decoders differ in the range of their maps at each level."""
    student, teacher, weight = maps(0), maps(1), illumination_weight(images())
    changed = [s * f + t for f, s, t in zip([*student, *teacher], scales, shifts, strict=True)]
    expected = mirror_loss(student, teacher, weight).item()
    assert mirror_loss(changed[:3], changed[3:], weight).item() == pytest.approx(expected, rel=1e-4)


def test_equal_maps_have_no_loss_and_constant_maps_a_finite_gradient():
    constant = [torch.ones(1, 2, 4, 4, requires_grad=True)]
    mirror_loss(constant, [torch.rand(1, 2, 4, 4)]).backward()
    assert constant[0].grad.isfinite().all()
    assert mirror_loss(maps(0), maps(0)) == 0
    assert cosine_loss(maps(0), maps(0)).item() == pytest.approx(0, abs=1e-6)
    assert cosine_loss(maps(0), [-f for f in maps(0)]).item() == pytest.approx(2, abs=1e-6)


def test_the_cosine_loss_equals_numpy():
    flat = [[f.double().numpy().reshape(2, -1) for f in maps(seed)] for seed in (0, 1)]
    norms = [[np.linalg.norm(f, axis=1) for f in features] for features in flat]
    cosines = [(a * b).sum(1) / n / m for a, b, n, m in zip(*flat, *norms, strict=True)]
    assert cosine_loss(maps(0), maps(1)).item() == pytest.approx(1 - np.mean(cosines), rel=1e-5)


@pytest.mark.parametrize("loss", [mirror_loss, cosine_loss])
@pytest.mark.parametrize("teacher", [maps(1)[:2], maps(1)[::-1], []])
def test_levels_that_do_not_fit_are_refused(loss, teacher):
    with pytest.raises(ValueError, match="equal shapes"):
        loss(maps(0), teacher)
    with pytest.raises(ValueError, match="equal shapes"):
        loss([], [])


@pytest.mark.parametrize("mirror", ["illumination", "standardised", "cosine"])
@pytest.mark.parametrize("term", TERMS)
def test_each_term_trains_the_student_and_not_the_teacher(mirror, term):
    model = apart(method(mirror=mirror))
    model.loss(images(), samples())[term].backward()
    # The head turns feature maps into the image, so the mirror loss has no gradient for it.
    expected = [n for n, _ in model.enhancer.named_parameters() if term != "loss_mirror" or "decoder.head" not in n]
    reached = [n for n, p in model.enhancer.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert reached == expected
    assert gradients(model.teacher_decoder) == [0.0] * len(gradients(model.teacher_decoder))


@pytest.mark.parametrize("mirror", ["illumination", "standardised", "cosine"])
def test_the_clean_pass_gives_the_encoder_no_gradient(mirror):
    """The encoder gets its gradient from the dark pass alone, for which the teacher's maps are constants."""
    model, image, clean = apart(method(mirror=mirror)), images(), samples()
    model.loss(image, clean)["loss_mirror"].backward()
    found = [p.grad.clone() for p in model.enhancer.encoder.parameters()]
    model.zero_grad()
    target = torch.stack([s.target for s in clean]).float() / 255
    with torch.no_grad():
        teacher = [f.clone() for f in model.teacher_decoder(model.enhancer.encoder(target))]
    student = model.enhancer.decoder(model.enhancer.encoder(image))
    weight = illumination_weight(image) if mirror == "illumination" else None
    loss = cosine_loss(student, teacher) if mirror == "cosine" else mirror_loss(student, teacher, weight)
    (0.8 * loss).backward()
    expected = [p.grad for p in model.enhancer.encoder.parameters()]
    assert all(torch.allclose(f, e, atol=1e-7) for f, e in zip(found, expected, strict=True))


def test_the_terms_follow_eq_10():
    model, image, clean = apart(method(mirror_weight=0.3, base_weight=0.5, max_weight=2.0)), images(), samples()
    target = torch.stack([s.target for s in clean]).float() / 255
    terms = model.loss(image, clean)
    assert list(terms) == TERMS
    assert terms["loss_mse"].item() == pytest.approx(F.mse_loss(model.enhancer(image), target).item(), rel=1e-5)
    student = model.enhancer.decode(model.enhancer.encode(image))
    teacher = model.teacher_decoder(model.enhancer.encode(target))
    expected = 0.3 * mirror_loss(student, teacher, illumination_weight(image, 0.5, 2.0))
    assert terms["loss_mirror"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_is_the_average_of_the_student():
    """Eq. 3 and 4 have a closed form after n steps: m^n w_0 + (1 - m) sum of m^(n - i) w_i."""
    model, momentum, steps = method(momentum=0.9), 0.9, 6
    wrapper = OptimWrapper(torch.optim.SGD(model.enhancer.parameters(), lr=0.05))
    history = [[p.detach().double().numpy().copy() for p in model.enhancer.decoder.parameters()]]
    for p, w in zip(model.teacher_decoder.parameters(), history[0], strict=True):
        assert (p.double().numpy() == w).all()
    data = {"inputs": list((255 * images()).byte()), "data_samples": samples()}
    for step in range(steps):
        data["inputs"] = list((255 * images(seed=step)).byte())
        model.train_step(data, wrapper)
        history.append([p.detach().double().numpy().copy() for p in model.enhancer.decoder.parameters()])
    assert any((a != b).any() for a, b in zip(history[0], history[-1], strict=True))
    for k, p in enumerate(model.teacher_decoder.parameters()):
        average = momentum**steps * history[0][k]
        average = average + (1 - momentum) * sum(momentum ** (steps - i) * history[i][k] for i in range(1, steps + 1))
        # The absolute tolerance is for weights below 1, the relative one for the few biases of 1 and 2.
        assert np.allclose(p.double().numpy(), average, rtol=1e-7, atol=1e-7)
    assert not model.teacher_decoder.training
    assert all(not p.requires_grad for p in model.teacher_decoder.parameters())


def test_the_average_follows_its_formula_in_double_precision():
    model = apart(method(momentum=0.999).double())
    before = [p.clone() for p in model.teacher_decoder.parameters()]
    model.after_step()
    for old, new, student in zip(
        before, model.teacher_decoder.parameters(), model.enhancer.decoder.parameters(), strict=True
    ):
        assert torch.allclose(new, 0.999 * old + 0.001 * student, rtol=0, atol=1e-14)


def test_mixed_precision_keeps_float32_losses_and_all_gradients():
    model = apart(method())
    exact = model.loss(images(), samples())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.loss(images(), samples())
    for name in TERMS:
        assert mixed[name].dtype == torch.float32
        assert mixed[name].item() == pytest.approx(exact[name].item(), rel=0.05)
        model.zero_grad()
        mixed[name].backward(retain_graph=True)
        assert all(g > 0 for g in gradients(model.enhancer.encoder))


def test_training_lowers_every_term():
    model, history = method(momentum=0.9), []
    optimiser = torch.optim.Adam(model.enhancer.parameters(), lr=2e-3)
    for _ in range(30):
        optimiser.zero_grad()
        terms = model.loss(0.2 * images(seed=9), samples(seed=9))
        sum(terms.values()).backward()
        optimiser.step()
        model.after_step()
        history.append([terms[name].item() for name in TERMS])
    assert all(last < limit * first for first, last, limit in zip(history[0], history[-1], [0.9, 1, 0.5], strict=True))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"enhancer": "PSENet"}, "PSENet cannot be trained by mirror distillation: it has no encode, decode"),
        ({"enhancer": "CLAHE"}, "no gradient flows through CLAHE"),
        ({"losses": {"mse": None}}, "at least one loss"),
        ({"mirror": "luminance"}, "mirror must be one of 'illumination', .* got 'luminance'"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"mirror_weight": -1.0}, "mirror_weight must be a number of at least 0, got"),
        ({"max_weight": 0.5}, "base_weight must be a number of at least 0 and of at most 0.5, got 1"),
    ],
)
def test_wrong_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        method(**options)


def test_wrong_pictures_are_named():
    model = method()
    with pytest.raises(ValueError, match="multiples of 4"):
        model.loss(images(height=30), samples(height=30))
    with pytest.raises(ValueError, match="the same shape"):
        model.loss(images(height=28), samples())
    with pytest.raises(ValueError, match="'target'"):
        model.loss(images(), [])
    with pytest.raises(ValueError, match="no teacher"):
        method(mirror=None).teach(images())


def config(name="iaml_lolv1", **options):
    cfg = read_config(f"mm_configs/enhancers/{name}.py")
    cfg.merge_from_dict({"model.enhancer.width": 4, "model.enhancer.depth": 2, **options})
    return cfg


@pytest.mark.parametrize("row", ROWS)
def test_options_of_table_iv_build_their_rows(row):
    options = parse_args(["train", "config.py", "--cfg-options", *ROWS[row].split()]).cfg_options
    model = MODELS.build(config(**options).model)
    terms = apart(model).loss(images(), samples())
    assert list(terms) == {1: TERMS[:1], 2: TERMS[:2]}.get(row, TERMS)
    assert model.mirror == {3: "cosine", 4: "standardised", 5: "illumination"}.get(row)
    assert (model.teacher_decoder is None) == (row < 3)


@pytest.mark.parametrize("name", ["iaml_lolv1", "iaml_lolv2_real", "iaml_lolv2_synthetic"])
def test_the_shipped_configs_have_the_schedule_of_the_paper(name):
    cfg = config(name)
    assert cfg.train_cfg.max_epochs == 500
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.train_dataloader.dataset.type == ("llie_preproc.LOLv1" if "lolv1" in name else "llie_preproc.LOLv2")
    assert cfg.val_dataloader.dataset.split == "test"
    assert isinstance(MODELS.build(cfg.model), MirrorDistillation)


@pytest.mark.parametrize(("name", "folder"), [("real", "Real_captured"), ("synthetic", "Synthetic")])
def test_the_shipped_sets_of_lol_v2_are_built(tmp_path, name, folder):
    for split in ("Train", "Test"):
        for kind in ("Low", "Normal"):
            (tmp_path / folder / split / kind).mkdir(parents=True)
            Image.new("RGB", (300, 260), 77).save(tmp_path / folder / split / kind / "1.png")
    cfg = read_config(f"mm_configs/enhancers/iaml_lolv2_{name}.py")
    sizes = {"train": (256, 256), "test": (260, 300)}
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset | {"root": str(tmp_path)})
        dataset.check()
        assert dataset[0]["inputs"].shape[1:] == sizes[loader.dataset.split]


def test_the_shipped_config_trains_and_resumes(tmp_path):
    """Only the network, the crops and the number of epochs are smaller than shipped."""
    rng = np.random.default_rng(0)
    for split in ("our485", "eval15"):
        for kind in ("low", "high"):
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / kind / f"{i}.png")
    cfg = config()
    single = {"num_workers": 0, "persistent_workers": False, "dataset": {"root": str(tmp_path)}}
    cfg.merge_from_dict({"train_dataloader": {"batch_size": 2} | single, "val_dataloader": single})
    cfg.train_dataloader.dataset.transforms[0].size = 32
    cfg.train_cfg.update(max_epochs=2, val_interval=1)
    cfg.dump(tmp_path / "config.py")
    work = tmp_path / "work"
    arguments = [str(tmp_path / "config.py"), "--out", str(work)]
    assert main(["train", *arguments, "--cfg-options", "train_cfg.max_epochs=1"]) == 0
    first = read_run(work / "epoch_1.pth")["state_dict"]
    assert main(["train", *arguments, "--resume"]) == 0
    second = read_run(work / "epoch_2.pth")["state_dict"]
    assert any(not torch.equal(first[k], second[k]) for k in first if k.startswith("teacher_decoder."))
    assert build_enhancer(dict(cfg.model.enhancer), checkpoint=work / "enhancer.safetensors")
