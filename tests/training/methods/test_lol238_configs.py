"""The configs on 238 pairs of LOL-v1 hold 24 pairs out, and train the four papers' networks by their methods."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from PIL import Image

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.registry import DATASETS, MODELS
from tests.support.configs import read_config
from tests.support.networks import parameter_count
from tests.support.places import ROOT
from training.datasets import Draw
from training.feature_encoders import SqueezeNetEncoder

BASE = ROOT / "mm_configs" / "_base_"
LISTS = BASE / "lol_v1_238"
CONFIGS = {
    "lol238/mirror_iaml": ("IAMLUNet", 486_526),
    "lol238/mean_teacher_semi_llie": ("SemiLLIE", 610_548),
    "lol238/bilevel_collaba_x2": ("CollaBA", 1_338_065),
    "psenet_sice_scenes": ("PSENet", 15_251),
}
# Steps of the large networks take long; the width of these is an argument.
SMALL = {"IAMLUNet": dict(width=4), "SemiLLIE": dict(width=8, groups=1, states=2), "CollaBA": dict(width=16)}


def numbers(name: str) -> list[str]:
    return (LISTS / f"{name}.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def variables(tmp_path_factory) -> dict[str, str]:
    """Environment variables of the configs: folders with pictures of the listed names, and SqueezeNet's weights."""
    root = tmp_path_factory.mktemp("sets")
    day = Image.fromarray(np.random.default_rng(0).integers(60, 220, (130, 134, 3), dtype=np.uint8))
    night = day.point(lambda level: level // 8)

    def write(folder: str, picture: Image.Image, names: list[str]) -> str:
        (root / folder).mkdir(parents=True)
        for name in names:
            picture.save(root / folder / name)
        return str(root / folder)

    for part, low, high in (("our485", "png", "png"), ("our485_more", "webp", "jpg")):
        names = numbers(f"{part}_train") + numbers(f"{part}_val")
        write(f"lol/{part}/low", night, [f"{name}.{low}" for name in names])
        write(f"lol/{part}/high", day, [f"{name}.{high}" for name in names])
    lists = [(BASE / f"sice_part1_{kind}.txt").read_text("utf-8").split() for kind in ("well_exposed", "train")]
    save_state_dict(
        SqueezeNetEncoder(checkpoint=None, normalisation="caffe").features.state_dict(prefix="features."),
        str(root / "squeezenet.safetensors"),
    )
    return {
        "LOLV1_ROOT": str(root / "lol"),
        "LOLV1_MORE": str(root / "lol/our485_more"),
        "COCO_TRAIN_ROOT": write("coco", day, ["1.png"]),
        "SICE_PART1_ROOT": write("sice", day, sorted({*lists[0], *lists[1]})),
        "UNPAIRED_ROOT": write("unpaired", night, ["1.png", "2.png"]),
        "SQUEEZENET_CAFFE": str(root / "squeezenet.safetensors"),
    }


def test_the_lists_hold_out_whole_blocks_of_numbers() -> None:
    parts = {
        kind: [int(n) for part in ("our485", "our485_more") for n in numbers(f"{part}_{kind}")]
        for kind in ("train", "val")
    }
    assert (len(parts["train"]), len(parts["val"])) == (214, 24)
    everything = sorted(parts["train"] + parts["val"])
    assert len(set(everything)) == 238
    blocks = [kind for kind, _ in itertools.groupby(number in parts["val"] for number in everything)]
    assert blocks.count(True) == 5


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_its_network_and_its_sets(name: str, variables: dict[str, str]) -> None:
    cfg = read_config(ROOT / "mm_configs" / "enhancers" / f"{name}.py", **variables)
    kind, parameters = CONFIGS[name]
    model = MODELS.build(cfg.model)
    assert type(model.enhancer).__name__ == kind
    assert parameter_count(model.enhancer) == parameters
    train, held_out = (DATASETS.build(cfg[f"{part}_dataloader"].dataset) for part in ("train", "val"))
    train.check(batched=True)
    if "lol238" in name:
        assert len(held_out) == 24
        scale = model.enhancer.scale
        item = held_out[0]
        shape = item["inputs"].shape
        assert item["data_samples"].target.shape == (3, scale * shape[1], scale * shape[2])


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_of_a_config_change_what_learns(name: str, variables: dict[str, str]) -> None:
    cfg = read_config(ROOT / "mm_configs" / "enhancers" / f"{name}.py", **variables)
    cfg.model.enhancer.update(SMALL.get(CONFIGS[name][0], {}))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    before = {key: value.clone() for key, value in model.enhancer.named_parameters() if value.requires_grad}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    for step in range(2):
        batch = pseudo_collate([train[Draw(index, 10 * step + index)] for index in range(2)])
        losses = model.train_step(batch, wrapper)
        assert all(torch.isfinite(value).all() for value in losses.values())
    unmoved = [
        key for key, value in model.enhancer.named_parameters() if key in before and torch.equal(value, before[key])
    ]
    # A layer of one narrow channel may be dead at its start.
    assert len(unmoved) < 0.1 * len(before), unmoved
