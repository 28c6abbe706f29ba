"""While the project's commands and classes run, MMEngine loads files only with the project's restricted reader."""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.apis import init_detector
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from llie_preproc import safe_loading as module
from llie_preproc.detection import add_enhancer
from llie_preproc.errors import CheckpointError
from llie_preproc.faces import MMDetFaceDetector
from llie_preproc.mm.runner_parts import read_checkpoint
from llie_preproc.registry import MODELS
from llie_preproc.safe_loading import PUBLISHERS, SafeInit, SafeRunner, safe_loading
from tests.support.mmdet_models import build, holds, mmdet_config
from training.checkpoint_parts import split_checkpoint

RAN: list[str] = []


class Code:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple:
        return run, ("the code",)


def run(what: str) -> None:
    RAN.append(what)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A checkpoint that runs code, and a folder for torch.hub's downloads; at the end the code must not have run."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    path = tmp_path / "code.pth"
    torch.save({"state_dict": {"weight": torch.ones(1)}, "hook": Code()}, path)
    RAN.clear()
    yield path
    assert not RAN


def fetch(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
    """Make every download copy ``path``; returns the list of the requested URLs."""
    asked: list[str] = []

    def download(url: str, to: str, hash_prefix: str | None = None, progress: bool = True) -> None:
        asked.append(url)
        if hash_prefix and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(hash_prefix):
            raise RuntimeError("invalid hash value")
        shutil.copy(path, to)

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    monkeypatch.setattr("mmengine.utils.dl_utils.load_url", lambda *_, **__: pytest.fail("MMEngine's own download"))
    monkeypatch.setattr("mmengine.runner.checkpoint.load_url", lambda *_, **__: pytest.fail("MMEngine's own download"))
    return asked


def test_mmengine_alone_runs_the_code(code: Path) -> None:
    """If MMEngine did not run it, the other tests could not fail."""
    CheckpointLoader.load_checkpoint(str(code))
    assert RAN
    RAN.clear()


SCHEMES = ("", "file://", "http://", "https://", "s3://", "petrel://", "openmmlab:s3://", "pavi://", "ftp://")
NAMES = ("torchvision://resnet50", "modelzoo://resnet18", "open-mmlab://resnext101_64x4d", "openmmlab://regnetx_3.2gf")


@pytest.mark.parametrize("scheme", [*SCHEMES, *NAMES, "mmcls://mobilenet_v2", "torchvision://no_such", *PUBLISHERS])
def test_no_scheme_reaches_an_unrestricted_reader(code: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    fetch(monkeypatch, code)
    name = scheme if scheme in NAMES or scheme.endswith(("v2", "such")) else f"{scheme}{code}"
    with safe_loading(), pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(name)


def test_every_scheme_of_this_mmengine_is_covered(code: Path) -> None:
    with safe_loading():
        assert set(CheckpointLoader._schemes.values()) == {module.load_from_restricted}


def test_a_url_needs_its_digest(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.pth"
    torch.save({"state_dict": {"weight": torch.ones(1)}}, good)
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    asked = fetch(monkeypatch, good)
    with safe_loading():
        for name in ("http://somewhere/a.pth", f"https://somewhere/a.pth#sha256={digest[:8]}"):
            with pytest.raises(CheckpointError, match="must end in '#sha256='"):
                CheckpointLoader.load_checkpoint(name)
        with pytest.raises(CheckpointError, match="invalid hash"):
            CheckpointLoader.load_checkpoint(f"https://somewhere/a.pth#sha256={'0' * 64}")
        found = CheckpointLoader.load_checkpoint(f"https://somewhere/a.pth#sha256={digest}")
    assert torch.equal(found["state_dict"]["weight"], torch.ones(1))
    assert asked == ["https://somewhere/a.pth"] * 2


@pytest.mark.parametrize("scheme", [*NAMES, "mmcls://mobilenet_v2", f"{PUBLISHERS[0]}mmdetection/a.pth"])
def test_public_backbones_load_without_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The names that MMDetection's configs use load without a digest."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    good = tmp_path / "good.pth"
    torch.save({"backbone.weight": torch.ones(1)}, good)
    asked = fetch(monkeypatch, good)
    # This file is not the public one, so the hyphen before the digest is removed from its name.
    monkeypatch.setattr(module, "published_file", lambda url: real(url.replace("-", "").replace("_", "")))
    from llie_preproc.checkpoints import published_file as real

    with safe_loading():
        found = CheckpointLoader.load_checkpoint(scheme)
    assert list(found["state_dict"]) == ["weight" if scheme.startswith("mmcls") else "backbone.weight"]
    assert asked[0].startswith(tuple(p.replace("-", "").replace("_", "") for p in PUBLISHERS))


def test_the_digits_of_a_public_name_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pth")
    fetch(monkeypatch, tmp_path / "other.pth")
    with safe_loading(), pytest.raises(CheckpointError, match="invalid hash"):
        CheckpointLoader.load_checkpoint("torchvision://resnet50")
    # A file that somebody else put into the cache is checked too.
    kept = tmp_path / "hub" / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    shutil.copy(tmp_path / "other.pth", kept)
    with safe_loading(), pytest.raises(CheckpointError, match="does not begin with 0676ba61"):
        CheckpointLoader.load_checkpoint("torchvision://resnet50")


def test_functions_of_mmdetection_and_mmengine_read_safely_inside_safe_loading(code: Path, tmp_path: Path) -> None:
    """The docs say this of ``safe_loading``."""
    cfg = add_enhancer(mmdet_config("retinanet"), "PSENet", door="preprocessor")
    with safe_loading():
        with pytest.raises(CheckpointError, match=r"code\.pth"):
            init_detector(cfg, str(code), device="cpu")
        with pytest.raises(CheckpointError, match=r"code\.pth"):
            runner(tmp_path / "run", build(cfg.model), Runner).load_checkpoint(str(code))


def test_mmengine_is_unchanged_outside_of_safe_loading() -> None:
    before = dict(CheckpointLoader._schemes)
    assert module.load_from_restricted not in before.values()
    with pytest.raises(KeyError), safe_loading(), safe_loading():
        raise KeyError
    assert list(CheckpointLoader._schemes.items()) == list(before.items())


def our_modules() -> dict[str, type]:
    """Every registered class of the project that MMEngine initialises."""
    MODELS.import_from_location()
    return {k: v for k, v in sorted(MODELS._module_dict.items()) if isinstance(v, type) and issubclass(v, BaseModule)}


@pytest.mark.parametrize("name", our_modules())
def test_every_class_reads_its_init_cfg_safely(code: Path, name: str) -> None:
    kind = our_modules()[name]
    assert issubclass(kind, SafeInit)
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    made._is_init, made.init_cfg = False, dict(type="Pretrained", checkpoint=str(code))
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        made.init_weights()


@pytest.mark.examples(4)
@pytest.mark.parametrize("part", ["", "detector", "detector.backbone", "detector.neck", "detector.bbox_head"])
@pytest.mark.parametrize("prefix", [None, "backbone."])
def test_every_part_of_a_wrapped_detector_is_initialised_safely(code: Path, part: str, prefix: str | None) -> None:
    cfg = add_enhancer(mmdet_config("retinanet"), "PSENet")
    node = cfg.model
    for name in filter(None, part.split(".")):
        node = node[name]
    node.init_cfg = dict(type="Pretrained", checkpoint=str(code), prefix=prefix)
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        build(cfg.model).init_weights()


def test_a_backbone_in_a_wrapper_loads_a_safe_file(tmp_path: Path) -> None:
    cfg = add_enhancer(mmdet_config("retinanet"), "PSENet")
    other = build(cfg.model, seed=5).detector.backbone.state_dict()
    torch.save({"state_dict": other, "meta": {}}, tmp_path / "backbone.pth")
    cfg.model.detector.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "backbone.pth"))
    model = build(cfg.model, seed=6)
    model.init_weights()
    assert holds(model.detector.backbone, other)


def runner(work_dir: Path, model: Any, kind: type = SafeRunner, **options: Any) -> Any:
    return kind(model=model, work_dir=str(work_dir), experiment_name=work_dir.name, log_level="ERROR", **options)


@pytest.fixture
def plain() -> nn.Module:
    cfg = mmdet_config("retinanet")
    return build(cfg.model, seed=1)


def test_a_safe_runner_runs_no_code(code: Path, tmp_path: Path, plain: nn.Module) -> None:
    for load in ("load_checkpoint", "resume"):
        with pytest.raises(CheckpointError, match=r"code\.pth"):
            getattr(runner(tmp_path / "run", plain), load)(str(code))
        with pytest.raises(CheckpointError, match="must end in '#sha256='"):
            getattr(runner(tmp_path / "run", plain), load)("http://127.0.0.1:9/a.pth")
        with pytest.raises(CheckpointError, match="must end in '#sha256='"):
            getattr(runner(tmp_path / "run", plain), load)(f"{PUBLISHERS[0]}a.pth")
        with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
            getattr(runner(tmp_path / "run", plain), load)("nowhere.pth")


def test_a_safe_runner_loads_what_mmengines_loads(tmp_path: Path, plain: nn.Module) -> None:
    state = {
        f"module.{name}": tensor for name, tensor in build(mmdet_config("retinanet").model, 5).state_dict().items()
    }
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "a.pth")
    loaded = []
    for kind in (Runner, SafeRunner):
        model = copy.deepcopy(plain)
        assert (
            runner(tmp_path / kind.__name__, model, kind).load_checkpoint(str(tmp_path / "a.pth"))["meta"]["epoch"] == 3
        )
        loaded.append(model.state_dict())
    assert all(torch.equal(v, loaded[1][k]) for k, v in loaded[0].items())
    assert torch.equal(loaded[1]["backbone.conv1.weight"], state["module.backbone.conv1.weight"])
    # A bare state dict is loaded too; hooks of MMEngine would fail for it.
    torch.save(state, tmp_path / "b.pth")
    assert "state_dict" in runner(tmp_path / "bare", copy.deepcopy(plain)).load_checkpoint(str(tmp_path / "b.pth"))


@pytest.mark.parametrize("key", ["state_dict", "ema_state_dict"])
@pytest.mark.parametrize("fault", [torch.nan, torch.int8])
def test_a_safe_runner_refuses_wrong_weights(tmp_path: Path, plain: nn.Module, key: str, fault: Any) -> None:
    state = plain.state_dict()
    name = "backbone.conv1.weight"
    wrong = state[name].to(fault) if isinstance(fault, torch.dtype) else torch.full_like(state[name], fault)
    prefix = "module." if key.startswith("ema") else ""
    states = {"state_dict": state, key: {f"{prefix}{k}": v for k, v in state.items()} | {f"{prefix}{name}": wrong}}
    torch.save({**states, "meta": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{name} (is not finite|has dtype torch\.int8)"):
        runner(tmp_path / "run", plain).load_checkpoint(str(tmp_path / "a.pth"))


READERS = {
    "faces": lambda path: MMDetFaceDetector(_faces(), path),
    "split": lambda path: split_checkpoint(path, "/nowhere"),
    "reader": read_checkpoint,
}


def _faces() -> Any:
    cfg = mmdet_config("retinanet")
    cfg.model.bbox_head.num_classes = 1
    return cfg


@pytest.mark.parametrize("name", READERS)
def test_readers_of_checkpoints_run_no_code_and_fetch_nothing_without_a_digest(code: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        READERS[name](str(code))
    with pytest.raises(CheckpointError, match="must end in '#sha256='"):
        READERS[name]("http://127.0.0.1:9/code.pth")
    # A file with the right digest must not run code either.
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        READERS[name](f"{code.as_uri()}#sha256={hashlib.sha256(code.read_bytes()).hexdigest()}")


def test_a_face_detector_refuses_wrong_weights(tmp_path: Path) -> None:
    state = build(_faces().model, seed=1).state_dict()
    state["bbox_head.retina_cls.bias"] = state["bbox_head.retina_cls.bias"] * torch.nan
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.* bbox_head\.retina_cls\.bias is not finite"):
        MMDetFaceDetector(_faces(), tmp_path / "a.pth")


def test_a_model_that_reads_a_file_while_it_is_built_reads_it_safely(code: Path) -> None:
    """A detector that learns from a teacher reads the teacher's file in its constructor."""
    cfg = _faces()
    teacher = mmdet_config("retinanet")
    teacher.dump(code.with_name("teacher.py"))
    cfg.model.update(type="KnowledgeDistillationSingleStageDetector")
    cfg.model.update(teacher_config=str(code.with_name("teacher.py")), teacher_ckpt=str(code))
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        MMDetFaceDetector(cfg)
