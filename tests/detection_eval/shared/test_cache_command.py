"""``llie cache`` fills the cache, so that the workers of data loaders enhance nothing."""

import copy

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config

from detection_eval.shared.fill_cache import fill_cache
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import PSENet
from llie_preproc.work_sharing import Ranks
from tests.support.tiny_detection import CLASSES, write_set

# isort: split
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules

register_all_modules()
LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
MIX = [dict(type="Mosaic", img_scale=(64, 64)), dict(type="PackDetInputs")]


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the batches that PSENet enhances, recorded at each call."""
    shapes, forward = [], PSENet.forward

    def counting(self, image):
        shapes.append(tuple(image.shape))
        return forward(self, image)

    monkeypatch.setattr(PSENet, "forward", counting)
    return shapes


@pytest.fixture
def cfg(tmp_path):
    """A config that trains on mosaics of two joined sets, and tests on the second of them."""
    enhance = dict(type="llie_preproc.Enhance", enhancer="PSENet", cache_dir=str(tmp_path / "cache"))
    sets = []
    for seed, name in enumerate(("train", "test")):
        annotations, pictures = write_set(tmp_path / name, 3 + seed, seed)
        where = dict(ann_file=annotations, data_prefix=dict(img=pictures), metainfo=dict(classes=CLASSES))
        sets.append(dict(type="CocoDataset", **where, pipeline=[*LOAD, enhance]))
    test = dict(sets[1], test_mode=True, pipeline=[LOAD[0], enhance, dict(type="PackDetInputs")])
    repeated = dict(type="RepeatDataset", dataset=sets[1], times=2)
    joined = dict(type="ConcatDataset", datasets=[sets[0], repeated])
    mixed = dict(type="MultiImageMixDataset", dataset=joined, pipeline=MIX)
    loaders = {"train_dataloader": mixed, "val_dataloader": test, "test_dataloader": test}
    return Config({"default_scope": "mmdet", **{name: dict(dataset=each) for name, each in loaders.items()}})


def epoch(dataset):
    built = DATASETS.build(copy.deepcopy(dataset))
    return [built[i] for i in range(len(built))]


def test_an_epoch_after_filling_enhances_nothing(cfg, calls):
    report = fill_cache(cfg, "cpu")
    # Training has three pictures of one set and four of the other; testing finds the entries of these four.
    assert (report.made, report.found, report.failed) == (7, 4, [])
    assert len(calls) == 7
    assert report.seconds > 0
    mosaics, tested = epoch(cfg.train_dataloader.dataset), epoch(cfg.test_dataloader.dataset)
    assert (len(mosaics), len(tested)) == (3 + 2 * 4, 4)
    assert len(calls) == 7


def test_entries_equal_the_results_of_the_transform(cfg, tmp_path):
    direct = copy.deepcopy(cfg.test_dataloader.dataset)
    direct.pipeline[1].cache_dir = None
    expected = epoch(direct)
    fill_cache(cfg, "cpu")
    for ours, theirs in zip(epoch(cfg.test_dataloader.dataset), expected, strict=True):
        assert np.array_equal(ours["inputs"].numpy(), theirs["inputs"].numpy())


def test_two_processes_share_the_pictures_without_overlap(cfg, calls, tmp_path):
    reports = [fill_cache(cfg, "cpu", Ranks(rank, 2)) for rank in range(2)]
    assert [(report.made, report.found) for report in reports] == [(2 + 2, 2), (1 + 2, 2)]
    assert len(calls) == len(list((tmp_path / "cache").rglob("*.npy"))) == 7


def test_only_missing_and_damaged_entries_are_written(cfg, calls, tmp_path):
    fill_cache(cfg, "cpu")
    entries = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(entries) == 7
    entries[0].unlink()
    entries[1].write_bytes(b"damaged")
    report = fill_cache(cfg, "cpu")
    assert (report.made, report.found) == (2, 9)
    assert len(calls) == 9


def test_unreadable_pictures_are_named_and_the_others_cached(cfg, tmp_path, capsys):
    (tmp_path / "train" / "0.png").write_bytes(b"no picture")
    (tmp_path / "train" / "1.png").unlink()
    cfg.dump(tmp_path / "config.py")
    assert main(["cache", str(tmp_path / "config.py")]) == 1
    printed = capsys.readouterr()
    assert "5 enhanced, 4 there already" in printed.out
    assert "2 of 11 failed" in printed.err
    assert str(tmp_path / "train" / "0.png") in printed.err
    assert str(tmp_path / "train" / "1.png") in printed.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_entries_written_on_a_gpu_are_read_by_the_workers(cfg, calls):
    assert fill_cache(cfg, "cuda").made == 7
    epoch(cfg.train_dataloader.dataset)
    assert len(calls) == 7


@pytest.mark.parametrize("before", ["RandomFlip", "PhotoMetricDistortion", "RandomCrop"])
def test_a_random_transform_before_the_enhancer_is_refused(before, cfg, capsys, tmp_path):
    cfg.val_dataloader.dataset.pipeline.insert(1, dict(type=before))
    with pytest.raises(ValueError, match=f"{before} stands before"):
        fill_cache(cfg, "cpu")
    cfg.dump(tmp_path / "config.py")
    assert main(["cache", str(tmp_path / "config.py")]) == 2
    assert f"llie: error: {before} stands before" in capsys.readouterr().err


def test_a_fixed_resize_before_the_enhancer_is_allowed(cfg, calls):
    cfg.train_dataloader = None
    cfg.val_dataloader = None
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type="Resize", scale=(32, 48), keep_ratio=False))
    assert fill_cache(cfg, "cpu").made == 4
    assert {shape[-2:] for shape in calls} == {(48, 32)}
    epoch(cfg.test_dataloader.dataset)
    assert len(calls) == 4


def test_a_transform_named_after_its_network_is_cached(cfg, tmp_path):
    cfg.train_dataloader = cfg.val_dataloader = None
    named = dict(type="llie_preproc.GammaCorrection", gamma=0.5, cache_dir=str(tmp_path / "gamma"))
    cfg.test_dataloader.dataset.pipeline[1] = named
    assert fill_cache(cfg, "cpu").made == 4
    assert len(list((tmp_path / "gamma").rglob("*.npy"))) == 4


def test_an_enhancer_after_a_mosaic_is_refused(cfg):
    mixed = cfg.train_dataloader.dataset
    mixed.pipeline.insert(1, dict(mixed.dataset.datasets[0].pipeline[2]))
    with pytest.raises(ValueError, match=r"MultiImageMixDataset: .* must stand in the pipeline of the dataset inside"):
        fill_cache(cfg, "cpu")


def test_configs_that_are_broken_or_name_no_cache_are_refused(cfg, tmp_path, capsys):
    for name in ("train", "val", "test"):
        cfg[f"{name}_dataloader"] = None
    with pytest.raises(ValueError, match="no Enhance with cache_dir"):
        fill_cache(cfg, "cpu")
    cfg.test_dataloader = dict(dataset=dict(type="CocoDataset", pipeline=[dict(type="Resize", cache_dir="c")]))
    with pytest.raises(ValueError, match="no Enhance with cache_dir"):
        fill_cache(cfg, "cpu")
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(\n")
    assert main(["cache", str(broken)]) == 2
    assert main(["cache", str(tmp_path / "none.py")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_a_folder_in_the_place_of_an_entry_is_named(cfg, tmp_path, capsys):
    fill_cache(cfg, "cpu")
    entry = next((tmp_path / "cache").rglob("*.npy"))
    entry.unlink()
    entry.mkdir()
    cfg.dump(tmp_path / "config.py")
    assert main(["cache", str(tmp_path / "config.py")]) == 1
    printed = capsys.readouterr().err
    assert f"{entry}: a folder has the name of the cache's entry; remove it" in printed


def test_entries_of_another_type_or_shape_are_rewritten(cfg, calls, tmp_path):
    fill_cache(cfg, "cpu")
    entries = sorted((tmp_path / "cache").rglob("*.npy"))
    whole = [np.load(entry) for entry in entries]
    with entries[0].open("wb") as file:
        np.savez(file, whole[0])
    np.save(entries[1], whole[1].astype(np.float64))
    np.save(entries[2], whole[2][:-1])
    assert fill_cache(cfg, "cpu").made == 3
    for entry, array in zip(entries, whole, strict=True):
        assert np.array_equal(np.load(entry), array)
