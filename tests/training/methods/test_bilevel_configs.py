"""The shipped configs of bi-level training have the paper's options, and their runs export and resume."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from PIL import Image
from torch import Tensor

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.registry import MODELS
from tests.support.ablations import ablation_rows
from tests.support.bilevel_methods import SMALL
from tests.support.configs import read_config
from training.methods.bilevel import BilevelAdversarial
from training.run_checkpoints import read_run

CONFIGS = Path("mm_configs/enhancers")
PAPER = {"pixel", "perceptual", "illumination", "adversarial"}
TABLE_5 = ablation_rows("CollaBA, Table 5")
FIG_14 = ablation_rows("CollaBA, Fig. 14")


def configured(name: str, row: str) -> tuple[BilevelAdversarial, Config]:
    """Give a shipped config the options ``row`` and small networks; return its method and the config."""
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
def test_the_options_of_each_ablation_build_its_method(row: str, difference: dict) -> None:
    model, cfg = configured("collaba_x2_rellisur", row)
    assert facts(model) == FULL | dict(bia=False) | difference
    # The optimisers of the config fit the parts of the changed method.
    assert set(build_optim_wrapper(model, cfg.optim_wrapper).keys()) == {"enhancer", "discriminator"}


@pytest.mark.parametrize("code", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_shipped_configs_have_the_papers_settings(scale: int, code: bool) -> None:
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
    # A run saves a dump of its config, which must be valid Python.
    assert Config.fromstring(cfg.dump(), ".py").model == cfg.model


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    """Options that give a shipped config a small set in RELLISUR's layout and a small VGG without weights."""
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
