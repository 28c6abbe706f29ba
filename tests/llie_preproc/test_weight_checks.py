"""``check_weights``: every place that loads weights refuses tensors that no network may have, and takes all others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import check_weights, load_checkpoint, read_state_dict, save_state_dict
from llie_preproc.enhancers import Enhancer
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import CheckpointError
from llie_preproc.registry import MODELS

TINY_SAM = dict(
    model="small", img_size=64, patch_size=16, out_chans=16, embed_dim=16, depth=1, num_heads=2, decoder_mlp_dim=16
)
TINY_ENCODER = dict(type="llie_preproc.VGGEncoder", layers=16, width=4)


def quantised(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        # PyTorch deprecates quantised tensors, but files with them remain.
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def spoilt(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


# Changes of a floating-point tensor, with the words of the error about it.
FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "int8": (lambda t: t.to(torch.int8), "int8"),
    "int64": (lambda t: t.to(torch.int64), "int64"),
    "bool": (lambda t: t.to(torch.bool), "bool"),
    "complex": (lambda t: t.to(torch.complex64), "complex64"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "sparse": (lambda t: t.to_sparse(), "sparse"),
    "meta": (lambda t: t.to("meta"), "meta device"),
    "quantised": (quantised, "quantised"),
    "nan": (lambda t: spoilt(t, torch.nan), "not finite: 1 of"),
    "inf": (lambda t: spoilt(t, torch.inf), "not finite: 1 of"),
    "half that overflows": (lambda t: spoilt(t.half(), -torch.inf), "not finite: 1 of"),
}
# Only files can have this fault; tensors in memory may share numbers.
STORED = {"expanded": (lambda t: torch.zeros(1).expand(t.shape), r"claims \d+ numbers, but 1 was stored")}
BOTH = FAULTS | STORED


def with_fault(state: dict[str, Tensor], fault: str) -> tuple[dict[str, Tensor], str]:
    """The state with a fault in its last floating-point tensor of several numbers, and that tensor's name."""
    name = [k for k, v in state.items() if v.is_floating_point() and v.numel() > 1][-1]
    return {**state, name: BOTH[fault][0](state[name].detach())}, name


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("fault", BOTH)
def test_a_file_with_a_wrong_tensor_is_refused_by_its_name(tmp_path: Path, fault: str) -> None:
    state, name = with_fault(network().state_dict(), fault)
    torch.save(state, tmp_path / "a.pth")
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"a\.pth: the tensor {name} .*{BOTH[fault][1]}"):
        load_checkpoint(model, tmp_path / "a.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("fault", ["int8", "bool", "complex", "nan", "inf"])
def test_wrong_tensors_in_safetensors_are_refused_too(tmp_path: Path, fault: str) -> None:
    state, name = with_fault(network().state_dict(), fault)
    save_state_dict(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: the tensor {name} .*{FAULTS[fault][1]}"):
        load_checkpoint(network(), tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_other_precisions_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    source, target = network().state_dict(), network()
    torch.save({k: v.to(kind) if v.is_floating_point() else v for k, v in source.items()}, tmp_path / "a.pth")
    nn.init.zeros_(target[0].weight)
    load_checkpoint(target, tmp_path / "a.pth")
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source["0.weight"].to(kind).float())
    assert target[1].num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("value", [torch.tensor(3.0), torch.tensor(3.5), torch.tensor(True)])
def test_a_counter_takes_whole_numbers(value: Tensor) -> None:
    check_weights({"1.num_batches_tracked": torch.tensor(3, dtype=torch.int32)}, network())
    with pytest.raises(CheckpointError, match=r"num_batches_tracked has dtype torch\.(float32|bool)"):
        check_weights({"1.num_batches_tracked": value}, network())


class Masked(nn.Module):
    """A module with a buffer in which infinities are intended."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf))
        self.weight = nn.Parameter(torch.ones(3))


def test_infinities_are_allowed_where_the_module_has_them() -> None:
    model = Masked()
    check_weights(model.state_dict(), model)
    check_weights({"mask": torch.zeros(3, 3)}, model)
    for wrong in (-model.mask, model.mask.T, torch.full((3, 3), torch.nan), torch.full((2, 2), torch.inf)):
        with pytest.raises(CheckpointError, match="mask is not finite"):
            check_weights({"mask": wrong}, model)
    nn.init.constant_(model.weight, torch.inf)
    with pytest.raises(CheckpointError, match="weight is not finite"):
        check_weights({"weight": torch.full((3,), torch.inf)}, model)


@pytest.mark.parametrize("name", sorted(enhancer_classes()))
def test_every_enhancer_takes_its_own_weights(name: str) -> None:
    enhancer = build_enhancer(name, checkpoint=None)
    assert isinstance(enhancer, Enhancer)
    check_weights(enhancer.state_dict(), enhancer)


def test_names_of_tensors_are_not_used_as_paths(tmp_path: Path) -> None:
    name = "../../outside/../weight"
    path = tmp_path / "some" / "deep" / "folder" / "a.pth"
    path.parent.mkdir(parents=True)
    torch.save({name: torch.ones(2)}, path)
    assert list(read_state_dict(path)) == [name]
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


def build_sam_of(path: Path) -> Any:
    pytest.importorskip("segment_anything", reason="needs the extra 'sam'")
    from llie_preproc.segmentation import build_sam

    return build_sam(**TINY_SAM, checkpoint=None if path == Path() else path)


def encoder_of(path: Path) -> Any:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    return MODELS.build(dict(TINY_ENCODER, checkpoint=None if path == Path() else path))


def enhancer_of(path: Path) -> Any:
    return build_enhancer("PSENet", checkpoint=None if path == Path() else path)


# Loaders of a path; for an empty path they build the network with random weights.
PLACES = {"enhancer": enhancer_of, "SAM": build_sam_of, "feature encoder": encoder_of}


@pytest.mark.parametrize("fault", ["int8", "sparse", "nan"])
@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_loads_weights_refuses_wrong_tensors(tmp_path: Path, place: str, fault: str) -> None:
    torch.manual_seed(0)
    own = PLACES[place](Path()).state_dict()
    torch.save(own, tmp_path / "good.pth")
    loaded = PLACES[place](tmp_path / "good.pth").state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in own.items())
    state, name = with_fault(own, fault)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=rf"bad\.pth: the tensor {name} .*{FAULTS[fault][1]}"):
        PLACES[place](tmp_path / "bad.pth")
