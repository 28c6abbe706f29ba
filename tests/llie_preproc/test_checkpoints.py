"""Reading a checkpoint gives tensors and runs no code; weights that do not fit are refused with a count."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import (
    load_checkpoint,
    match_report,
    read_state_dict,
    rename_public_keys,
    save_state_dict,
    shipped_weights,
)
from llie_preproc.enhancers import Identity, PSENet
from llie_preproc.errors import CheckpointError
from tests.support.networks import same as equal

# PyTorch warns of pickle protocols that it supports in part.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")


class Explosive:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def state() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1, dtype=torch.int64)}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("container", [None, "state_dict", "params_ema", "params", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "enhancer.", "module.model."])
def test_containers_and_prefixes_of_trainers_are_removed(
    tmp_path: Path, legacy: bool, container: str | None, prefix: str
) -> None:
    saved: dict = {prefix + k: v for k, v in state().items()}
    saved = {container: saved, "epoch": 3} if container else saved
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert equal(read_state_dict(tmp_path / "a.pth"), state())


def test_only_the_enhancer_of_a_training_checkpoint_is_taken(tmp_path: Path) -> None:
    saved = {"enhancer.a.weight": state()["a.weight"], "enhancer.b": state()["b"], "teacher.b": torch.zeros(1)}
    torch.save({"state_dict": saved}, tmp_path / "epoch_1.pth")
    assert equal(read_state_dict(tmp_path / "epoch_1.pth"), state())


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.safetensors"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    marker, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(pickle.dumps({"state_dict": Explosive(marker)}, protocol=protocol))
    with pytest.raises(CheckpointError, match=name):
        read_state_dict(path)
    assert not marker.exists()
    # The same bytes do run if they are trusted, so the check above can fail.
    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_code_inside_a_zip_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"state_dict": state(), "hook": Explosive(marker)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth is refused: it holds the object \S*mkdir.*safetensors"):
        read_state_dict(tmp_path / "a.pth")
    assert not marker.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "data", [b"", b"hello world", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04 no zip", pickle.dumps([1]), pickle.dumps({"a": 1})]
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        read_state_dict(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=4), zipped=st.booleans()
)
def test_damaged_checkpoints_give_tensors_or_a_checkpoint_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], zipped: bool
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=zipped)
    damaged = bytearray(path.read_bytes())
    for position, value in changes:
        damaged[position % len(damaged)] = value
    path.write_bytes(damaged)
    with contextlib.suppress(CheckpointError):
        assert all(isinstance(v, Tensor) for v in read_state_dict(path).values())


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        read_state_dict("nowhere.pth")


def test_digests_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = save_state_dict(state(), path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert equal(read_state_dict(f"{path}#sha256={digest}"), state())
    with pytest.raises(CheckpointError, match=f"sha256 is {digest}"):
        read_state_dict(f"{path}#sha256={'0' * 64}")


def test_urls_need_a_digest_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    path = tmp_path / "a.safetensors"
    digest = save_state_dict(state(), path)
    with pytest.raises(CheckpointError, match="sha256"):
        read_state_dict(path.as_uri())
    with pytest.raises(CheckpointError, match="file://"):
        read_state_dict(f"{path.as_uri()}#sha256={'0' * 64}")
    assert equal(read_state_dict(f"{path.as_uri()}#sha256={digest}"), state())
    path.unlink()
    assert equal(read_state_dict(f"{path.as_uri()}#sha256={digest}"), state())


def test_saved_weights_are_plain_safetensors(tmp_path: Path) -> None:
    transposed = {"a": torch.arange(6.0).reshape(2, 3).T}
    save_state_dict(transposed, tmp_path / "new folder" / "a.safetensors", {"enhancer": "X"})
    assert equal(load_file(tmp_path / "new folder" / "a.safetensors"), transposed)


def test_loading_counts_tensors_and_refuses_too_few(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = PSENet(), PSENet()
    partial = dict(list(source.state_dict().items())[:40]) | {"extra": torch.zeros(1)}
    save_file(partial, tmp_path / "a.safetensors")
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"PSENet: 40 of 62 tensors matched; 22 missing .*1 unexpected \(extra\)"):
        load_checkpoint(target, tmp_path / "a.safetensors")
    assert equal(target.state_dict(), before)
    report = load_checkpoint(target, tmp_path / "a.safetensors", min_matched=0.5)
    assert (report.matched, report.total, report.unexpected) == (40, 62, ("extra",))
    assert equal(target.state_dict(), before | {k: v for k, v in partial.items() if k != "extra"})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="is not a checkpoint of PSENet: 0 of 62"):
        load_checkpoint(PSENet(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="Identity has no weights"):
        load_checkpoint(Identity(), tmp_path / "a.safetensors")


def test_another_width_is_a_mismatch() -> None:
    report = match_report(PSENet(width=2), PSENet().state_dict())
    assert report.mismatched
    assert not report.missing
    assert report.matched + len(report.mismatched) == report.total


def test_a_report_refuses_too_few_tensors() -> None:
    own = PSENet().state_dict()
    first, *rest = own
    report = match_report(PSENet(), {name: own[name] for name in rest} | {"extra": torch.zeros(1)})
    report.check("this fits", least=61 / 62)
    for least in (None, 1.0):
        with pytest.raises(CheckpointError, match=r"^a\.pth does not: 61 of 62 .*; 1 unexpected \(extra\)\. Try b\.$"):
            report.check("a.pth does not", least, "Try b.")
    only_more = report.without(lambda name: name == first)
    assert (only_more.matched, only_more.total, only_more.whole) == (61, 61, False)
    only_more.check("this fits", least=1.0)
    report.without(lambda name: name in (first, "extra")).check("this fits")
    with pytest.raises(CheckpointError, match=r"^another width: 21 of 62 tensors matched; 41 mismatched"):
        match_report(PSENet(width=2), own).without(lambda name: False).check("another width", least=0.9)


def test_public_weights_reproduce_the_public_outputs(shared_data: Path) -> None:
    reference = np.load(shared_data / "reference_weights" / "psenet_reference_outputs.npz")
    network = build_enhancer("PSENet", shared_data / "reference_weights" / "psenet_sice_official.safetensors")
    image = reference["image"].astype(np.float32) / 255
    assert np.abs(enhance(image, network) - reference["sice"].transpose(1, 2, 0)).max() < 1e-5


def test_own_names_are_not_renamed() -> None:
    own = PSENet().state_dict()
    assert equal(rename_public_keys(own, PSENet()), own)


def test_every_shipped_weight_is_intact_and_loads() -> None:
    for shipped in shipped_weights():
        assert hashlib.sha256(shipped.path.read_bytes()).hexdigest() == shipped.sha256
        assert shipped.licence
        load_checkpoint(build_enhancer(shipped.enhancer, shipped.name), shipped.name)


def test_subnormal_weights_become_zero_and_others_stay(tmp_path: Path) -> None:
    network = PSENet()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    tiny = torch.finfo(torch.float32).tiny
    special = torch.tensor([tiny / 2, -tiny / 64, tiny, -tiny, 0.25])
    state["last.project.weight"].view(-1)[:5] = special
    save_state_dict(state, tmp_path / "weights.safetensors")
    load_checkpoint(network, tmp_path / "weights.safetensors")
    loaded = network.state_dict()
    expected = torch.tensor([0, 0, tiny, -tiny, 0.25])
    assert torch.equal(loaded["last.project.weight"].view(-1)[:5], expected)
    assert all(torch.equal(loaded[k], v) for k, v in state.items() if k != "last.project.weight")
    assert torch.equal(loaded["last.project.weight"].view(-1)[5:], state["last.project.weight"].view(-1)[5:])
