"""Tiny runs of every training method, for the tests of resuming, of several processes and of mixed precision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from llie_preproc.commands.llie import main

SIZE = 32
PICTURES = 16
EPOCHS = 3

HOOKS = [{"type": "llie_preproc.IterationSeed"}, {"type": "llie_preproc.ExportEnhancer"}]
_CHECKPOINTS = {"type": "llie_preproc.MethodCheckpointHook", "interval": 1, "max_keep_ckpts": 2}
_L1 = {"l1": {"type": "llie_preproc.L1Loss"}}
_NETWORK = {"type": "llie_preproc.IAMLUNet", "width": 4, "depth": 2}
_PAIRS = {"type": "llie_preproc.PairedFolders", "low": "low", "high": "high"}
_NIGHT = {"type": "llie_preproc.UnpairedFolder", "folder": "night"}
_CROP = {"transforms": [{"type": "llie_preproc.PairedRandomCrop", "size": 28}, {"type": "llie_preproc.RandomDihedral"}]}
# Without a file the weights are random, which is enough for these runs.
_ENCODER = {
    "type": "llie_preproc.RAMEncoder",
    "checkpoint": None,
    "image_size": 32,
    "window_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "projection": 16,
}
_PERCEPTUAL = {"type": "llie_preproc.PerceptualLoss", "encoder": _ENCODER, "stages": ["s1", "s2"], "distance": "l2"}
METHODS = {
    "supervised": (
        {"type": "llie_preproc.SupervisedTraining", "enhancer": _NETWORK, "losses": _L1, "ema": 0.9},
        _PAIRS | _CROP,
    ),
    "stochastic_depth": (
        {
            "type": "llie_preproc.SupervisedTraining",
            "enhancer": {"type": "SemiLLIE", "width": 8, "groups": 1, "states": 4, "drop_path": 0.5},
            "losses": _L1,
        },
        _PAIRS | {"size": (16, 16)},
    ),
    "mirror": (
        {"type": "llie_preproc.MirrorDistillation", "enhancer": _NETWORK, "losses": _L1, "momentum": 0.9},
        _PAIRS | _CROP,
    ),
    "mean_teacher": (
        {
            "type": "llie_preproc.SemiSupervisedMeanTeacher",
            "enhancer": _NETWORK,
            "losses": _L1 | {"perceptual": _PERCEPTUAL},
            "contrastive": {"type": "llie_preproc.ContrastiveLoss", "encoder": _ENCODER},
            "discriminator": {"type": "llie_preproc.PatchDiscriminator", "norm": "batch", "width": 4},
        },
        {
            "type": "llie_preproc.SemiSupervisedSet",
            "paired": _PAIRS | _CROP,
            "unpaired": _NIGHT,
            "strong": {"type": "llie_preproc.StrongAugmentation"},
        },
    ),
    "bilevel": (
        {
            "type": "llie_preproc.BilevelAdversarial",
            "enhancer": _NETWORK,
            "losses": _L1,
            "discriminators": {"local": {"type": "llie_preproc.PatchDiscriminator", "width": 4}},
            "illumination_weight": 0.0,
            "ema": 0.9,
        },
        _PAIRS | _CROP,
    ),
    "progressive": ({"type": "llie_preproc.ProgressiveSelfEnhancement", "enhancer": {"type": "PSENet"}}, _NIGHT),
}


def make_pictures(root: Path) -> None:
    """Write random pairs into ``low`` and ``high``, and dark pictures into ``night``."""
    rng = np.random.default_rng(0)
    for folder, brightest in (("low", 80), ("high", 256), ("night", 60)):
        (root / folder).mkdir(parents=True)
        for i in range(PICTURES):
            pixels = rng.integers(0, brightest, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i:02}.png")


def write_config(root: Path, name: str, batch: int = 8, **options: object) -> Path:
    """Write the config of a method's run on the pictures in ``root``; ``options`` are dotted keys that override it."""
    method, dataset = METHODS[name]
    step = {"optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}}
    optim_wrapper = {"constructor": "llie_preproc.MethodOptimWrapperConstructor", "enhancer": step}
    if {"discriminator", "discriminators"} & set(method):
        optim_wrapper["discriminator"] = step
    cfg = Config(
        {
            "default_scope": "mmengine",
            "model": method,
            "train_dataloader": {
                "batch_size": batch,
                "num_workers": 0,
                "sampler": {"type": "llie_preproc.DrawSampler"},
                "dataset": dataset,
            },
            "optim_wrapper": optim_wrapper,
            "train_cfg": {"by_epoch": True, "max_epochs": EPOCHS},
            "default_hooks": {"checkpoint": _CHECKPOINTS},
            "custom_hooks": HOOKS,
            "randomness": {"seed": 3},
            "param_scheduler": [{"type": "CosineAnnealingLR", "T_max": EPOCHS, "by_epoch": True}],
        }
    )
    _root(cfg.train_dataloader.dataset, root)
    cfg.merge_from_dict(options)
    path = root / f"{name}_{batch}{'_changed' if options else ''}.py"
    cfg.dump(path)
    return path


def apart(model: Any) -> Any:
    """Change the student of a method so that it differs from its teacher, as it does after some training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.enhancer.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return model


def _root(config: dict, root: Path) -> None:
    """Set the folders of a dataset config, and of those inside it."""
    for key, value in config.items():
        if isinstance(value, dict):
            _root(value, root)
        elif key in ("low", "high", "folder"):
            config[key] = str(root / value)


if __name__ == "__main__":
    # Each process of a distributed test runs the configs one after the other.
    work, *configs = sys.argv[1:]
    for config in configs:
        if status := main(["train", config, "--out", f"{work}/{Path(config).stem}", "--launcher", "pytorch"]):
            sys.exit(status)
