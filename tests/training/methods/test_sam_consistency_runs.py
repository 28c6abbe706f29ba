"""``llie train`` with ``SamConsistency`` learns, resumes to the same weights, and saves no SAM in checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.places import ROOT

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from mmengine.config import Config
from PIL import Image

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main, parse_args
from llie_preproc.mm.runner_parts import saved_checkpoints
from llie_preproc.segmentation import build_sam
from tests.support.interrupted_runs import Interrupted
from tests.support.sam_models import TINY
from tests.support.sam_training import TERMS, pixels
from training.run_checkpoints import read_run
from training.runner import build_runner, training_config


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """Path of the weights of a tiny SAM as segment-anything initialises it; with these, a few steps lower the loss."""
    path = tmp_path_factory.mktemp("sam") / "smooth.safetensors"
    torch.manual_seed(0)
    save_state_dict(build_sam("small", **TINY).state_dict(), path)
    return str(path)


PICTURES = 8


@pytest.fixture(scope="module")
def made_set(tmp_path_factory):
    """A folder of pairs of 64x64 pictures and annotations of a rectangle in each."""
    root = tmp_path_factory.mktemp("masked")
    images, annotations = [], []
    for i in range(PICTURES):
        day = pixels(10 + i).permute(1, 2, 0).numpy()
        for folder, factor in (("day", 1.0), ("ev-4", 0.25)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray((factor * day).round().astype(np.uint8)).save(root / folder / f"{i:04}.png")
        images.append({"id": i, "file_name": f"{i:04}.png", "width": 64, "height": 64})
        corners = [4 * i, 5, 4 * i + 20, 5, 4 * i + 20, 30, 4 * i, 30]
        annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "segmentation": [corners], "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def rendered_options(root, checkpoint):
    """Options that give the shipped config the pictures of ``made_set`` and a tiny SAM."""
    options = [f"model.sam.checkpoint={checkpoint}"]
    options += [f"model.sam.{name}={'[1]' if name == 'global_attn_indexes' else value}" for name, value in TINY.items()]
    for part in ("train", "val"):
        dataset = f"{part}_dataloader.dataset"
        options += [
            f"{dataset}.low={root}/ev-4",
            f"{dataset}.high={root}/day",
            f"{dataset}.ann_file={root}/annotations.json",
        ]
    return [*options, "train_dataloader.dataset.size=64", "train_dataloader.batch_size=4"]


RENDERED = ROOT / "mm_configs" / "segmentation" / "psenet_small-sam_rendered.py"


@pytest.fixture
def train(made_set, smooth, tmp_path, on_the_cpu):
    config = Config.fromfile(RENDERED)

    def run(name, *options, interrupt=None, resume=False):
        config.custom_hooks = [dict(type="llie_preproc.IterationSeed"), dict(type="llie_preproc.ExportEnhancer")]
        if interrupt:
            config.custom_hooks.append(dict(type="llie_preproc.InterruptAt", iteration=interrupt))
        path = tmp_path / f"{name}.py"
        config.dump(path)
        arguments = [str(path), "--out", str(tmp_path / name), *(["--resume"] if resume else [])]
        arguments += ["--cfg-options", *rendered_options(made_set, smooth), *options]
        assert main(["train", *arguments]) == 0
        return read_run(saved_checkpoints(tmp_path / name)[-1])

    return run


# A SAM with random weights cannot follow annotated masks, so the feature term has the largest weight.
SHORT = ["train_cfg.max_iters=6", "default_hooks.checkpoint.interval=1", "train_dataloader.batch_size=8"]
SHORT += ["model.feature_weight=1.0", "model.mask_bce_weight=0.5", "model.mask_dice_weight=0.5"]


@pytest.mark.further
def test_a_run_learns_resumes_and_saves_no_sam(train):
    whole = train("whole", *SHORT)
    history = {
        name: list(whole["message_hub"]["log_scalars"][f"train/{name}"]._log_history) for name in ("loss", *TERMS)
    }
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["loss_feature"][-1] < 0.5 * history["loss_feature"][0]
    assert all(name.startswith("enhancer.") for name in whole["state_dict"])
    with pytest.raises(Interrupted):
        train("cut", *SHORT, interrupt=3)
    resumed = train("cut", *SHORT, resume=True)["state_dict"]
    assert all(torch.equal(value, resumed[name]) for name, value in whole["state_dict"].items())


def test_the_rendered_config_trains_the_enhancer_alone(made_set, tiny_sam_checkpoint, tmp_path, on_the_cpu):
    arguments = [
        str(RENDERED),
        "--out",
        str(tmp_path),
        "--cfg-options",
        *rendered_options(made_set, tiny_sam_checkpoint),
    ]
    args = parse_args(["train", *arguments])
    runner = build_runner(training_config(args), args)
    optimised = {id(p) for group in runner.optim_wrapper.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in runner.model.enhancer.parameters()}
    batch = next(iter(runner.train_dataloader))
    assert batch["inputs"][0].shape == (3, 64, 64)
    assert batch["data_samples"][0].masks.shape == (1, 64, 64)
