"""The shipped configs train through a detector, resume to the same weights, and save no detector in checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.runner import Runner
from PIL import Image

from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import saved_checkpoints
from llie_preproc.registry import DATASETS, MODELS
from tests.support.configs import read_config
from tests.support.frozen_detectors import write_detector
from tests.support.interrupted_runs import Interrupted
from tests.support.networks import parameter_count
from tests.support.places import ROOT
from tests.support.sam_training import pixels
from training.datasets import Draw
from training.run_checkpoints import read_run

FOLDER = ROOT / "mm_configs" / "enhancers"
CONFIGS = {"detector_consistency_yolox-nano": "GainUNet", "detector_consistency_yolox-nano_iaml": "IAMLUNet"}
WELL_EXPOSED = ROOT / "mm_configs" / "_base_" / "sice_part1_well_exposed.txt"
TERMS = ("loss_l1", "loss_feature", "loss_score")


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """Environment variables of the configs: folders of small day pictures, and the weights of a tiny YOLOX."""
    root = tmp_path_factory.mktemp("day")
    names = WELL_EXPOSED.read_text(encoding="utf-8").split()
    for folder, files in (("coco", ["0.png", "1.png", "2.png"]), ("lol", ["0.png"]), ("sice", [*names, "dark.png"])):
        (root / folder).mkdir()
        for i, name in enumerate(files):
            day = pixels(10 + i % 7, 96, 128).permute(1, 2, 0).numpy()
            Image.fromarray(day).save(root / folder / name)
    return {
        "COCO_TRAIN_ROOT": str(root / "coco"),
        "WELL_LIT_ROOT": str(root / "lol"),
        "SICE_PART1_ROOT": str(root / "sice"),
        "YOLOX_NANO_COCO": write_detector(root, "yolox")["checkpoint"],
    }


def config_of(name, variables):
    """A shipped config with a tiny YOLOX, a tiny network and small crops."""
    cfg = read_config(FOLDER / f"{name}.py", **variables)
    cfg.model.detector.config = cfg.model.detector.checkpoint.replace(".pth", ".py")
    sizes = {"GainUNet": {"channels": (8, 12), "blocks": (1, 1)}, "IAMLUNet": {"width": 4, "depth": 2}}
    cfg.model.enhancer.update(sizes[CONFIGS[name]])
    for dataset in cfg.train_dataloader.dataset.datasets:
        dataset.transforms[0].least = dataset.transforms[1].size = 64
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=4)
    return cfg


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_its_network_and_its_sets(name, variables):
    cfg = config_of(name, variables)
    model = MODELS.build(cfg.model)
    assert type(model.enhancer).__name__ == CONFIGS[name]
    assert type(model.detectors[0].model).__name__ == "YOLOX"
    assert model.average is not None
    mixed = DATASETS.build(cfg.train_dataloader.dataset)
    mixed.check(batched=True)
    assert [len(part) for part in mixed.parts.datasets] == [3, 1, 234]
    items = [mixed[Draw(0, seed)] for seed in range(40)]
    assert all(item["inputs"].shape == item["data_samples"].target.shape == (3, 64, 64) for item in items)
    untouched = [torch.equal(item["inputs"], item["data_samples"].target) for item in items]
    levels = [
        (item["inputs"].float().mean() / item["data_samples"].target.float().mean()).item()
        for item, same in zip(items, untouched, strict=True)
        if not same
    ]
    # A fifth of the pictures stays as it is; four deviations of 40 draws are 0.25.
    assert 1 <= sum(untouched) <= 18
    assert np.median(levels) < 0.6


@pytest.mark.parametrize(
    ("name", "parameters"), [(n, {"GainUNet": 670_840, "IAMLUNet": 486_526}[k]) for n, k in CONFIGS.items()]
)
def test_the_networks_are_of_the_stated_size(name, parameters, variables):
    cfg = read_config(FOLDER / f"{name}.py", **variables)
    assert parameter_count(build_enhancer(cfg.model.enhancer, checkpoint=None)) == parameters
    assert cfg.model.detector.config == "mmdet::yolox/yolox_nano_8xb8-300e_coco.py"
    assert cfg.model.enhancer.type == f"llie_preproc.{CONFIGS[name]}"


def test_the_list_names_pictures_of_sice_part_1_once():
    names = WELL_EXPOSED.read_text(encoding="utf-8").split()
    assert len(set(names)) == len(names) == 234
    assert all(name.endswith(".jpg") and 1 <= int(name.removesuffix(".jpg")) <= 2002 for name in names)


@pytest.mark.further
def test_the_listed_pictures_are_well_exposed(shared_data):
    folder = shared_data / "sice_part1_256"
    levels = [np.asarray(Image.open(folder / n).convert("L")).mean() for n in WELL_EXPOSED.read_text().split()]
    assert min(levels) > 60
    assert max(levels) < 190


def test_yolox_nano_takes_its_weights_and_gives_three_levels(shared_data, variables):
    weights = shared_data / "reference_weights" / "detectors" / "yolox_nano_coco_mmdet.pth"
    cfg = read_config(FOLDER / "detector_consistency_yolox-nano.py", **{**variables, "YOLOX_NANO_COCO": str(weights)})
    model = MODELS.build(cfg.model)
    [detector] = model.detectors
    assert detector.levels == (0, 1, 2)
    target = pixels(0, 64, 96)
    with torch.no_grad():
        features = detector.features(target[None] / 255)
        assert [maps.shape[1] for maps in detector.scores(features)] == [80] * 3 + [1] * 3
    with pytest.raises(FileNotFoundError, match=r"yolox_nano_coco_mmdet\.pth"):
        MODELS.build(
            {**cfg.model, "detector": {**cfg.model.detector, "checkpoint": "absent/yolox_nano_coco_mmdet.pth"}}
        )


@pytest.fixture
def train(variables, tmp_path, on_the_cpu):
    def run(name, config="detector_consistency_yolox-nano", interrupt=None, resume=False, flags=()):
        cfg = config_of(config, variables)
        cfg.train_cfg.max_iters = cfg.param_scheduler[0].total_steps = 6
        cfg.default_hooks.checkpoint.interval = cfg.default_hooks.logger.interval = 1
        cfg.custom_hooks = [dict(type="llie_preproc.IterationSeed"), dict(type="llie_preproc.ExportEnhancer")]
        if interrupt:
            cfg.custom_hooks.append(dict(type="llie_preproc.InterruptAt", iteration=interrupt))
        path = tmp_path / f"{name}.py"
        cfg.dump(path)
        assert main(["train", str(path), "--out", str(tmp_path / name), *flags, *(["--resume"] if resume else [])]) == 0
        return read_run(saved_checkpoints(tmp_path / name)[-1])

    return run


def test_a_run_logs_its_terms_resumes_bit_by_bit_and_saves_no_detector(train, tmp_path):
    whole = train("whole")
    history = whole["message_hub"]["log_scalars"]
    for term in ("loss", *TERMS):
        values = list(history[f"train/{term}"]._log_history)
        assert len(values) == 6
        assert all(np.isfinite(values))
    assert {name.partition(".")[0] for name in whole["state_dict"]} == {"enhancer", "average"}
    with pytest.raises(Interrupted):
        train("cut", interrupt=3)
    resumed = train("cut", resume=True)["state_dict"]
    assert whole["state_dict"].keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole["state_dict"].items())
    exported = list((tmp_path / "whole").rglob("enhancer.safetensors"))
    assert len(exported) == 1
    network = build_enhancer(
        {"type": "GainUNet", "channels": (8, 12), "blocks": (1, 1), "checkpoint": str(exported[0])}
    )
    average = {k.removeprefix("average."): v for k, v in whole["state_dict"].items() if k.startswith("average.")}
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())


@pytest.mark.slow(15)
def test_the_narrow_network_trains_in_mixed_precision(train):
    state = train("amp", "detector_consistency_yolox-nano_iaml", flags=["--amp"])["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_the_optimiser_has_the_enhancers_parameters_alone(variables, tmp_path, on_the_cpu):
    cfg = config_of("detector_consistency_yolox-nano", variables)
    cfg.work_dir = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optimised = {id(p) for group in wrapper.optimizer.param_groups for p in group["params"] if p.requires_grad}
    assert optimised == {id(p) for p in runner.model.enhancer.parameters()}
