"""``EnhancedDetector`` trains the parts that are trainable, gives the detector the chosen input, and adds losses."""

import copy

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.logging import MessageHub
from torch import nn

from llie_preproc import build_enhancer
from llie_preproc.detection import add_enhancer
from llie_preproc.detection.nested_inputs import flatten
from llie_preproc.errors import CheckpointError
from llie_preproc.registry import MODELS
from tests.support.mmdet_models import build, holds, mmdet_config, raw_batch

SIZES = [(64, 96), (64, 64)]


@MODELS.register_module(force=True)
class BrightnessLoss(nn.Module):
    """Squared distance of the result's mean from a level."""

    def __init__(self, level):
        super().__init__()
        self.level, self.bound = level, None

    def bind(self, enhancer):
        self.bound = copy.deepcopy(enhancer).requires_grad_(False)

    def forward(self, image, output, enhancer, sample):
        assert image.shape[:2] == output.shape[:2] == (1, 3)
        assert output.shape[-2:] == tuple(enhancer.scale * n for n in sample.img_shape)
        assert 0 <= image.min() <= image.max() <= 1
        return (output.mean() - self.level) ** 2


def model(name="retinanet", enhancer="PSENet", seed=0, checkpoint=None, **options):
    options.setdefault("trainable", True)
    return build(add_enhancer(mmdet_config(name), enhancer, checkpoint=checkpoint, **options).model, seed)


def losses(wrapper, batch=None, seed=1):
    MessageHub.get_current_instance().update_info("iter", 0)
    torch.manual_seed(seed)
    wrapper.train()
    batch = copy.deepcopy(batch or raw_batch(SIZES))
    return wrapper(**wrapper.data_preprocessor(batch, True), mode="loss")


def total(wrapper, values):
    return wrapper.parse_losses({k: v for k, v in values.items() if "loss" in k})[0]


def gradients(wrapper, part):
    return {k: p.grad for k, p in wrapper.named_parameters() if k.startswith(f"{part}.") and p.requires_grad}


def predictions(wrapper, batch=None):
    wrapper.eval()
    with torch.no_grad():
        return [s.pred_instances for s in wrapper.test_step(copy.deepcopy(batch or raw_batch(SIZES)))]


SMALL_SEMI_LLIE = {"type": "SemiLLIE", "width": 8}


@pytest.mark.examples(2)
@pytest.mark.parametrize(
    "enhancer",
    ["PSENet", "ZeroDCE", "SCI", "IAMLUNet", SMALL_SEMI_LLIE, pytest.param("CollaBA", marks=pytest.mark.slow)],
    ids=lambda e: e if isinstance(e, str) else e["type"],
)
def test_the_detection_loss_reaches_every_parameter_of_the_enhancer(enhancer):
    wrapper = model(enhancer=enhancer)
    if enhancer == SMALL_SEMI_LLIE:
        # The only hidden unit of this channel attention may be inactive under random weights.
        for name, parameter in wrapper.enhancer.named_parameters():
            if name.endswith("attention.attention.1.bias"):
                parameter.data.fill_(1.0)
    total(wrapper, losses(wrapper)).backward()
    found = gradients(wrapper, "enhancer")
    assert found
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in found.values())
    assert sum(float(g.abs().sum()) for g in gradients(wrapper, "detector").values() if g is not None) > 0


@pytest.mark.parametrize(("trains", "frozen"), [("detector", "enhancer"), ("enhancer", "detector")])
@pytest.mark.parametrize("name", ["retinanet", "detr"])
def test_a_frozen_part_takes_no_gradient_and_keeps_its_statistics(name, trains, frozen):
    cfg = add_enhancer(
        mmdet_config(name),
        "SCI",
        checkpoint=None,
        trainable=trains == "enhancer",
        train_detector=trains == "detector",
    )
    cfg.model.detector.backbone.update(norm_eval=False, frozen_stages=-1, norm_cfg=dict(type="BN", requires_grad=True))
    wrapper = build(cfg.model)
    before = copy.deepcopy(getattr(wrapper, frozen).state_dict())
    total(wrapper, losses(wrapper)).backward()
    assert not any(p.requires_grad for p in getattr(wrapper, frozen).parameters())
    assert all(torch.equal(v, before[k]) for k, v in getattr(wrapper, frozen).state_dict().items())
    assert any(g is not None and g.abs().sum() > 0 for g in gradients(wrapper, trains).values())
    # The part that trains updates the statistics of its batch normalisation.
    other = build(cfg.model)
    moved = getattr(wrapper, trains).state_dict()
    assert any(not torch.equal(v, moved[k]) for k, v in getattr(other, trains).state_dict().items())


@pytest.mark.parametrize("train_detector", [True, False])
def test_a_frozen_detectors_losses_keep_their_counts(train_detector):
    cfg = mmdet_config("retinanet")
    cfg.model.bbox_head.loss_cls = dict(type="GHMC", bins=10, momentum=0.75)
    wrapper = build(add_enhancer(cfg, "ZeroDCE", checkpoint=None, trainable=True, train_detector=train_detector).model)
    before = copy.deepcopy(wrapper.detector.state_dict())
    total(wrapper, losses(wrapper)).backward()
    moved = [k for k, v in wrapper.detector.state_dict().items() if not torch.equal(v, before[k])]
    assert moved == (["bbox_head.loss_cls.acc_sum"] if train_detector else [])
    assert all(g.abs().sum() > 0 for g in gradients(wrapper, "enhancer").values())


def test_a_frozen_detector_computes_as_at_test_time():
    """Dropout is off: the same images give the same losses whatever the random state."""
    wrapper = model("detr", train_detector=False)
    first, second = losses(wrapper, seed=1), losses(wrapper, seed=2)
    assert all(torch.equal(first[k], second[k]) for k in first)
    third, fourth = (losses(model("detr"), seed=seed) for seed in (1, 2))
    assert any(not torch.equal(third[k], fourth[k]) for k in third)


def test_with_raw_input_the_wrapper_equals_the_plain_detector():
    cfg, batch = mmdet_config("retinanet"), raw_batch(SIZES)
    plain = build(cfg.model)
    wrapper = model(enhancer="CollaBA", trainable=False, detector_input="raw")
    wrapper.load_state_dict(plain.state_dict())
    expected, got = losses(plain, batch), losses(wrapper, batch)
    assert all(torch.equal(torch.stack(got[k]), torch.stack(expected[k])) for k in expected)
    plain.load_state_dict(build(cfg.model).state_dict())
    wrapper.load_state_dict(plain.state_dict())
    for ours, theirs in zip(predictions(wrapper), predictions(plain), strict=True):
        assert torch.equal(ours.bboxes, theirs.bboxes)
        assert torch.equal(ours.scores, theirs.scores)


def test_with_raw_input_the_enhancer_learns_only_from_its_own_losses():
    wrapper = model(detector_input="raw", losses=dict(bright=dict(type="llie_preproc.BrightnessLoss", level=0.5)))
    values = losses(wrapper)
    alone = wrapper.parse_losses({k: v for k, v in values.items() if k.startswith("loss") and k != "loss_bright"})[0]
    alone.backward(retain_graph=True)
    assert all(g is None for g in gradients(wrapper, "enhancer").values())
    values["loss_bright"].backward()
    assert any(g.abs().sum() > 0 for g in gradients(wrapper, "enhancer").values())
    # In evaluation mode the only losses are the detector's.
    batch = wrapper.eval().data_preprocessor(raw_batch(SIZES), False)
    assert "loss_bright" not in wrapper(**batch, mode="loss")


@pytest.mark.examples(2)
@pytest.mark.parametrize("fusion", ["image", "features"])
@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "detr"])
def test_both_inputs_blend_between_raw_and_enhanced(name, fusion):
    """With the whole weight on one side, the blend equals the detector on that side."""
    both = model(name, detector_input="both", fusion=fusion, trainable=False, checkpoint="default")
    state = both.detector.state_dict()
    raw, enhanced = (
        model(name, detector_input=side, trainable=False, checkpoint="default") for side in ("raw", "enhanced")
    )
    results = {}
    for side, wrapper in {"raw": raw, "enhanced": enhanced}.items():
        wrapper.detector.load_state_dict(state)
        results[side] = predictions(wrapper)
    assert not torch.equal(results["raw"][0].scores, results["enhanced"][0].scores)
    for share, side in [(-60.0, "raw"), (60.0, "enhanced")]:
        both.fusion.logit.data.fill_(share)
        for ours, theirs in zip(predictions(both), results[side], strict=True):
            assert torch.allclose(ours.scores, theirs.scores, atol=1e-5)
            assert torch.allclose(ours.bboxes, theirs.bboxes, atol=1e-2)
    assert "extract_feat" not in vars(both.detector)


@pytest.mark.parametrize("fusion", ["image", "features"])
def test_the_blend_gets_a_gradient(fusion):
    wrapper = model(detector_input="both", fusion=fusion)
    total(wrapper, losses(wrapper)).backward()
    assert wrapper.fusion.logit.grad.abs().sum() > 0
    assert all(g.abs().sum() > 0 for g in gradients(wrapper, "enhancer").values())


def test_both_inputs_of_an_enlarging_enhancer_are_in_its_frame():
    """With the weight on the raw side, the detector sees the raw picture enlarged to the enhancer's frame."""
    batch = raw_batch([(32, 48)])
    wrapper = model(
        enhancer={"type": "Upscale", "scale": 2}, detector_input="both", trainable=False, min_matched=0.0
    ).eval()
    with torch.no_grad():
        seen = [wrapper.enhance_images(batch["inputs"])[0]]
        wrapper.fusion.logit.fill_(-60)
        seen.append(wrapper.enhance_images(batch["inputs"])[0])
    assert seen[0].shape == seen[1].shape == (3, 64, 96)
    expected = nn.functional.interpolate(batch["inputs"][0].float()[None], size=(64, 96), mode="bilinear")[0]
    assert torch.allclose(seen[1], expected, atol=1e-3)


def test_fusion_of_features_is_refused_for_a_detector_without_extract_feat():
    @MMDET_MODELS.register_module(name="OwnWay", force=True)
    class OwnWay(SingleStageDetector):
        def predict(self, batch_inputs, batch_data_samples, rescale=True):
            return self.bbox_head.predict(self.neck(self.backbone(batch_inputs)), batch_data_samples, rescale=rescale)

    cfg = add_enhancer(mmdet_config("retinanet"), "Identity", detector_input="both", fusion="features")
    cfg.model.detector.type = "OwnWay"
    with pytest.raises(ValueError, match="not work with OwnWay: it does not call extract_feat"):
        predictions(build(cfg.model))


def test_auxiliary_losses_are_added_by_weight_while_the_enhancer_trains():
    config = dict(type="llie_preproc.BrightnessLoss", level=0.5)
    names = dict(bright=dict(config), twice=dict(config, loss_weight=2.0), out=None)
    wrapper = model(losses=names, checkpoint="default")
    values = losses(wrapper)
    assert "loss_out" not in values
    assert torch.allclose(values["loss_twice"], 2 * values["loss_bright"])
    # By definition the loss is the mean over the batch of each picture's distance.
    batch = raw_batch(SIZES)
    enhanced = [wrapper.enhancer(x.flip(0)[None] / 255) for x in batch["inputs"]]
    assert torch.allclose(values["loss_bright"], torch.stack([(e.mean() - 0.5) ** 2 for e in enhanced]).mean())
    wrapper.trainable = False
    assert not {"loss_bright", "loss_twice"} & set(losses(wrapper))
    assert wrapper.losses["bright"].bound is not None
    reference = build_enhancer("PSENet")
    assert holds(reference, wrapper.losses["bright"].bound.state_dict())


def test_a_loss_under_the_detectors_own_name_is_refused():
    wrapper = model(losses=dict(cls=dict(type="llie_preproc.BrightnessLoss", level=0.5)))
    with pytest.raises(ValueError, match="has a loss_cls already"):
        losses(wrapper)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(trainable=False, train_detector=False), "nothing to train"),
        (dict(detector_input="raw"), "only losses train an enhancer"),
        (dict(detector_input="both", fusion="late"), "fusion must be one of 'image', 'features', got 'late'"),
        (dict(detector_input="dark"), "detector_input must be one of 'raw', 'enhanced', 'both', got 'dark'"),
        (dict(map_side=0), "at least 1"),
        (dict(enhancer="Identity"), "no parameters to train"),
        (dict(enhancer="IAMLUNet", map_side=64), "IAMLUNet has none"),
        (dict(losses=dict(x=dict(type="llie_preproc.NoSuchLoss"))), "NoSuchLoss"),
        (dict(losses=dict(x=dict(type="llie_preproc.BrightnessLoss", loss_weight=-1))), "loss_weight of 'x' must be"),
        (dict(enhancer="CLAHE"), "no gradient flows through CLAHE: it cannot be trainable"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises((ValueError, KeyError, ImportError), match=message):
        model(**options)


def test_an_option_of_the_wrapper_is_refused_at_another_door():
    cfg = mmdet_config("retinanet")
    with pytest.raises(ValueError, match="losses belong to door='detector'"):
        add_enhancer(cfg, "PSENet", door="preprocessor", losses={})
    with pytest.raises(TypeError, match="no colour_order"):
        add_enhancer(cfg, "PSENet", colour_order="rgb")


def test_a_renamed_tensor_of_a_plain_checkpoint_is_named_in_the_error():
    wrapper, state = model(), build(mmdet_config("retinanet").model, seed=5).state_dict()
    wrapper.load_state_dict(dict(state))
    assert all(torch.equal(v, state[k]) for k, v in wrapper.detector.state_dict().items())
    state["bbox_head.retina_class.weight"] = state.pop("bbox_head.retina_cls.weight")
    with pytest.raises(
        CheckpointError, match=r"lacks bbox_head\.retina_cls\.weight; it also has bbox_head\.retina_class\.weight"
    ):
        wrapper.load_state_dict(state, strict=False)
    model(strict=False).load_state_dict(state, strict=False)


def test_a_checkpoint_for_other_classes_loads_all_but_the_classifier():
    from mmengine.runner.checkpoint import _load_checkpoint_to_model

    cfg = mmdet_config("retinanet")
    cfg.model.bbox_head.num_classes = 3
    state = build(cfg.model, seed=5).state_dict()
    wrapper = model()
    before = wrapper.detector.bbox_head.retina_cls.weight.clone()
    _load_checkpoint_to_model(wrapper, {"state_dict": dict(state)}, strict=False)
    assert torch.equal(wrapper.detector.backbone.conv1.weight, state["backbone.conv1.weight"])
    assert torch.equal(wrapper.detector.bbox_head.retina_cls.weight, before)


def test_a_checkpoint_with_another_enhancer_is_an_error():
    state = model(enhancer="PSENet").state_dict()
    for other in ("SCI", {"type": "PSENet", "width": 8}):
        with pytest.raises(CheckpointError, match=r"enhancer is not this (SCI|PSENet): \d+ of \d+ tensors matched"):
            model(enhancer=other).load_state_dict(state)
    model(enhancer="SCI", strict=False).load_state_dict(state, strict=False)


def test_checkpoints_of_a_detector_that_contains_a_detector_are_loaded():
    """The names of a tracker's tensors begin with ``detector.``, as those of the wrapper do."""
    tracker = dict(type="mmdet.ByteTrack", detector=mmdet_config("retinanet").model, data_preprocessor=None)
    plain, wrapper, other = (
        build(config, seed=seed)
        for seed, config in enumerate(
            [tracker, *[dict(type="llie_preproc.EnhancedDetector", detector=tracker, enhancer="PSENet")] * 2]
        )
    )
    wrapper.load_state_dict(plain.state_dict())
    assert holds(wrapper, {f"detector.{k}": v for k, v in plain.state_dict().items()})
    other.load_state_dict(wrapper.state_dict())
    assert holds(other, wrapper.state_dict())


def test_a_plain_checkpoint_starts_a_semi_supervised_detector():
    """MMDetection loads such a checkpoint into the student and into the teacher."""
    inner = mmdet_config("retinanet").model
    semi = dict(type="mmdet.SemiBaseDetector", detector=inner, semi_train_cfg=dict(freeze_teacher=True))
    wrapper = build(dict(type="llie_preproc.EnhancedDetector", detector=semi, enhancer="PSENet"))
    state = build(inner, seed=5).state_dict()
    wrapper.load_state_dict(state)
    for part in (wrapper.detector.student, wrapper.detector.teacher):
        assert all(torch.equal(v, state[k]) for k, v in part.state_dict().items())


def test_the_branches_of_a_batch_keep_their_order():
    """Random augmentation draws its numbers in this order."""
    image = torch.zeros(3, 4, 4)
    assert list(flatten({"teacher": [image], "sup": [image]}).rebuild([image, image], None)[0]) == ["teacher", "sup"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sides", [{}, {"map_side": 48}, {"checkpointing": True}], ids=["whole", "map", "checkpoint"])
def test_losses_and_gradients_on_a_gpu_are_those_of_the_cpu(sides, no_tf32):
    on_cpu, on_gpu = (model("faster_rcnn", checkpoint="default", **sides) for _ in range(2))
    on_gpu.cuda()
    values = [losses(each)["loss_rpn_cls"] for each in (on_cpu, on_gpu)]
    totals = [torch.stack(list(value)).sum() for value in values]
    assert torch.allclose(totals[0], totals[1].cpu(), rtol=1e-3)
    for total_loss in totals:
        total_loss.backward()
    for key, expected in gradients(on_cpu, "enhancer").items():
        found = gradients(on_gpu, "enhancer")[key].cpu()
        assert torch.allclose(found, expected, rtol=2e-2, atol=1e-4 * float(expected.abs().max())), key


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_mixed_precision_on_a_gpu_trains_the_enhancer():
    wrapper = model("faster_rcnn", checkpoint="default").cuda()
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        value = total(wrapper, losses(wrapper))
    value.backward()
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients(wrapper, "enhancer").values())
