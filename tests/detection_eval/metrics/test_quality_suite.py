"""``QualitySuite`` and ``ImageQuality``, our metric for MMEngine, compute each named metric from the right pictures."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.places import ROOT
from tests.support.random_pictures import planes as picture

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import distributed as dist

from detection_eval.metrics import (
    ImageQuality,
    QualitySuite,
    eme,
    frechet_distance,
    image_quality,
    inception_features,
    lightness_order_error,
    match_mean,
    metric_names,
    metric_settings,
    niqe,
    psnr,
    read_inception,
    read_niqe_model,
    rmse,
    ssim,
)
from detection_eval.metrics.fid import folder_features
from detection_eval.metrics.meters import METERS, Meter, RegisteredMeter
from detection_eval.self_registration import names_of
from llie_preproc.commands.llie import main
from llie_preproc.errors import MissingExtraError
from llie_preproc.registry import METRICS


def batch(number, size=(40, 50)):
    """A data batch and the samples that a training method returns for it."""
    samples = [BaseDataElement(enhanced=picture(i, size) / 255, target=picture(i + 50, size)) for i in range(number)]
    return {"inputs": [picture(i + 90, size) for i in range(number)]}, samples


def evaluated(samples, **config):
    metric = METRICS.build(dict(type="llie_preproc.ImageQuality", **config))
    evaluator = Evaluator([metric])
    evaluator.process(data_batch=samples[0], data_samples=samples[1])
    return evaluator.evaluate(len(samples[1]))


def niqe_model(path):
    window = np.outer(*[np.exp(-(np.arange(-3, 4) ** 2) * 18 / 49)] * 2)
    np.savez(path, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36), gaussian_window=window / window.sum())
    return path


def test_the_default_is_psnr_and_ssim():
    data, samples = batch(3)
    pairs = [(s.enhanced, s.target) for s in samples]
    assert evaluated((data, samples)) == {
        "iqa/psnr": pytest.approx(np.mean([psnr(*pair) for pair in pairs])),
        "iqa/ssim": pytest.approx(np.mean([ssim(*pair) for pair in pairs])),
    }
    assert image_quality(*pairs[0]) == {"psnr": psnr(*pairs[0]), "ssim": ssim(*pairs[0])}


def test_each_metric_gets_the_pictures_that_it_compares(tmp_path):
    model = niqe_model(tmp_path / "model.npz")
    data, samples = batch(2, (96, 192))
    names = ["rmse", "loe", "loe_bimef", "eme", "niqe"]
    found = evaluated((data, samples), metrics=names, niqe_model=model, eme_block=5, eme_log="log10")
    triples = [(s.enhanced, s.target, image) for s, image in zip(samples, data["inputs"], strict=True)]
    expected = {
        "rmse": [rmse(e, t) for e, t, _ in triples],
        "loe": [lightness_order_error(e, i, "A") for e, _, i in triples],
        "loe_bimef": [lightness_order_error(e, i, "B") for e, _, i in triples],
        "eme": [eme(e, 5, "log10") for e, _, _ in triples],
        "niqe": [niqe(e, read_niqe_model(model)) for e, _, _ in triples],
    }
    assert found == {f"iqa/{name}": pytest.approx(np.mean(values)) for name, values in expected.items()}


def test_metrics_without_a_reference_need_no_target():
    data, samples = batch(2)
    alone = [BaseDataElement(enhanced=s.enhanced) for s in samples]
    assert set(evaluated((data, alone), metrics=["eme", "loe"])) == {"iqa/eme", "iqa/loe"}
    with pytest.raises(ValueError, match="'psnr' needs the 'target'"):
        evaluated((data, alone), metrics=["psnr"])


def test_a_matched_mean_is_named_in_the_key():
    data, samples = batch(2)
    found = evaluated((data, samples), metrics=["psnr", "eme"], gt_mean=True)
    matched = [psnr(match_mean(s.enhanced, s.target), s.target) for s in samples]
    assert found["iqa/psnr_gt_mean"] == pytest.approx(np.mean(matched))
    assert set(found) == {"iqa/psnr_gt_mean", "iqa/eme"}


def test_every_metric_describes_its_variant(tmp_path, inception_trunk):
    pytest.importorskip("piq", reason="needs the extra 'metrics'")
    names = [name for name in metric_names() if name != "lpips"]
    suite = QualitySuite(names, niqe_model=niqe_model(tmp_path / "model.npz"), fid_trunk=inception_trunk)
    assert list(suite.describe()) == names
    assert all(suite.describe().values())
    assert "FSIMc" in suite.describe()["fsim"]
    assert "against the targets" in suite.describe()["fid"]


def test_the_variants_are_logged_once(monkeypatch):
    logged = []
    module = sys.modules[ImageQuality.__module__]
    monkeypatch.setattr(module, "print_log", lambda text, logger: logged.append(text))
    metric = METRICS.build(dict(type="llie_preproc.ImageQuality", metrics=["loe", "eme"], eme_block=5))
    for _ in range(2):
        data, samples = batch(2)
        metric.process(data, [s.to_dict() for s in samples])
        metric.evaluate(2)
    assert len(logged) == 1
    assert "over 2 images" in logged[0]
    assert f"loe: {metric.describe()['loe']}" in logged[0]
    assert "variant A" in metric.describe()["loe"]
    assert "blocks of 5x5, 20 ln" in metric.describe()["eme"]


@pytest.mark.parametrize(
    ("name", "library", "cure"),
    [("fsim", "piq", "metrics"), ("ssim_piq", "piq", "metrics"), ("ssim_skimage", "skimage", "metrics")],
)
def test_an_absent_library_is_named_before_anything_is_scored(monkeypatch, name, library, cure):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"llie-preproc\[{cure}\]"):
        QualitySuite([name])


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (dict(metrics=["psnr", "snr"]), r"different names out of eme, fid, .*\['psnr', 'snr'\]"),
        (dict(metrics=["psnr", "psnr"]), "different names"),
        (dict(metrics=[]), "different names"),
        (
            dict(metrics=["psnr"], eme_block=5),
            r"eme_block \(--eme-block\) is for the metric eme, which is not asked for",
        ),
        (dict(metrics=["niqe"]), r"'niqe' needs niqe_model \(--niqe-model FILE\).*niqe_pris_params\.npz"),
        (
            dict(metrics=["lpips"]),
            r"'lpips' needs lpips_trunk \(--lpips-trunk FILE\).*alexnet-owt-7be5be79\.pth; nothing is downloaded",
        ),
        (dict(metrics=["fid"]), r"'fid' needs fid_trunk \(--fid-trunk FILE\).*pt_inception-2015-12-05-6726825d\.pth"),
    ],
)
def test_bad_settings_are_named(config, match):
    with pytest.raises(ValueError, match=match):
        QualitySuite(**config)


def test_a_misspelt_setting_is_an_error():
    with pytest.raises(TypeError, match="nique_model"):
        METRICS.build(dict(type="llie_preproc.ImageQuality", nique_model="x"))


def test_pictures_with_an_undefined_score_are_left_out_and_named(tmp_path, monkeypatch):
    logged = []
    module = sys.modules[ImageQuality.__module__]
    monkeypatch.setattr(module, "print_log", lambda text, **how: logged.append(text))
    data, samples = batch(3, (96, 192))
    samples[1].enhanced = torch.full((3, 96, 192), 0.5)
    for i, sample in enumerate(samples):
        sample.set_metainfo({"img_path": f"night/{i}.png"})
    model = niqe_model(tmp_path / "model.npz")
    found = evaluated((data, samples), metrics=["niqe", "eme"], niqe_model=model)
    expected = [niqe(samples[i].enhanced, read_niqe_model(model)) for i in (0, 2)]
    assert found["iqa/niqe"] == pytest.approx(np.mean(expected))
    assert "niqe: undefined for 1 of 3, the mean is over the others: night/1.png" in logged
    assert not [text for text in logged if text.startswith("eme")]
    flat = BaseDataElement(enhanced=samples[1].enhanced)
    assert np.isnan(evaluated((data, [flat] * 3), metrics="niqe", niqe_model=model)["iqa/niqe"])
    assert logged[-1] == "niqe: undefined for 3 of 3, there is no mean: picture 0, picture 1, picture 2"


def test_a_picture_that_cannot_be_scored_is_named():
    data, samples = batch(2)
    samples[1] = BaseDataElement(enhanced=samples[1].enhanced * torch.nan, target=samples[1].target)
    samples[1].set_metainfo({"img_path": "night/7.png"})
    with pytest.raises(ValueError, match=r"night/7\.png: .*not finite"):
        evaluated((data, samples))


def test_the_evaluator_in_the_docs_names_this_metric_and_its_settings():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    block = re.search(r"```python\nval_evaluator = (.*?)```", text, re.DOTALL)[1]
    (form,) = eval(block, {"dict": dict})  # noqa: S307
    assert form.pop("type") == "llie_preproc.ImageQuality"
    assert set(form) <= {"metrics", "gt_mean", *names_of(metric_settings())}
    assert set(form["metrics"]) <= set(metric_names())


@pytest.mark.parametrize("form", ["list", "dict"])
def test_niqe_and_loe_run_in_validation(tmp_path, monkeypatch, form):
    monkeypatch.setattr("mmengine.device.utils.DEVICE", "cpu")
    for folder in ("low", "high"):
        (tmp_path / folder).mkdir()
        pixels = picture(0, (96, 192)).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")
    pairs = dict(type="llie_preproc.PairedFolders", low=str(tmp_path / "low"), high=str(tmp_path / "high"))
    loader = dict(batch_size=1, num_workers=0, dataset=pairs)
    model = str(niqe_model(tmp_path / "model.npz"))
    metric = dict(type="llie_preproc.ImageQuality", metrics=["niqe", "loe"], niqe_model=model)
    method = dict(
        type="llie_preproc.SupervisedTraining",
        enhancer=dict(type="llie_preproc.IAMLUNet", width=4, depth=2),
        losses=dict(l1=dict(type="llie_preproc.L1Loss")),
    )
    config = Config(
        dict(
            default_scope="mmengine",
            model=method,
            train_dataloader=dict(loader, sampler=dict(type="llie_preproc.DrawSampler")),
            val_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4)),
            train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
            val_cfg=dict(),
            val_evaluator=[metric] if form == "list" else metric,
        )
    )
    config.dump(tmp_path / f"{form}.py")
    assert main(["train", str(tmp_path / f"{form}.py"), "--out", str(tmp_path / "work")]) == 0
    (scalars,) = (tmp_path / "work").glob("*/vis_data/scalars.json")
    last = json.loads(scalars.read_text().splitlines()[-1])
    assert last["iqa/niqe"] > 0
    assert last["iqa/loe"] > 0


class Averages(torch.nn.Module):
    """A stand-in for Inception: features are means of a picture's quarters; ``batches`` records sizes of batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.batches = []

    def forward(self, levels):
        self.batches.append(len(levels))
        means = torch.nn.functional.adaptive_avg_pool2d(levels.float() * self.weight, 2).flatten(1)
        return (torch.nn.functional.pad(means, (0, 2048 - means.shape[1])),)


def test_features_of_a_folder_are_computed_in_batches_and_once(tmp_path, monkeypatch):
    network = Averages()
    monkeypatch.setattr("detection_eval.metrics.fid.read_inception", lambda trunk: network)
    sizes = [(40, 50), (44, 60), *[(40, 50)] * 9]
    for i, size in enumerate(sizes):
        Image.fromarray(picture(i, size).permute(1, 2, 0).numpy()).save(tmp_path / f"{i:02d}.png")
    metric = METRICS.build(dict(type="llie_preproc.ImageQuality", metrics="fid", fid_trunk="x", fid_reference=tmp_path))
    data, samples = batch(3)
    expected = [
        np.stack([inception_features(x, Averages()) for x in pictures])
        for pictures in ([s.enhanced for s in samples], [picture(i, size) for i, size in enumerate(sizes)])
    ]
    for _ in range(2):
        metric.process(data, [s.to_dict() for s in samples])
        assert metric.evaluate(3)["iqa/fid"] == pytest.approx(frechet_distance(*expected), rel=1e-5)
    # The three results come singly, ten references of one size as 8 + 2, one of another size alone, the results again.
    assert network.batches == [1, 1, 1, 8, 2, 1, 1, 1, 1]
    assert folder_features([], network).shape == (0, 2048)


def test_a_damaged_reference_picture_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("detection_eval.metrics.fid.read_inception", lambda trunk: Averages())
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"fid_reference: .*1\.png"):
        evaluated(batch(2), metrics="fid", fid_trunk="x", fid_reference=tmp_path)


def test_fid_compares_the_sets_of_results_and_targets(monkeypatch):
    network = Averages()
    monkeypatch.setattr("detection_eval.metrics.fid.read_inception", lambda trunk: network)
    data, samples = batch(3)
    found = evaluated((data, samples), metrics="fid", fid_trunk="x")
    sets = [
        np.stack([inception_features(x, network) for x in xs])
        for xs in ([s.enhanced for s in samples], [s.target for s in samples])
    ]
    assert found["iqa/fid"] == pytest.approx(frechet_distance(*sets), rel=1e-6)


@pytest.mark.slow
def test_fid_compares_results_with_a_folder(inception_trunk, tmp_path):
    data, samples = batch(2)
    for i, size in enumerate([(40, 50), (60, 44)]):
        Image.fromarray(picture(i + 70, size).permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    alone = [BaseDataElement(enhanced=s.enhanced) for s in samples]
    config = dict(metrics=["fid"], fid_trunk=inception_trunk, fid_reference=tmp_path)
    found = evaluated((data, alone), **config)
    network = read_inception(inception_trunk)
    own = np.stack([inception_features(s.enhanced, network) for s in samples])
    reference = np.stack(
        [inception_features(picture(i + 70, size), network) for i, size in enumerate([(40, 50), (60, 44)])]
    )
    assert found["iqa/fid"] == pytest.approx(frechet_distance(own, reference), rel=1e-6)
    assert str(tmp_path) in QualitySuite(**config).describe()["fid"]
    with pytest.raises(FileNotFoundError, match="no folder"):
        QualitySuite(["fid"], fid_trunk=inception_trunk, fid_reference=tmp_path / "absent")


def score_as_a_rank(folder, fid_trunk):
    """Score this process's share of a batch of five; the other process scores the rest."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    data, samples = batch(5)
    config = dict(metrics=["psnr", "loe", "fid"], fid_trunk=fid_trunk, fid_reference=str(folder / "reference"))
    evaluator = Evaluator([METRICS.build(dict(type="llie_preproc.ImageQuality", **config))])
    # MMEngine's sampler gives each process every second picture, and repeats the first so that shares are equal.
    own = [i % 5 for i in range(rank, 6, 2)]
    evaluator.process(data_batch={"inputs": [data["inputs"][i] for i in own]}, data_samples=[samples[i] for i in own])
    (folder / f"found{rank}.json").write_text(json.dumps(evaluator.evaluate(5)))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_the_scores_of_one(inception_trunk, tmp_path, programs):
    reference = tmp_path / "reference"
    reference.mkdir()
    for i in range(3):
        Image.fromarray(picture(i + 30).permute(1, 2, 0).numpy()).save(reference / f"{i}.png")
    done = programs.run_together(2, __file__, tmp_path, inception_trunk)
    assert done.returncode == 0, done.stderr[-3000:]
    settings = dict(fid_trunk=inception_trunk, fid_reference=reference)
    expected = evaluated(batch(5), metrics=["psnr", "loe", "fid"], **settings)
    for rank in range(2):
        assert json.loads((tmp_path / f"found{rank}.json").read_text()) == pytest.approx(expected, rel=1e-6)


class Lengths:
    """A score that Python cannot read as a number."""


@pytest.mark.parametrize("nan", [math.nan, np.float32("nan"), torch.tensor(math.nan)], ids=["python", "numpy", "torch"])
def test_an_undefined_score_of_any_library_is_reported(monkeypatch, nan):
    entry = RegisteredMeter((), lambda: Meter("mostly defined", "MINE {:.2f}", lambda enhanced: nan))
    monkeypatch.setitem(METERS._all(), "mine", entry)
    suite = QualitySuite(["mine"])
    added = [suite.score(torch.zeros(3, 8, 8)), {"mine": 2.0}]
    assert suite.undefined(added, ["a.png", "b.png"]) == {
        "mine": "undefined for 1 of 2, the mean is over the others: a.png"
    }
    assert suite.summarise(added) == {"mine": 2.0}


@pytest.mark.parametrize("score", [None, "high", torch.zeros(2), Lengths()], ids=["none", "text", "vector", "object"])
def test_a_score_that_is_no_number_is_refused_with_the_metrics_name(monkeypatch, score):
    entry = RegisteredMeter((), lambda: Meter("never defined", "MINE {:.2f}", lambda enhanced: score))
    monkeypatch.setitem(METERS._all(), "mine", entry)
    with pytest.raises(TypeError, match="the metric 'mine' must return a number for a picture, got"):
        QualitySuite(["mine"]).score(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("layout", ["", "{:.2f}", "PSNR", "no place", " {:.2f}"])
def test_a_layout_without_a_name_or_a_place_is_refused(layout):
    with pytest.raises(ValueError, match="layout needs a name, a space and a place"):
        Meter("any", layout, float)


if __name__ == "__main__":
    score_as_a_rank(Path(sys.argv[1]), sys.argv[2])
