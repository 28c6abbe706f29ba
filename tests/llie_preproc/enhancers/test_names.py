"""``enhancer_config`` resolves every spelling, class and file that names an enhancer, wherever one is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.enhancers import Cascade, Enhancer, GammaCorrection, PSENet
from llie_preproc.enhancers.names import enhancer_config
from llie_preproc.registry import MODELS


@pytest.mark.parametrize(
    "given", ["psenet", "PSENet", "PSENET", "pse_net", "pse-net", "ps_net", "llie_preproc.PSENet", PSENet]
)
def test_every_spelling_is_one_network(given: Any) -> None:
    assert enhancer_config(given) == enhancer_config(dict(type=given)) == {"type": "PSENet"}


@pytest.mark.parametrize(("given", "near"), [("psnet", "PSENet"), ("PSENett", "PSENet"), ("semi_lie", "SemiLLIE")])
def test_an_unknown_name_is_refused_with_the_nearest_one(given: str, near: str) -> None:
    with pytest.raises(KeyError, match=f"is '{near}' meant"):
        enhancer_config(given)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("psenet@a.pth", "a.pth"),
        ("psenet@a@b.pth", "a@b.pth"),
        ("psenet@http://[::1]/w.pth#sha256=00", "http://[::1]/w.pth#sha256=00"),
        ("ps_net@https://example.org/w.pth#sha256=00", "https://example.org/w.pth#sha256=00"),
    ],
)
def test_weights_follow_an_at_sign(text: str, weights: str) -> None:
    assert enhancer_config(text) == {"type": "PSENet", "checkpoint": weights}


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ("psenet@", ValueError, "no weights"),
        ("my.safetensors", KeyError, "NAME@my.safetensors"),
        ("absent.py", FileNotFoundError, "absent.py"),
        (dict(type="psenet@w.pth"), KeyError, "'checkpoint'"),
        (dict(width=2), TypeError, "'type'"),
        (5, TypeError, "5"),
    ],
)
def test_a_name_without_a_network_is_refused(given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        enhancer_config(given)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "other.safetensors"
    save_state_dict(PSENet().state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "enhancer = dict(type='psenet', checkpoint='{weights}')",
        "enhancer = 'psenet@{weights}'",
        "model = dict(enhancer=dict(type='PSENet'), checkpoint='{weights}')",
        "model = dict(enhancer='psenet', checkpoint='{weights}')",
        "model = dict(data_preprocessor=dict(enhancer='psenet', checkpoint='{weights}'))",
        "pipeline = [dict(type='Load'), dict(type='llie_preproc.Enhance', enhancer='psenet', checkpoint='{weights}')]\n"
        "tta_pipeline = [dict(type='TestTimeAug', transforms=[[pipeline[1]]])]",
    ],
)
def test_a_config_file_keeps_its_weights(tmp_path: Path, weights: str, text: str) -> None:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    (tmp_path / "config.py").write_text(text.format(weights=weights))
    built, direct = (build_enhancer(given) for given in (tmp_path / "config.py", f"psenet@{weights}"))
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), direct.parameters(), strict=True))


@pytest.mark.parametrize("text", ["enhancer = dict(type=5)", "model = None", "model = [1]", "enhancer = dict(a=1)"])
def test_a_config_file_without_an_enhancer_is_refused_by_name(tmp_path: Path, text: str) -> None:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    (tmp_path / "odd.py").write_text(text)
    with pytest.raises(ValueError, match=r"odd\.py"):
        enhancer_config(tmp_path / "odd.py")


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_a_dumped_config_of_every_door_names_its_network(tmp_path: Path, door: str) -> None:
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from mmengine.config import Config

    from llie_preproc.detection import add_enhancer

    model = dict(type="RetinaNet", data_preprocessor=dict(type="DetDataPreprocessor"))
    plain = Config(
        dict(model=model, train_pipeline=[dict(type="PackDetInputs")], test_pipeline=[dict(type="PackDetInputs")])
    )
    add_enhancer(plain, dict(type="PSENet", width=2), door=door, checkpoint="w.pth").dump(tmp_path / "dumped.py")
    assert enhancer_config(tmp_path / "dumped.py") == {"type": "PSENet", "width": 2, "checkpoint": "w.pth"}


def test_the_models_enhancer_counts_before_a_variable_of_the_file(tmp_path: Path) -> None:
    """Options may have changed the model's enhancer and left the variable as it was."""
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    (tmp_path / "config.py").write_text("enhancer = 'psenet'\nmodel = dict(enhancer='clahe')")
    assert enhancer_config(tmp_path / "config.py") == {"type": "CLAHE"}


def test_the_default_weights_are_the_same_wherever_they_are_named(tmp_path: Path) -> None:
    spellings = "enhancer='psenet'", "enhancer=dict(type='PSENet', checkpoint='default')", "enhancer='psenet@default'"
    transforms = ", ".join(f"[dict(type='Enhance', {each})]" for each in spellings)
    (tmp_path / "same.py").write_text(f"pipelines = [{transforms}]\n")
    assert enhancer_config(str(tmp_path / "same.py")) == enhancer_config("psenet")


def test_transforms_of_several_networks_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    transforms = ", ".join(f"[dict(type='Enhance', enhancer='{name}')]" for name in ("psenet", "sci", "psenet"))
    (tmp_path / "two.py").write_text(f"pipelines = [{transforms}]")
    with pytest.raises(ValueError, match=r"two\.py has Enhance transforms of several enhancers"):
        enhancer_config(tmp_path / "two.py")


def test_a_dumped_class_is_named_with_its_file(tmp_path: Path) -> None:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    from mmengine.config import Config

    class OwnNet(Enhancer): ...

    OwnNet.__qualname__, OwnNet.__module__ = "OwnNet", "own_networks"
    Config(dict(enhancer=dict(type=OwnNet))).dump(tmp_path / "dumped.py")
    with pytest.raises(ValueError, match=r"dumped\.py: there is no import of own_networks\.OwnNet: .*'OwnNet'"):
        enhancer_config(tmp_path / "dumped.py")


def test_weights_that_are_named_twice_are_refused(weights: str) -> None:
    for checkpoint in ("psenet_sice", None):
        with pytest.raises(ValueError, match="named twice"):
            build_enhancer(f"psenet@{weights}", checkpoint)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        build_enhancer("psenet@absent.pth")


def test_members_of_a_cascade_are_named_in_the_same_ways(weights: str) -> None:
    cascade = Cascade(["gamma_correction", f"pse_net@{weights}", GammaCorrection, dict(type="upscale")])
    assert [type(member).__name__ for member in cascade.members] == [
        "GammaCorrection", "PSENet", "GammaCorrection", "Upscale",
    ]  # fmt: skip


def test_a_network_of_another_package_does_not_take_over_a_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    class Psenet(Enhancer):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    monkeypatch.setitem(MODELS._module_dict, "Psenet", Psenet)
    assert enhancer_config("psenet") == {"type": "PSENet"}
    assert enhancer_config("Psenet") == {"type": "Psenet"}


def test_the_preprocessor_runs_the_network_that_it_has() -> None:
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from llie_preproc.detection import EnhancedDetDataPreprocessor

    door, image = EnhancedDetDataPreprocessor("psenet"), torch.full((3, 8, 8), 100, dtype=torch.uint8)
    door.enhancer = build_enhancer("identity")
    assert torch.equal(door.enhance_images([image])[0], image.float())
