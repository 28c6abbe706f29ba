"""An enhancer gives a detector the same pictures at each of three doors, and the enhancer Identity changes no bit.

The doors are a transform, the data preprocessor, and a wrapper round the detector.
"""

import copy

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.logging import MessageHub

from llie_preproc import build_enhancer
from llie_preproc.detection import Enhance, add_enhancer
from llie_preproc.errors import CheckpointError
from tests.support.marks import slow_where
from tests.support.mmdet_models import CONFIGS, build, holds, mmdet_config, raw_batch

DOORS = ("transform", "preprocessor", "detector")


def through_door(cfg, door, batch, enhancer, weights):
    """The model behind ``door`` with the plain detector's ``weights``, and the batch to give it."""
    model = build(add_enhancer(cfg, enhancer, door=door).model)
    model.load_state_dict(weights)
    if door != "transform":
        return model, batch
    enhance = Enhance(enhancer, keep_dtype=False)
    images = [enhance({"img": x.permute(1, 2, 0).numpy()})["img"] for x in batch["inputs"]]
    return model, {**batch, "inputs": [torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) for x in images]}


def losses(model, batch):
    MessageHub.get_current_instance().update_info("iter", 0)
    torch.manual_seed(1)
    model.train()
    values = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode="loss")
    return {k: torch.stack(list(v)) if isinstance(v, list) else v for k, v in values.items()}


def predictions(model, batch):
    model.eval()
    with torch.no_grad():
        return [s.pred_instances for s in model.test_step(copy.deepcopy(batch))]


@pytest.fixture(scope="module", params=slow_where({"fcos", "detr", "cascade_mask_rcnn"}, CONFIGS))
def plain(request):
    """A config, a batch, the weights of its detector, and that detector's losses and predictions on the batch."""
    cfg, batch = mmdet_config(request.param), raw_batch([(64, 96), (64, 64)])
    model = build(cfg.model)
    weights = copy.deepcopy(model.state_dict())
    expected = losses(model, batch)
    model.load_state_dict(weights)
    return cfg, batch, weights, expected, predictions(model, batch)


@pytest.mark.examples(4)
@pytest.mark.parametrize("door", DOORS)
def test_identity_is_bit_identical_to_the_plain_detector(plain, door):
    cfg, batch, weights, expected, expected_predictions = plain
    model, batch = through_door(cfg, door, batch, "Identity", weights)
    got = losses(model, batch)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[k], expected[k]) for k in expected)
    model.load_state_dict(weights)
    for ours, theirs in zip(predictions(model, batch), expected_predictions, strict=True):
        assert len(ours) > 0
        assert all(torch.equal(ours[k], theirs[k]) for k in ("bboxes", "scores", "labels"))


def test_a_trainable_enhancer_gets_a_gradient_from_the_detector(plain):
    cfg, batch = plain[:2]
    model = build(add_enhancer(cfg, "PSENet", checkpoint=None, trainable=True).model)
    got = losses(model, batch)
    total, _ = model.parse_losses({k: v for k, v in got.items() if "loss" in k})
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.enhancer.parameters())
    assert sum(float(p.grad.abs().sum()) for p in model.enhancer.parameters()) > 0
    assert all(s.scores.isfinite().all() for s in predictions(model, batch))


@pytest.mark.parametrize("tile", [None, 80])
def test_doors_agree_with_a_network(tile):
    cfg, batch = mmdet_config("retinanet"), raw_batch([(64, 96), (96, 64)])
    weights = build(cfg.model).state_dict()
    torch.manual_seed(3)
    enhancer = build_enhancer("PSENet", checkpoint=None)
    configs = [add_enhancer(cfg, "PSENet", door=door, checkpoint=None, tile=tile) for door in DOORS]
    assert configs[0].model == cfg.model
    enhance = Enhance(enhancer, keep_dtype=False, tile=tile)
    images = [enhance({"img": x.permute(1, 2, 0).numpy()})["img"].transpose(2, 0, 1) for x in batch["inputs"]]
    results = []
    for c, inputs in zip(configs, [[torch.tensor(x) for x in images], batch["inputs"], batch["inputs"]], strict=True):
        for holder in (c.model.get("data_preprocessor"), c.model):
            if holder is not None and "enhancer" in holder:
                holder["enhancer"] = enhancer
        model = build(c.model)
        model.load_state_dict(weights)
        results.append(losses(model, {**batch, "inputs": inputs}))
    raw = build(cfg.model)
    raw.load_state_dict(weights)
    untouched = losses(raw, batch)
    for result in results:
        assert not torch.allclose(result["loss_cls"], untouched["loss_cls"], rtol=1e-5)
        assert all(torch.allclose(result[k], results[0][k], rtol=1e-5, atol=1e-6) for k in result)


@pytest.mark.parametrize("door", ["preprocessor", "detector"])
def test_an_image_is_enhanced_the_same_alone_and_beside_a_larger_one(door):
    cfg = mmdet_config("retinanet")
    model = build(add_enhancer(cfg, "PSENet", door=door, checkpoint=None).model).eval()
    both = raw_batch([(64, 80), (128, 160)])
    alone = {k: v[:1] for k, v in both.items()}
    to_detector = model.data_preprocessor if door == "preprocessor" else prepared_by(model)
    with torch.no_grad():
        a, b = (to_detector(copy.deepcopy(batch), False)["inputs"][0] for batch in (alone, both))
    assert torch.equal(a[:, :64, :80], b[:, :64, :80])


def prepared_by(wrapper):
    """A function that returns what the wrapper gives its detector, read from the detector's own data preprocessor."""
    seen = {}

    def keep(module, args, output):
        seen.update(output)

    wrapper.detector.data_preprocessor.register_forward_hook(keep)

    def run(batch, training):
        wrapper.predict(**{f"batch_{k}": v for k, v in batch.items()})
        return seen

    return run


def test_a_plain_checkpoint_loads_through_the_runner_loading_path(tmp_path):
    from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint

    cfg = mmdet_config("retinanet")
    plain = build(cfg.model, seed=5)
    path = str(tmp_path / "plain.pth")
    save_checkpoint({"state_dict": plain.state_dict(), "meta": {}}, path)
    for door in DOORS:
        model = build(add_enhancer(cfg, "PSENet", door=door, checkpoint=None).model, seed=6)
        before = {k: v.clone() for k, v in model.state_dict().items() if "enhancer" in k}
        load_checkpoint(model, path, map_location="cpu")
        inner = model.detector if door == "detector" else model
        assert holds(inner, plain.state_dict())
        assert holds(model, before)


def test_a_checkpoint_of_the_wrapper_loads_whole():
    cfg = add_enhancer(mmdet_config("retinanet"), "PSENet", checkpoint=None)
    first, second = build(cfg.model, seed=1), build(cfg.model, seed=2)
    second.load_state_dict(first.state_dict())
    assert holds(second, first.state_dict())


def test_another_detectors_checkpoint_is_an_error():
    wrapper = build(add_enhancer(mmdet_config("retinanet"), "Identity").model)
    with pytest.raises(CheckpointError, match=r"not one of RetinaNet.*matched"):
        wrapper.load_state_dict(build(mmdet_config("yolox").model).state_dict(), strict=False)


def test_a_frozen_enhancer_stays_frozen():
    for door in ("preprocessor", "detector"):
        model = build(add_enhancer(mmdet_config("retinanet"), "PSENet", door=door, checkpoint=None).model).train()
        enhancer = model.enhancer if door == "detector" else model.data_preprocessor.enhancer
        assert not enhancer.training
        assert not any(p.requires_grad for p in enhancer.parameters())


def test_the_wrapper_reaches_the_detectors_parts():
    model = build(add_enhancer(mmdet_config("yolox"), "Identity").model)
    assert model.bbox_head is model.detector.bbox_head
    assert model.with_neck
    with pytest.raises(AttributeError, match="no_such_thing"):
        model.no_such_thing  # noqa: B018


def test_a_preprocessed_batch_is_refused():
    cfg = add_enhancer(mmdet_config("retinanet"), "Identity")
    batch = raw_batch()
    with pytest.raises(TypeError, match="raw colour images"):
        build(cfg.model).loss([x[:1] for x in batch["inputs"]], batch["data_samples"])
    differing = {**cfg.model, "data_preprocessor": {"type": "DetDataPreprocessor", "mean": [1, 2, 3], "std": [1, 1, 1]}}
    with pytest.raises(ValueError, match="differ"):
        build(differing)
    with pytest.raises(ValueError, match="no gradient"):
        build(add_enhancer(mmdet_config("retinanet"), "CLAHE", trainable=True).model)
