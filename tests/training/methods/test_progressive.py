"""The terms of ``ProgressiveSelfEnhancement`` equal closed forms, and its runs train, export and resume."""

import colorsys

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import uniform_filter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.ops import inverse_gamma
from llie_preproc.registry import MODELS
from tests.support import random_pictures
from tests.support.ablations import ablation_rows
from tests.support.configs import read_config
from training.losses import log_total_variation
from training.methods.progressive import (
    ProgressiveSelfEnhancement,
    pseudo_ground_truth,
    quality_score,
    reference_images,
)


def images(n=2, size=40, seed=0):
    return random_pictures.images(size, size, n, seed)


@settings(max_examples=20, deadline=None)
@given(number=st.integers(1, 4), value=st.floats(0.05, 0.6))
def test_references_span_the_published_ranges(number, value):
    image = torch.full((16, 3, 2, 2), value, dtype=torch.float64)
    references = reference_images(image, number, (0.0, 3.0), (-2.0, 0.0))
    assert len(references) == 2 * number
    for part, reference in enumerate(references):
        log_gamma = (torch.log1p(-reference) / torch.log1p(-image)).log()
        low, high = (0.0, 3.0) if part < number else (-2.0, 0.0)
        step, index = (high - low) / number, part % number
        assert ((log_gamma > low + step * index - 1e-4) & (log_gamma < low + step * (index + 1) + 1e-4)).all()
        assert ((reference >= image - 1e-9) == (part < number)).all()
        assert len(log_gamma[:, 0, 0, 0].unique()) > 1


def test_the_quality_score_follows_the_paper():
    image = images(1)
    pixels = image[0].permute(1, 2, 0).double().numpy()
    eps = 1 / 255
    # The mode 'mirror' of scipy is 'reflect' in torch: the border is not repeated.
    mean = uniform_filter(pixels, (25, 25, 0), mode="mirror").mean(axis=2)
    squares = uniform_filter(pixels**2, (25, 25, 0), mode="mirror").mean(axis=2)
    largest, smallest = pixels.max(axis=2), pixels.min(axis=2)
    expected = (squares - mean**2) * ((largest - smallest + eps) / (largest + eps)) / (abs(mean - 0.5) + eps)
    assert np.allclose(quality_score(image)[0, 0], expected, rtol=1e-3, atol=1e-5)
    hsv = colorsys.rgb_to_hsv(*pixels[3, 4])
    assert (largest - smallest)[3, 4] / largest[3, 4] == pytest.approx(hsv[1])


def test_each_pixel_of_the_pseudo_ground_truth_is_the_best_candidate():
    candidates = [images(seed=s) ** (1 + s) for s in range(4)]
    chosen = pseudo_ground_truth(candidates)
    scores = torch.stack([quality_score(c) for c in candidates])
    best = scores.argmax(dim=0)
    for index, candidate in enumerate(candidates):
        assert torch.equal(torch.where(best == index, chosen, 0), torch.where(best == index, candidate, 0))


def test_log_total_variation_of_a_geometric_ramp_has_a_closed_form():
    ramp = torch.exp(0.3 * torch.arange(6.0)) - 1e-3
    assert log_total_variation(ramp.expand(1, 3, 5, 6)).item() == pytest.approx(0.09, rel=1e-4)
    assert log_total_variation(ramp[:, None].expand(1, 3, 6, 5)).item() == pytest.approx(0.09, rel=1e-4)
    assert log_total_variation(torch.full((1, 3, 4, 4), 2.0)).item() == 0


def method(**options):
    torch.manual_seed(0)
    return ProgressiveSelfEnhancement("PSENet", **options).train()


@pytest.mark.parametrize("term", ["loss_rec", "loss_tv"])
def test_each_term_reaches_the_network(term):
    model = method()
    model.loss(images())[term].backward()
    total = sum(float(p.grad.abs().sum()) for p in model.enhancer.parameters() if p.grad is not None)
    assert np.isfinite(total)
    assert total > 0


def test_a_batch_is_trained_one_iteration_after_it_was_seen():
    model, first, second = method(tv_weight=0.0), images(seed=1), images(seed=2)
    model.loss(first)
    torch.manual_seed(7)
    with torch.no_grad():
        references = reference_images(second, 1, (0.0, 3.0), (-2.0, 0.0))
        target = pseudo_ground_truth([second, model.enhancer(second), *references])
    torch.manual_seed(7)
    model.loss(second)
    with torch.no_grad():
        for p in model.enhancer.parameters():
            p.mul_(1.1)
        expected = F.mse_loss(model.enhancer(second), target)
    assert model.loss(images(seed=3))["loss_rec"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_smoothness_term_is_alpha_times_total_variation():
    model = method(tv_weight=7.0)
    image = images()
    expected = 7 * log_total_variation(model.enhancer.gamma_map(image))
    assert model.loss(image)["loss_tv"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("enhancer", "match"),
    [("ZeroDCE", "gamma_map"), ("CLAHE", "no gradient"), ("CollaBA", "scale 1"), ("Identity", "no parameters")],
)
def test_networks_that_the_method_cannot_train_are_refused(enhancer, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build({"type": "llie_preproc.ProgressiveSelfEnhancement", "enhancer": enhancer})


@pytest.mark.further
def test_training_brightens_dark_pictures():
    torch.manual_seed(0)
    model = method()
    dark = inverse_gamma(images(2, 32), 0.15)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        sum(model.loss(dark).values()).backward()
        optimiser.step()
    with torch.no_grad():
        assert model.enhancer(dark).mean() > dark.mean() * 2


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ("ZeroDCE + our pseudo GT", "enhancer", "ZeroDCE"),
        ("N = 3", "num_references", 3),
        ("N = 5", "num_references", 5),
        ("# channels x 0.5", "parameters", 15_251 // 4 + 800),
        ("# channels x 2", "parameters", 15_251 * 4 - 3_000),
        ("well-exposed level 0.4", "well_exposed", 0.4),
        ("well-exposed level 0.6", "well_exposed", 0.6),
    ],
)
def test_the_options_of_each_ablation_build_its_method(row, field, value):
    options = ablation_rows("PSENet, Tables 2 and 5 to 7")[row].split()
    cfg = read_config("mm_configs/enhancers/psenet_sice.py")
    cfg.merge_from_dict(parse_args(["train", "config.py", "--cfg-options", *options]).cfg_options)
    model = MODELS.build(cfg.model)
    if field == "enhancer":
        assert type(model.enhancer).__name__ == value
    elif field == "parameters":
        # Inner convolutions grow with the square of the width, the first and the last in proportion to it.
        assert sum(p.numel() for p in model.enhancer.parameters()) == pytest.approx(value, rel=0.2)
    else:
        assert getattr(model, field) == value
    assert set(model.loss(images())) == {"loss_rec"} | ({"loss_tv"} if model.tv_weight else set())


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("train", "low", "high"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")
    cfg = read_config("mm_configs/enhancers/psenet_sice.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path / "work"),
            "train_dataloader": {"batch_size": 2, "num_workers": 0, "persistent_workers": False},
            "train_dataloader.dataset": {"folder": str(tmp_path / "train"), "size": (32, 32)},
            "val_dataloader": {"num_workers": 0},
            "val_dataloader.dataset": {"low": str(tmp_path / "low"), "high": str(tmp_path / "high")},
            "train_cfg": {"max_epochs": 3, "val_interval": 1},
        }
    )
    path = tmp_path / "config.py"
    cfg.dump(path)
    return path


def test_a_run_trains_validates_exports_and_resumes(config, tmp_path):
    work = tmp_path / "work"
    main(["train", str(config), "--out", str(work), "--cfg-options", "train_cfg.max_epochs=2"])
    assert {p.name for p in work.glob("*.pth")} == {"epoch_1.pth", "epoch_2.pth"}
    after_two = build_enhancer("PSENet", checkpoint=work / "enhancer.safetensors").state_dict()
    main(["train", str(config), "--out", str(work), "--resume"])
    assert {p.name for p in work.glob("*.pth")} == {"epoch_2.pth", "epoch_3.pth"}
    after_three = build_enhancer("PSENet", checkpoint=work / "enhancer.safetensors").state_dict()
    assert any(not torch.equal(v, after_three[k]) for k, v in after_two.items())
    logs = "\n".join(p.read_text() for p in work.rglob("*.log"))
    assert "resumed epoch: 2" in logs
    assert logs.count("iqa/psnr") >= 3
    assert not list(work.rglob("*.tmp"))
    events = EventAccumulator(str(next(work.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    assert {"loss", "loss_tv", "lr", "iqa/psnr"} <= set(events.Tags()["scalars"])
    # A logged image shows input, result and reference side by side.
    shown = [events.Images(f"val_{i}") for i in range(4)]
    assert all((image.width, image.height) == (3 * 48, 40) for images in shown for image in images)
