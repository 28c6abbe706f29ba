"""Every feature encoder is frozen, returns the requested stages, checks its weights, and is shared by equal configs."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from torch import Tensor

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.errors import CheckpointError, MissingExtraError
from llie_preproc.registry import MODELS
from tests.support.random_pictures import images
from tests.support.tiny_encoders import EXTRAS, TINY, tiny
from training import feature_encoders
from training.feature_encoders import VGGEncoder, build_encoder

every = pytest.mark.parametrize("name", list(TINY))


@every
def test_weights_are_frozen_and_gradients_reach_the_picture(name: str) -> None:
    encoder = tiny(name).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    calls: list[Callable[[Tensor], Tensor]] = [encoder.embed]
    calls += [lambda x, s=s: encoder(x, [s])[0] for s in encoder.stages]
    for call in calls:
        image = images(40, 40, 2).requires_grad_()
        call(image).square().sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()
        assert (image.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(p.grad is None for p in encoder.parameters())


@every
def test_stages_are_returned_in_the_given_order(name: str) -> None:
    encoder = tiny(name)
    image = images(40, 40, 2)
    first, last = encoder.stages[0], encoder.stages[-1]
    deep, shallow, again = encoder(image, [last, first, last])
    assert torch.equal(deep, again)
    assert torch.equal(shallow, encoder(image, (first,))[0])
    assert deep.ndim == shallow.ndim == 4
    assert deep.shape[0] == encoder.embed(image).shape[0] == 2
    assert encoder.embed(image).ndim == 2


@every
def test_nothing_deeper_than_the_deepest_stage_is_computed(name: str) -> None:
    encoder = tiny(name)
    # Each stage is one module: a block in CLIP and SAM, a layer in RAM.
    parts = {"clip": "trunk.blocks", "sam": "image_encoder.blocks", "ram": "trunk.layers"}.get(name, "features")
    modules = list(encoder.get_submodule(parts).children())
    ran: list[int] = []
    for i, module in enumerate(modules):
        module.register_forward_hook(lambda *_, i=i: ran.append(i))
    for i in range(len(modules)):
        ran.clear()
        encoder(images(40, 40), [encoder.stages[i]])
        assert ran == list(range(i + 1))


@every
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    encoder = tiny(name)
    image = images(36, 44, 3)
    together = [encoder.embed(image), *encoder(image, encoder.stages)]
    alone = [encoder.embed(image[1:2]), *encoder(image[1:2], encoder.stages)]
    for a, b in zip(together, alone, strict=True):
        assert (a[1:2] - b).abs().max() < 1e-4 * b.abs().max()


@every
def test_encoders_run_in_mixed_precision(name: str) -> None:
    encoder = tiny(name)
    image = images(40, 40).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vector, *maps = [encoder.embed(image), *encoder(image.to(torch.bfloat16), encoder.stages)]
    sum(f.float().square().mean() for f in (vector, *maps)).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    expected = encoder.embed(image.detach())
    assert (vector - expected).abs().max() < 0.1 * expected.abs().max()


@every
def test_unknown_stages_are_refused(name: str) -> None:
    encoder = tiny(name)
    with pytest.raises(ValueError, match=rf"unknown stages 's9'.*{encoder.stages[0]}, .*{encoder.stages[-1]}"):
        encoder(images(40, 40), [encoder.stages[0], "s9"])
    for none in ([], encoder.stages[0]):
        with pytest.raises(ValueError, match="list of at least one name"):
            encoder(images(40, 40), none)


@every
def test_images_of_another_type_or_shape_are_refused(name: str) -> None:
    encoder = tiny(name)
    for call in (encoder.embed, lambda x: encoder(x, encoder.stages[:1])):
        with pytest.raises(TypeError, match="uint8"):
            call(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
        with pytest.raises(TypeError, match="ndarray"):
            call(np.zeros((1, 3, 40, 40), np.float32))
        for shape in ((3, 40, 40), (1, 4, 40, 40), (1, 1, 40, 40), (1, 3, 0, 40)):
            with pytest.raises(ValueError, match=re.escape(str(shape))):
                call(torch.zeros(shape))


@every
def test_saved_weights_are_loaded(name: str, tmp_path: Path) -> None:
    encoder = tiny(name)
    save_state_dict(encoder.state_dict(), tmp_path / "encoder.safetensors")
    loaded = tiny(name, tmp_path / "encoder.safetensors")
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.embed(images(40, 40)), encoder.embed(images(40, 40)))


@pytest.mark.examples(8)
@every
@pytest.mark.parametrize("other", list(TINY))
def test_a_checkpoint_of_another_network_is_refused(name: str, other: str, tmp_path: Path) -> None:
    state = tiny(other).state_dict()
    if name == other:
        state.pop(next(reversed(state)))
    save_state_dict(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors.* of \d+ tensors matched"):
        tiny(name, tmp_path / "other.safetensors")


@every
def test_a_checkpoint_of_other_sizes_is_refused(name: str, tmp_path: Path) -> None:
    state = tiny(name).state_dict()
    state = {key: torch.cat([tensor, tensor], dim=-1) for key, tensor in state.items()}
    save_state_dict(state, tmp_path / "wider.safetensors")
    with pytest.raises(CheckpointError, match=rf"0 of {len(state)} tensors matched; {len(state)} mismatched"):
        tiny(name, tmp_path / "wider.safetensors")


@every
def test_a_checkpoint_must_be_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoint"):
        MODELS.build(TINY[name])
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        tiny(name, tmp_path / "absent.pth")


@pytest.mark.parametrize(("name", "module"), EXTRAS.items())
def test_a_missing_extra_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_installed(top: str, purpose: str) -> None:
        raise MissingExtraError(top, purpose)

    monkeypatch.setattr(getattr(feature_encoders, name), "require", none_installed)
    with pytest.raises(ImportError, match=rf"{module}.*pip install"):
        tiny(name)


@pytest.fixture
def vgg_file(tmp_path: Path) -> str:
    save_state_dict(tiny("vgg16").state_dict(), tmp_path / "vgg.safetensors")
    return str(tmp_path / "vgg.safetensors")


def test_equal_configs_share_an_encoder_while_it_is_in_use(vgg_file: str) -> None:
    config = dict(type="llie_preproc.VGGEncoder", layers=16, width=4, checkpoint=vgg_file)
    first = build_encoder(config)
    assert build_encoder(dict(reversed(config.items()))) is first
    assert build_encoder({**config, "type": VGGEncoder.__name__}) is first
    assert build_encoder(first) is first
    other = build_encoder({**config, "checkpoint": f"{Path(vgg_file).parent}/./vgg.safetensors"})
    assert other is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert torch.equal(build_encoder(config).embed(images(40, 40)), other.embed(images(40, 40)))


def test_random_encoders_are_not_shared() -> None:
    config = {**TINY["vgg16"], "checkpoint": None}
    assert build_encoder(config) is not build_encoder(config)


def test_building_an_encoder_keeps_the_random_state(vgg_file: str) -> None:
    config = dict(type="llie_preproc.VGGEncoder", layers=16, width=4, checkpoint=vgg_file)
    before = torch.get_rng_state()
    kept = [build_encoder(config), build_encoder(config)]
    assert torch.equal(before, torch.get_rng_state())
    assert kept[0] is kept[1]


def test_a_config_of_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match="config of a feature encoder"):
        build_encoder(dict(type="llie_preproc.PatchDiscriminator"))
