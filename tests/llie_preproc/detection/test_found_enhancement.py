"""``find_enhancement`` finds whatever enhances in a config, and nothing enhances a picture twice.

A config can enhance at three doors: by a transform, by the data preprocessor, or by a wrapper round the detector.
"""

import contextlib
import copy
import pickle
import re

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import MODELS as MMDET_MODELS

from detection_eval.faces.detectors import DetectorChoice
from detection_eval.shared.fill_cache import fill_cache
from llie_preproc.commands.llie import parse_args
from llie_preproc.config_doors import find_enhancement, refuse_second_door
from llie_preproc.config_files import read_config_file
from llie_preproc.detection import Enhance, EnhancedDetDataPreprocessor, EnhancedDetector, add_enhancer
from llie_preproc.detection.coco_sets import read_config
from llie_preproc.enhancers import PSENet
from llie_preproc.enhancers.names import enhancer_classes, enhancer_config, enhancer_in
from llie_preproc.faces import MMDetFaceDetector
from llie_preproc.registry import TRANSFORMS
from tests.support.mmdet_models import build
from tests.support.places import ROOT
from training.finetune_config import finetuning_config

LOAD, PACK = dict(type="LoadImageFromFile"), dict(type="PackDetInputs")


@MMDET_MODELS.register_module(force=True)
class DerivedWrapper(EnhancedDetector):
    pass


STEPS = {
    "scoped": dict(type="llie_preproc.Enhance", enhancer="PSENet"),
    "bare": dict(type="Enhance", enhancer="PSENet"),
    "spelled otherwise": dict(type="llie_preproc.pse-net"),
    "path": dict(type="llie_preproc.detection.transforms.Enhance", enhancer="PSENet"),
    "class": dict(type=Enhance, enhancer="PSENet"),
    "function": dict(type=TRANSFORMS.get("PSENet")),
    "object": Enhance("Identity"),
    **{f"{name}": dict(type=f"llie_preproc.{name}") for name in enhancer_classes()},
    **{f"bare {name}": dict(type=name) for name in enhancer_classes()},
    "class of a network": dict(type=PSENet),
}
PLACES = {
    "test": lambda cfg, step: cfg.test_pipeline.insert(1, step),
    "train": lambda cfg, step: cfg.train_dataloader.dataset.pipeline.insert(1, step),
    "mixed": lambda cfg, step: cfg.update(
        train_dataloader=dict(
            dataset=dict(
                type="MultiImageMixDataset",
                dataset=dict(type="RepeatDataset", dataset=dict(type="CocoDataset", pipeline=[LOAD, step])),
                pipeline=[PACK],
            )
        )
    ),
    "test-time augmentation": lambda cfg, step: cfg.update(
        tta_pipeline=[LOAD, dict(type="TestTimeAug", transforms=[[dict(type="Resize", scale=(8, 8))], [step], [PACK]])]
    ),
    "branches": lambda cfg, step: cfg.update(
        unsup=[dict(type="MultiBranch", branch_field=["a"], a=[dict(type="RandomApply", transforms=[step]), PACK])]
    ),
    "hook": lambda cfg, step: cfg.update(
        custom_hooks=[dict(type="PipelineSwitchHook", switch_epoch=1, switch_pipeline=[LOAD, step, PACK])]
    ),
    "inference": lambda cfg, step: cfg.update(inference_pipeline=[LOAD, step]),
}


def test_nothing_is_found_in_plain_configs(plain_config):
    assert find_enhancement(plain_config) == ""
    # A layer may have the name of an enhancer, and not every part that concerns enhancement enhances.
    assert find_enhancement(dict(model=dict(layers=[dict(type="Identity")], act_cfg=dict(type="Identity")))) == ""
    others = [dict(type="llie_preproc.RestoreScaleFactor"), dict(type="llie_preproc.GammaShift", gamma=2)]
    assert find_enhancement(dict(test_pipeline=others, hook=dict(type="llie_preproc.EnhancedVisualizationHook"))) == ""


@pytest.mark.examples(40)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("step", STEPS)
def test_a_transform_is_found_by_every_spelling_in_every_place(plain_config, step, place):
    cfg = copy.deepcopy(plain_config)
    PLACES[place](cfg, STEPS[step])
    assert find_enhancement(cfg)
    for door in ("transform", "detector"):
        with pytest.raises(ValueError, match="has an enhancer already"):
            add_enhancer(cfg, "Identity", door=door)


@pytest.mark.parametrize(
    "kind",
    [
        "llie_preproc.EnhancedDetector",
        "EnhancedDetector",
        "llie_preproc.detection.enhanced_detector.EnhancedDetector",
        EnhancedDetector,
        "DerivedWrapper",
        "mmdet.DerivedWrapper",
        DerivedWrapper,
    ],
)
@pytest.mark.parametrize("around", [None, "SoftTeacher", "llie_preproc.BoxPromptedSAM"])
def test_a_wrapper_is_found_also_inside_another(plain_config, kind, around):
    cfg = copy.deepcopy(plain_config)
    cfg.model = dict(type=kind, detector=cfg.model, enhancer="Identity")
    if around:
        cfg.model = dict(type=around, detector=cfg.model)
    assert find_enhancement(cfg).endswith("model.detector" if around else "model")


@pytest.mark.parametrize("kind", ["llie_preproc.EnhancedDetDataPreprocessor", EnhancedDetDataPreprocessor])
def test_a_preprocessor_is_found(plain_config, kind):
    for place in ("model", None):
        cfg = copy.deepcopy(plain_config)
        (cfg.model if place else cfg).data_preprocessor = dict(type=kind, enhancer="Identity")
        assert "data_preprocessor" in find_enhancement(cfg)


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_the_commands_refuse_a_config_that_enhances(plain_config, door, tmp_path):
    enhanced = str(tmp_path / "enhanced.py")
    add_enhancer(plain_config, "Identity", door=door).dump(enhanced)
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="enhances already"):
        read_config(enhanced, {})
    with pytest.raises(ValueError, match=r"enhances already.*--enhancer"):
        DetectorChoice(enhanced, str(tmp_path / "weights.pth")).made_with()
    with pytest.raises(ValueError, match=r"has an enhancer already|which cannot be trained"):
        finetuning_config(parse_args(["finetune", "--detector", enhanced, "--enhancer", "psenet"]))


def test_finetuning_refuses_a_wrapper_behind_a_transform(plain_config, tmp_path):
    cfg = add_enhancer(plain_config, "PSENet", trainable=True)
    cfg.train_dataloader.dataset.pipeline.insert(1, STEPS["scoped"])
    cfg.dump(tmp_path / "twice.py")
    with pytest.raises(
        ValueError, match=r"enhances twice, by llie_preproc\.EnhancedDetector at model and by llie_preproc\.Enhance at "
    ):
        finetuning_config(parse_args(["finetune", "--detector", str(tmp_path / "twice.py")]))


DOORS = ("transform", "preprocessor", "detector")


def with_doors(cfg, *doors):
    """A copy of the config, with an enhancer at each of these doors."""
    both = copy.deepcopy(cfg)
    for door in doors:
        enhanced = add_enhancer(cfg, dict(type="llie_preproc.CLAHE"), door=door)
        if door == "detector":
            both.model = dict(enhanced.model, detector=both.model)
        elif door == "preprocessor":
            both.model.data_preprocessor = enhanced.model.data_preprocessor
        else:
            both.update({key: value for key, value in enhanced.items() if key.endswith("_dataloader")})
    return both


@pytest.mark.parametrize("first", DOORS)
@pytest.mark.parametrize("second", DOORS)
def test_doors_of_two_kinds_in_one_config_are_refused_with_both_places(plain_config, first, second, tmp_path):
    places = dict(
        transform=r"llie_preproc\.Enhance at (train|val|test)_dataloader\.dataset\.pipeline\.\d",
        preprocessor=r"llie_preproc\.EnhancedDetDataPreprocessor at model(\.detector)?\.data_preprocessor",
        detector=r"llie_preproc\.EnhancedDetector at model",
    )
    doors = sorted({first, second}, reverse=True)
    cfg = with_doors(plain_config, *doors)
    if first == second:
        refuse_second_door(cfg, "night.py")
        return
    with pytest.raises(ValueError, match=f"enhances twice, by ({places[first]}|{places[second]}) and by ") as caught:
        refuse_second_door(cfg, "night.py")
    assert all(re.search(places[door], str(caught.value)) for door in (first, second))
    # Everything that takes an enhanced config refuses this one with the same message.
    cfg.dump(tmp_path / "night.py")
    for take in (MMDetFaceDetector, lambda name: fill_cache(read_config_file(name))):
        with pytest.raises(ValueError, match=r"night\.py enhances twice, by "):
            take(str(tmp_path / "night.py"))


@pytest.mark.parametrize("door", DOORS)
def test_variables_of_a_config_that_nothing_uses_are_no_doors(plain_config, door):
    """MMEngine's configs keep every variable of their file, such as steps that pipelines are put together from."""
    cfg = with_doors(plain_config, door)
    cfg.enhance, cfg.wrapper = STEPS["scoped"], dict(type="EnhancedDetector", detector={})
    cfg.old_pipeline, cfg.preprocessor = [LOAD, STEPS["scoped"], PACK], dict(type="EnhancedDetDataPreprocessor")
    refuse_second_door(cfg, "night.py")


def test_the_shipped_configs_have_one_kind_of_door():
    found = [path for path in (ROOT / "mm_configs").rglob("*.py") if path.name != "__init__.py"]
    for path in found:
        refuse_second_door(read_config_file(str(path)), path.name)
    assert len(found) > 50


@pytest.mark.parametrize("around", ["SoftTeacher", "mmdet.MeanTeacherBox", "llie_preproc.BoxPromptedSAM"])
@pytest.mark.parametrize("door", ["preprocessor", "detector"])
def test_the_enhancer_of_a_door_below_another_model_is_found(plain_config, around, door, tmp_path):
    inner = add_enhancer(plain_config, dict(type="CLAHE", clip_limit=3.0), door=door)
    inner.model = dict(type=around, detector=inner.model, data_preprocessor=dict(type="MultiBranchDataPreprocessor"))
    inner.dump(tmp_path / "around.py")
    assert enhancer_config(tmp_path / "around.py") == dict(type="CLAHE", clip_limit=3.0)
    assert enhancer_in(plain_config.to_dict(), "plain") is None


def test_a_picture_is_not_enhanced_twice_even_if_no_config_shows_it():
    picture = np.random.default_rng(0).integers(0, 60, (12, 16, 3), dtype=np.uint8)
    once = Enhance("Identity")(dict(img=picture, img_path="night/7.png"))
    assert once["enhanced_by"] == "Identity"
    with pytest.raises(ValueError, match=r"night/7\.png was enhanced before, by Identity"):
        Enhance("PSENet")(once)


@pytest.mark.parametrize("door", ["preprocessor", "detector"])
def test_a_picture_of_the_transform_is_refused_by_the_other_doors(plain_config, door):
    model = build(add_enhancer(plain_config, "Identity", door=door).model).eval()
    picture = np.full((64, 64, 3), 20, np.uint8)
    shapes = dict(ori_shape=(64, 64), img_shape=(64, 64), scale_factor=(1.0, 1.0))
    results = dict(shapes, img=picture, img_path="night/7.png", img_id=1)
    pack = PackDetInputs(meta_keys=("img_id", "img_path", *shapes))
    once = pickle.loads(pickle.dumps(pack(Enhance("Identity")(dict(results)))))
    for data, fails in ((pack(dict(results)), False), (once, True)):
        batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        expected = pytest.raises(ValueError, match=r"night/7\.png was enhanced before, by Identity in the pipeline")
        with expected if fails else contextlib.nullcontext():
            model.test_step(batch)


class Unregistered(Enhance):
    """A transform of somebody else, which a config names by its path."""


@pytest.mark.parametrize("kind", [f"{__name__}.Unregistered"])
def test_a_class_named_by_its_path_is_found(kind):
    assert find_enhancement(dict(test_pipeline=[dict(type="LoadImageFromFile"), dict(type=kind)])).startswith(kind)


def test_a_wrapper_refuses_a_detector_that_enhances(plain_config):
    for door in ("preprocessor", "detector"):
        inner = add_enhancer(plain_config, "Identity", door=door).model
        with pytest.raises(ValueError, match="enhances its pictures already, by Enhanced"):
            build(dict(type="llie_preproc.EnhancedDetector", detector=inner, enhancer="Identity"))
