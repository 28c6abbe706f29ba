"""A checkpoint of a model with one door, loaded by a model with another, gives the same predictions or an error.

A door is the place of an enhancer: a transform, the data preprocessor, or a wrapper round the detector.
"""

import copy

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.model import BaseModel
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint
from torch import nn

from llie_preproc import build_enhancer
from llie_preproc.detection import Enhance, add_enhancer
from llie_preproc.errors import CheckpointError
from tests.support.mmdet_models import build, holds, mmdet_config, raw_batch
from training.checkpoint_parts import split_checkpoint

DOORS = ("plain", "transform", "preprocessor", "detector")
# The doors whose checkpoints hold the enhancer's weights; a transform reads them from another file.
CARRY = ("preprocessor", "detector")
PLACES = {"preprocessor": "data_preprocessor.enhancer.", "detector": "enhancer."}
SIZES = [(64, 80)]


def model_of(cfg, door, seed, enhancer="PSENet", checkpoint="default"):
    """The model of a door's config as built: the detector has random weights, PSENet the shipped ones."""
    if door != "plain":
        cfg = add_enhancer(cfg, enhancer, door=door, checkpoint=checkpoint)
    return build(cfg.model, seed).eval()


def trained(cfg, door):
    """A model that stands for a trained one: detector and enhancer have other weights than its config gives."""
    model = model_of(cfg, door, seed=1)
    (model.detector if door == "detector" else model).load_state_dict(build(cfg.model, 1).state_dict(), strict=False)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # All detectors have the same weights; an enhancer in the model is no longer the shipped one.
            step = 0.02 if "enhancer." in name else 0.0
            parameter += step * torch.randn(parameter.shape, generator=generator)
    return model


def predictions(model, door):
    batch = raw_batch(SIZES)
    if door == "transform":
        enhance = Enhance("PSENet", keep_dtype=False)
        images = [enhance({"img": x.permute(1, 2, 0).numpy()})["img"].transpose(2, 0, 1) for x in batch["inputs"]]
        batch["inputs"] = [torch.tensor(image) for image in images]
    with torch.no_grad():
        (found,) = model.test_step(copy.deepcopy(batch))
    return found.pred_instances


def same(first, second):
    return len(first) == len(second) > 0 and all(
        torch.allclose(first[k], second[k], rtol=1e-4, atol=1e-4) for k in ("scores", "bboxes")
    )


def by_mmengine(model, state, folder):
    """Load the weights as MMEngine's Runner and ``init_detector`` do."""
    save_checkpoint({"state_dict": state, "meta": {}}, str(folder / "a.pth"))
    load_checkpoint(model, str(folder / "a.pth"), map_location="cpu")


def by_mmengine_in_a_wrapper(model, state, folder):
    """Load the weights of a distributed training, whose names begin with 'module.'."""
    by_mmengine(model, {f"module.{name}": tensor for name, tensor in state.items()}, folder)


def by_torch(model, state, folder):
    model.load_state_dict(state)


def by_torch_leniently(model, state, folder):
    model.load_state_dict(state, strict=False)


def inside_of_a_module(model, state, folder):
    nn.ModuleDict({"model": model}).load_state_dict({f"model.{name}": tensor for name, tensor in state.items()})


WAYS = [by_mmengine, by_mmengine_in_a_wrapper, by_torch, by_torch_leniently, inside_of_a_module]


@pytest.fixture(scope="module")
def saved(plain_config):
    """A trained model for each door."""
    return {door: trained(plain_config, door) for door in DOORS}


def outcome(cfg, saved, saver, loader, way, folder):
    """Predictions of the door ``loader`` with the checkpoint of the door ``saver``; None if it is refused."""
    model = model_of(cfg, loader, seed=9)
    try:
        way(model, saved[saver].state_dict(), folder)
    except CheckpointError:
        return None
    return predictions(model, loader)


@pytest.mark.examples(8)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("loader", DOORS)
@pytest.mark.parametrize("saver", DOORS)
def test_every_pair_predicts_the_same_or_is_refused(plain_config, saved, saver, loader, way, tmp_path):
    found = outcome(plain_config, saved, saver, loader, way, tmp_path)
    if saver in CARRY and loader not in CARRY:
        # The model has no place for the enhancer's weights.
        assert found is None
    elif saver in CARRY:
        # The enhancer's weights come from the checkpoint.
        assert same(found, predictions(saved[saver], saver))
    else:
        # The checkpoint holds a detector only, so the enhancer's weights come from the config.
        assert same(found, predictions(saved["transform"], "plain" if loader == "plain" else "transform"))


def test_predictions_of_different_weights_differ(plain_config, saved):
    """If they did not, the test above could not fail."""
    seen = {door: predictions(saved[door], door) for door in DOORS}
    assert not same(seen["plain"], seen["transform"])
    assert not same(seen["transform"], seen["detector"])
    assert not same(seen["detector"], predictions(model_of(plain_config, "detector", seed=9), "detector"))
    shipped = build_enhancer("PSENet").state_dict()
    for door, place in PLACES.items():
        own = saved[door].state_dict()
        assert not any(torch.equal(own[place + k], v) for k, v in shipped.items() if k.endswith("weight"))


@pytest.mark.examples(4)
@pytest.mark.parametrize("way", [by_mmengine, by_torch_leniently], ids=lambda way: way.__name__)
@pytest.mark.parametrize("loader", DOORS)
@pytest.mark.parametrize("saver", CARRY)
def test_another_enhancers_weights_are_refused_at_every_door(plain_config, saved, saver, loader, way, tmp_path):
    for other in ("IAMLUNet", {"type": "PSENet", "width": 8}, "CLAHE"):
        model = model_of(plain_config, loader, seed=9, enhancer=other, checkpoint=None)
        with pytest.raises(CheckpointError):
            way(model, saved[saver].state_dict(), tmp_path)


@pytest.mark.parametrize("saver", CARRY)
def test_the_refusal_says_what_to_do_and_the_advice_works(plain_config, saved, saver, tmp_path):
    save_checkpoint({"state_dict": saved[saver].state_dict(), "meta": {}}, str(tmp_path / "a.pth"))
    plain = model_of(plain_config, "plain", seed=9)
    with pytest.raises(CheckpointError, match=r"RetinaNet.*llie split CHECKPOINT --out DIR"):
        load_checkpoint(plain, str(tmp_path / "a.pth"), map_location="cpu")
    detector, enhancer = split_checkpoint(tmp_path / "a.pth", tmp_path / "parts")
    load_checkpoint(plain, str(detector), map_location="cpu")
    assert same(predictions(plain, "plain"), predictions(saved["plain"], "plain"))
    both = model_of(plain_config, "detector", seed=9, checkpoint=str(enhancer))
    load_checkpoint(both, str(detector), map_location="cpu")
    assert same(predictions(both, "detector"), predictions(saved[saver], saver))


def test_a_wrapper_round_an_enhancer_without_weights_is_refused_by_a_plain_detector(plain_config):
    """Without the refusal, the plain detector would keep its random weights."""
    state = model_of(plain_config, "detector", seed=1, enhancer="CLAHE").state_dict()
    for way in (by_torch, by_torch_leniently):
        with pytest.raises(CheckpointError, match="that of a model with a detector inside"):
            way(model_of(plain_config, "plain", seed=9), state, None)
    model = model_of(plain_config, "preprocessor", seed=9, enhancer="CLAHE")
    model.load_state_dict(state)
    assert holds(model, {k.removeprefix("detector."): v for k, v in state.items()})


def test_a_learned_fusion_is_refused_by_a_model_without_one(plain_config):
    fused = build(add_enhancer(plain_config, "PSENet", detector_input="both").model)
    with pytest.raises(CheckpointError, match=r"learned fusion \(fusion\.logit\)"):
        model_of(plain_config, "preprocessor", seed=9).load_state_dict(fused.state_dict())


def test_a_wrapper_made_with_strict_false_takes_an_extra_tensor(plain_config, saved):
    state = saved["preprocessor"].state_dict()
    state["backbone.extra"] = torch.zeros(1)
    strict = build(add_enhancer(plain_config, "SCI", checkpoint=None).model)
    with pytest.raises(CheckpointError, match=r"backbone\.extra"):
        strict.load_state_dict(state, strict=False)
    lenient = build(add_enhancer(plain_config, "SCI", checkpoint=None, strict=False).model)
    lenient.load_state_dict(state, strict=False)
    assert torch.equal(lenient.detector.backbone.conv1.weight, state["backbone.conv1.weight"])


def semi(inner):
    return dict(type="mmdet.SemiBaseDetector", detector=inner, semi_train_cfg=dict(freeze_teacher=True))


def test_an_enhanced_detector_starts_a_semi_supervised_one_or_is_refused(plain_config, saved):
    enhanced = add_enhancer(plain_config, "PSENet").model
    state = saved["detector"].state_dict()
    model = build(semi(enhanced), seed=9)
    model.load_state_dict(state)
    for part in (model.student, model.teacher):
        assert holds(part, state)
    with pytest.raises(CheckpointError, match="no place"):
        build(semi(plain_config.model), seed=9).load_state_dict(state, strict=False)
    whole = build(
        dict(type="llie_preproc.EnhancedDetector", detector=semi(plain_config.model), enhancer="PSENet"), seed=9
    )
    whole.load_state_dict(saved["preprocessor"].state_dict())
    enhancer = saved["preprocessor"].data_preprocessor.enhancer.state_dict()
    assert holds(whole.enhancer, enhancer)
    assert torch.equal(whole.detector.teacher.backbone.conv1.weight, state["detector.backbone.conv1.weight"])


def test_checkpoints_of_trackers_load_by_their_own_names(plain_config, saved):
    tracker = dict(type="mmdet.ByteTrack", detector=plain_config.model, data_preprocessor=None)
    state = build(tracker, seed=1).state_dict()
    assert all(name.startswith("detector.") for name in state)
    other = build(tracker, seed=9)
    other.load_state_dict(state)
    assert holds(other, state)
    with pytest.raises(CheckpointError):
        build(tracker, seed=9).load_state_dict(saved["detector"].state_dict(), strict=False)


def test_a_prompted_sam_takes_a_checkpoint_with_the_enhancer_inside_or_outside_of_it(plain_config, saved):
    """BoxPromptedSAM is a wrapper itself, and may have the enhancer in its own data preprocessor."""
    pytest.importorskip("segment_anything", reason="needs the extra 'sam'")
    sam = dict(model="small", img_size=64, patch_size=16, out_chans=16, embed_dim=16, depth=1, num_heads=2)
    plain = dict(type="llie_preproc.BoxPromptedSAM", detector=plain_config.model, sam=sam)
    raw = dict(type="llie_preproc.EnhancedDetDataPreprocessor", enhancer="PSENet", mean=None, std=None)
    inside = dict(plain, data_preprocessor=raw)
    outside = dict(type="llie_preproc.EnhancedDetector", detector=plain, enhancer="PSENet")
    states = {name: build(each, seed=1) for name, each in (("inside", inside), ("outside", outside))}
    for model in states.values():
        nn.init.constant_(next(p for k, p in model.named_parameters() if "enhancer." in k), 0.125)
    for name, config in (("inside", outside), ("outside", inside)):
        model = build(config, seed=9)
        model.load_state_dict(states[name].state_dict())
        own, own_place = model.state_dict(), PLACES["detector" if config is outside else "preprocessor"]
        for key, tensor in states[name].state_dict().items():
            rest = key.removeprefix(PLACES["preprocessor"]) if name == "inside" else key.removeprefix("enhancer.")
            inner = key if name == "inside" else key.removeprefix("detector.")
            within = f"detector.{inner}" if config is outside else inner
            assert torch.equal(own[within if rest == key else own_place + rest], tensor)
    for state in states.values():
        with pytest.raises(CheckpointError):
            build(plain, seed=9).load_state_dict(state.state_dict(), strict=False)
    # The checkpoint holds a detector and an enhancer: both are loaded, and SAM's weights stay.
    model = build(inside, seed=9)
    model.load_state_dict(saved["preprocessor"].state_dict())
    own = model.state_dict()
    for name, tensor in saved["preprocessor"].state_dict().items():
        assert torch.equal(own[name if name.startswith("data_preprocessor.") else f"detector.{name}"], tensor)


@pytest.mark.examples(2)
@pytest.mark.parametrize("door", CARRY)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_by_every_part(plain_config, saved, door, value, tmp_path):
    state = saved[door].state_dict()
    for name in (next(k for k in state if "enhancer." in k), next(k for k in state if "bbox_head" in k)):
        bad = {**state, name: torch.full_like(state[name], value)}
        for loader in CARRY:
            for way in (by_mmengine, by_torch):
                with pytest.raises(CheckpointError, match="not finite"):
                    way(model_of(plain_config, loader, seed=9), bad, tmp_path)


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "detr", "yolox", "cascade_mask_rcnn"])
def test_every_detector_takes_its_own_weights(name):
    model = build(add_enhancer(mmdet_config(name), "PSENet").model)
    model.load_state_dict(model.state_dict())


def test_a_model_of_another_project_may_ignore_a_part_named_enhancer():
    """For such a model, MMEngine's rules stay as they are."""

    class Foreign(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(inputs)

    model = Foreign()
    state = {name: torch.ones_like(each) for name, each in model.state_dict().items()}
    state["head.enhancer.w"] = torch.ones(1)
    model.load_state_dict(state, strict=False)
    assert (model.head.weight == 1).all()
