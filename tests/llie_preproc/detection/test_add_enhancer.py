"""``add_enhancer`` puts an enhancer into any config at each of three doors, and refuses what cannot work.

The doors are a transform, the data preprocessor, and a wrapper round the detector.
"""

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from llie_preproc.detection import Enhance, add_enhancer
from tests.support.made_sets import bright_box, write_set
from tests.support.mmdet_models import CONFIGS, build, mmdet_config
from tests.support.random_pictures import levels


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
    bgr = levels()
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


def test_the_error_about_another_data_preprocessor_names_the_wrapper():
    cfg = mmdet_config("retinanet")
    cfg.model.data_preprocessor.type = "BoxInstDataPreprocessor"
    with pytest.raises(ValueError, match=r"BoxInstDataPreprocessor.*use 'detector'"):
        add_enhancer(cfg, "Identity", door="preprocessor")
