"""``add_enhancer`` puts an enhancer into any config by each door, and refuses what cannot work."""

import os
import pickle
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from llie_preproc import build_enhancer
from llie_preproc.detection import Enhance, add_enhancer
from llie_preproc.detection.enhancement_cache import EnhancedCache
from llie_preproc.fingerprints import fingerprint
from tests.support.made_sets import bright_box, write_set
from tests.support.mmdet_models import CONFIGS, build, mmdet_config


def kinds(pipeline):
    return [t["type"] for t in pipeline]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("position", ["before_pack", "after_load"])
def test_every_pipeline_of_a_config_gets_the_transform(name, position):
    cfg = mmdet_config(name)
    pipelines = [cfg.train_dataloader.dataset.pipeline, cfg.val_dataloader.dataset.pipeline, cfg.test_pipeline]
    before = [kinds(p) for p in pipelines]
    enhanced = add_enhancer(cfg, "Identity", door="transform", position=position)
    for old, new in zip(
        before,
        [enhanced.train_dataloader.dataset.pipeline, enhanced.val_dataloader.dataset.pipeline, enhanced.test_pipeline],
        strict=True,
    ):
        added = [k for k in kinds(new) if k.startswith("llie_preproc.")]
        assert [k for k in kinds(new) if k not in added] == old
        if position == "before_pack":
            assert kinds(new).index("llie_preproc.Enhance") == kinds(new).index("PackDetInputs") - 1
        elif "LoadImageFromFile" in old:
            position_of = kinds(new).index("llie_preproc.Enhance")
            assert all(kind.startswith("Load") for kind in kinds(new)[:position_of])
            assert not kinds(new)[position_of + 1].startswith("Load")
    assert [kinds(p) for p in pipelines] == before
    assert enhanced.model == cfg.model


def test_an_enlarging_enhancer_after_loading_leaves_training_boxes_on_their_objects(tmp_path):
    write_set(tmp_path / "set.json", tmp_path, ("blue", "green"), [(64, 96)])
    cfg = add_enhancer(
        mmdet_config("faster_rcnn"), {"type": "Upscale", "scale": 2}, door="transform", position="after_load"
    )
    where = dict(ann_file=str(tmp_path / "set.json"), data_prefix=dict(img=str(tmp_path)), data_root="")
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, **where, "metainfo": dict(classes=("blue", "green"))})
    packed = dataset[0]
    picture = packed["inputs"].permute(1, 2, 0).numpy()
    for channel, box in enumerate(packed["data_samples"].gt_instances.bboxes.tensor.tolist()):
        # A pixel of the raw picture becomes twelve pixels of the resized one.
        assert box == pytest.approx(bright_box(picture, channel), abs=4)


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_an_enhanced_config_survives_being_dumped(door, tmp_path):
    enhanced = add_enhancer(mmdet_config("detr"), {"type": "GammaCorrection", "gamma": 0.5}, door=door)
    enhanced.dump(tmp_path / "config.py")
    again = Config.fromfile(tmp_path / "config.py")
    assert again.model == enhanced.model
    assert "llie_preproc" in again.custom_imports["imports"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"door": "window"}, "door must be one of"),
        ({"door": "transform", "position": "middle"}, "position must be one of"),
        ({"door": "preprocessor", "trainable": True}, "trainable needs door='detector'"),
        ({"door": "detector", "cache_dir": "c"}, "belong to door='transform'"),
    ],
)
def test_options_of_another_door_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        add_enhancer(mmdet_config("retinanet"), "Identity", **options)


@pytest.mark.parametrize("door", ["preprocessor", "detector"])
def test_a_second_enhancer_is_refused(door):
    once = add_enhancer(mmdet_config("retinanet"), "Identity", door=door)
    with pytest.raises(ValueError, match="has an enhancer already"):
        add_enhancer(once, "Identity", door=door)


NORMALIZE = dict(type="Normalize", mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True)


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
@pytest.mark.parametrize(
    "step",
    [
        NORMALIZE,
        dict(NORMALIZE, type="mmcv.Normalize"),
        dict(type="Albu", transforms=[dict(type="Normalize")]),
        dict(type="RandomApply", transforms=[NORMALIZE], prob=0.5),
        dict(type="TestTimeAug", transforms=[[NORMALIZE]]),
    ],
)
def test_a_pipeline_that_normalises_before_the_enhancer_is_refused(door, step):
    cfg = mmdet_config("retinanet")
    cfg.test_pipeline.insert(-1, step)
    with pytest.raises(ValueError, match=r"normalises its pictures \(Normalize\)"):
        add_enhancer(cfg, "Identity", door=door)
    # Right after loading, the enhancer comes before the normalisation.
    assert add_enhancer(cfg, "Identity", door="transform", position="after_load")


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_every_door_takes_the_order_of_channels(door):
    order = "rgb"
    new = add_enhancer(mmdet_config("retinanet"), "PSENet", door=door, channel_order=order)
    bgr = image()
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)))
    expected = Enhance("PSENet", keep_dtype=False)({"img": bgr})["img"][..., ::-1].transpose(2, 0, 1)
    if door == "transform":
        (config,) = [step for step in new.test_pipeline if step["type"] == "llie_preproc.Enhance"]
        options = {key: value for key, value in config.items() if key != "type"}
        found = Enhance(**options)({"img": rgb.permute(1, 2, 0).numpy()})["img"].transpose(2, 0, 1)
    else:
        model = build(new.model)
        found = (model if door == "detector" else model.data_preprocessor).enhance_images([rgb])[0].numpy()
    assert np.allclose(found, expected, atol=1e-3)
    assert not np.allclose(found[::-1], expected, atol=1)


def test_another_data_preprocessor_is_referred_to_the_wrapper():
    cfg = mmdet_config("retinanet")
    cfg.model.data_preprocessor.type = "BoxInstDataPreprocessor"
    with pytest.raises(ValueError, match=r"BoxInstDataPreprocessor.*use 'detector'"):
        add_enhancer(cfg, "Identity", door="preprocessor")


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def test_an_entry_is_used_for_its_own_image_alone(tmp_path):
    enhance = Enhance("PSENet", checkpoint=None, cache_dir=tmp_path)
    first = enhance({"img": image()})["img"]
    entries = list(tmp_path.rglob("*.npy"))
    assert len(entries) == 1
    np.save(entries[0], first // 2)
    assert np.array_equal(enhance({"img": image()})["img"], first // 2)
    assert not np.array_equal(enhance({"img": image(1)})["img"], first // 2)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_a_damaged_entry_is_replaced(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    expected = enhance({"img": image()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    entry.write_bytes(entry.read_bytes()[:-20])
    assert np.array_equal(enhance({"img": image()})["img"], expected)
    assert np.array_equal(np.load(entry), expected)


def as_zip(path, array):
    """Write an archive, which NumPy would open, under the entry's name."""
    with path.open("wb") as file:
        np.savez(file, array)


def declaring(shape, length=None):
    """A writer of an entry whose header declares another shape, or is ``length`` bytes long."""

    def write(path, array):
        described = {"descr": "|u1", "fortran_order": False, "shape": shape or array.shape}
        header = repr(described).encode().ljust(length or 117) + b"\n"
        path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + array.tobytes())

    return write


def saving(change):
    return lambda path, array: np.save(path, change(array), allow_pickle=True)


def padded(path, array):
    np.save(path, array)
    with path.open("ab") as file:
        file.write(b"more")


def linked(path, array):
    elsewhere = path.with_name("elsewhere.npy")
    np.save(elsewhere, array)
    path.symlink_to(elsewhere)


# Files that may stand in place of an entry. Each holds other values than the entry's, so that reading it would show.
FALSE_ENTRIES = {
    "zip": as_zip,
    "objects": saving(lambda array: array.astype(object)),
    "terabytes": declaring((1 << 21, 1 << 21, 3)),
    "negative": declaring((-1, 16, 3)),
    "long header": declaring(None, 20_000_000),
    "header beyond the file": lambda path, _: path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    "Fortran order": saving(np.asfortranarray),
    "another shape": saving(lambda array: array[:-1]),
    "turned": saving(lambda array: array.transpose(1, 0, 2)),
    "another dtype": saving(lambda array: array.view(np.int8)),
    "floats": saving(lambda array: array.astype(np.float32)),
    "fields": saving(lambda array: array.view([("r", "u1"), ("g", "u1"), ("b", "u1")])),
    "cut": lambda path, array: (np.save(path, array), os.truncate(path, path.stat().st_size - 1)),
    "trailing bytes": padded,
    "empty": lambda path, _: path.write_bytes(b""),
    "link": linked,
    "link to nothing": lambda path, _: path.symlink_to(path.with_name("nothing.npy")),
    "pipe": lambda path, _: os.mkfifo(path),
}


@pytest.mark.parametrize("damage", FALSE_ENTRIES.values(), ids=FALSE_ENTRIES)
def test_a_file_that_is_not_the_entry_is_replaced(damage, tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    expected = enhance({"img": image()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    entry.unlink()
    damage(entry, expected // 2)
    tracemalloc.start()
    try:
        assert np.array_equal(enhance({"img": image()})["img"], expected)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert entry.is_file()
    assert not entry.is_symlink()
    assert np.array_equal(np.load(entry), expected)


def test_an_entry_with_values_that_are_not_finite_is_replaced(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path, keep_dtype=False)
    expected = enhance({"img": image()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    np.save(entry, np.full_like(expected, np.nan))
    assert np.array_equal(enhance({"img": image()})["img"], expected)


@pytest.mark.parametrize(("scale", "keep"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_entries_of_every_size_and_dtype_are_found_again(scale, keep, dtype, tmp_path, monkeypatch):
    enhance = Enhance({"type": "Upscale", "scale": scale}, cache_dir=tmp_path, keep_dtype=keep)
    first = enhance({"img": image().astype(dtype)})["img"]
    monkeypatch.setattr(enhance, "_enhance", lambda image: pytest.fail("the entry was not used"))
    again = enhance({"img": image().astype(dtype)})["img"]
    assert again.dtype == first.dtype
    assert np.array_equal(again, first)


def test_a_folder_in_place_of_an_entry_is_named_in_the_error(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    enhance({"img": image()})
    entry = next(tmp_path.rglob("*.npy"))
    entry.unlink()
    entry.mkdir()
    with pytest.raises(IsADirectoryError, match=entry.name):
        enhance({"img": image()})


def test_the_key_covers_network_settings_weights_and_parameters(tmp_path):
    made = [
        build_enhancer("Identity"),
        build_enhancer({"type": "GammaCorrection", "gamma": 0.5}),
        build_enhancer({"type": "GammaCorrection", "gamma": 0.6}),
        build_enhancer("PSENet", checkpoint=None),
        build_enhancer("PSENet", checkpoint=None),
    ]
    paths = {EnhancedCache(tmp_path, e, order).path(image()) for e in made for order in ("bgr", "rgb")}
    assert len(paths) == 2 * len(made)
    assert fingerprint(made[3]) == fingerprint(pickle.loads(pickle.dumps(made[3])))


def test_a_transform_pickles_for_spawned_workers(tmp_path):
    enhance = Enhance("PSENet", checkpoint=None, cache_dir=tmp_path)
    again = pickle.loads(pickle.dumps(enhance))
    assert np.array_equal(again({"img": image()})["img"], enhance({"img": image()})["img"])
