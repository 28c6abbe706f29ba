"""Losses inside an ``EnhancedDetector`` get pairs from the pipeline, and get their state back when a run resumes."""

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate

from llie_preproc import build_enhancer
from tests.support.made_sets import write_set
from tests.support.mmdet_models import build, mmdet_config, raw_batch


def wrapper(losses, seed=0):
    """RetinaNet behind a small enhancer, with random weights."""
    torch.manual_seed(seed)
    network = build_enhancer(dict(type="ZeroDCE", channels=4, iterations=2), checkpoint=None)
    return build(
        dict(
            type="llie_preproc.EnhancedDetector",
            detector=mmdet_config("retinanet").model,
            enhancer=network,
            trainable=True,
            losses=losses,
        )
    ).train()


@pytest.fixture
def pairs(tmp_path):
    """A folder of two dark pictures; the first has a pair, which is 20 levels brighter."""
    write_set(tmp_path / "set.json", tmp_path / "dark", ("blue", "green"))
    (tmp_path / "light").mkdir()
    dark = cv2.imread(str(tmp_path / "dark" / "set_1.png"))
    cv2.imwrite(str(tmp_path / "light" / "set_1.png"), np.clip(dark.astype(int) + 20, 0, 255).astype(np.uint8))
    return tmp_path


def batch_of(folder):
    pack = dict(type="llie_preproc.PackPairedDetInputs", folder=str(folder / "light"))
    steps = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
    steps += [dict(type="Resize", scale=(64, 64), keep_ratio=True), dict(type="RandomFlip", prob=1.0), pack]
    dataset = dict(
        type="CocoDataset",
        ann_file=str(folder / "set.json"),
        data_prefix=dict(img=str(folder / "dark")),
        metainfo=dict(classes=("blue", "green")),
        pipeline=steps,
    )
    loaded = DATASETS.build(dataset)
    return pseudo_collate([loaded[0], loaded[1]])


def test_pairs_of_the_pipeline_reach_the_loss(pairs):
    """The enhancer changes nothing, so one of its two results is 20 levels darker than its pair."""
    model = wrapper(dict(paired=dict(type="llie_preproc.PairedLoss", loss_weight=3.0)))
    with torch.no_grad():
        for parameter in model.enhancer.parameters():
            parameter.zero_()
    data = model.data_preprocessor(batch_of(pairs), True)
    loss = model(**data, mode="loss")["loss_paired"]
    assert loss.item() == pytest.approx(3 * 20 / 255 / 2, rel=1e-4)
    loss.backward()
    assert model.enhancer.conv7.bias.grad.abs().sum() > 0


def test_a_batch_without_pairs_has_a_loss_of_zero_with_gradients():
    model = wrapper(dict(paired=dict(type="llie_preproc.PairedLoss")))
    data = model.data_preprocessor(raw_batch(), True)
    losses = model(**data, mode="loss")
    assert losses["loss_paired"] == 0
    losses["loss_paired"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.enhancer.parameters())


def test_a_resumed_run_keeps_the_initial_enhancer_of_the_fidelity_loss():
    losses = dict(fidelity=dict(type="llie_preproc.FidelityLoss"))
    first = wrapper(losses, seed=1)
    start = {name: tensor.clone() for name, tensor in first.enhancer.state_dict().items()}
    with torch.no_grad():
        for parameter in first.enhancer.parameters():
            parameter.add_(0.1)
    resumed = wrapper(losses, seed=2)
    own = {name: tensor.clone() for name, tensor in resumed.enhancer.state_dict().items()}
    resumed.load_state_dict(wrapper({}, seed=1).state_dict())
    kept = resumed.losses.fidelity.initial.state_dict()
    assert all(torch.equal(kept[name], own[name]) for name in own)
    resumed.load_state_dict(first.state_dict())
    kept = resumed.losses.fidelity.initial.state_dict()
    assert all(torch.equal(kept[name], start[name]) for name in start)
    assert all(torch.equal(tensor, start[name] + 0.1) for name, tensor in resumed.enhancer.state_dict().items())
    data = resumed.data_preprocessor(raw_batch(), True)
    assert resumed(**data, mode="loss")["loss_fidelity"] > 0
