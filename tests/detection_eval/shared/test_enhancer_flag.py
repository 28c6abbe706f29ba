"""``--enhancer`` and the inference options have the same meaning in ``llie faces``, ``sam``, ``compare`` and others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import torch
from torch import nn

from detection_eval.faces import detectors
from detection_eval.shared.enhancers import enhancer_specs, labelled
from llie_preproc import InferenceOptions, build_enhancer
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import Enhancer
from llie_preproc.faces import Faces
from llie_preproc.pictures import Picture, write_picture
from llie_preproc.registry import MODELS
from tests.support.tiny_detection import arguments

URL = "https://example.org/w.pth#sha256=0a1b"
TILE = 32


@pytest.mark.parametrize(
    ("given", "label", "name"),
    [
        ("none", "none", "none"),
        ("psenet", "psenet", "psenet"),
        ("PS-Net", "PS-Net", "PS-Net"),
        ("psenet@psenet_sice", "psenet", "psenet@psenet_sice"),
        ("psenet@w=1/x.pth", "psenet", "psenet@w=1/x.pth"),
        (f"psenet@{URL}", "psenet", f"psenet@{URL}"),
        (f"official=psenet@{URL}", "official", f"psenet@{URL}"),
        ("mine=configs/a=b.py", "mine", "configs/a=b.py"),
        ("mine=mm_configs::enhancers/psenet_sice.py@w.pth", "mine", "mm_configs::enhancers/psenet_sice.py@w.pth"),
    ],
)
def test_a_label_stands_before_the_first_equals_sign(given: str, label: str, name: str) -> None:
    assert labelled([given]) == {label: name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["psenet", "psenet@other.pth"], "names psenet twice: put LABEL= before one of them"),
        (["a=psenet", "a=clahe"], "names a twice"),
        (["none", "none"], "names none twice"),
        (["none=psenet"], "'none' is no label"),
        (["none@w.pth"], "'none' is no label"),
        (["configs/a.py"], "'configs/a.py' is no label: .* put LABEL= before the name"),
        (["../a=psenet"], "'../a=psenet' is no label"),
        (["=psenet"], "'=psenet' is no label"),
        (["@w.pth"], "'' is no label"),
        (["none,psenet"], "--enhancer none,psenet: several enhancers have spaces between them, not commas"),
    ],
)
def test_a_label_must_be_unique_and_usable_as_the_name_of_a_folder(given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled(given)


def test_the_record_of_an_enhancer_holds_the_options_that_change_results() -> None:
    (whole,), (tiled,), (batched,) = (
        enhancer_specs(["gamma_correction"], InferenceOptions(**options)).values()
        for options in ({}, {"tile": TILE}, {"batch_size": 2})
    )
    assert whole == batched
    assert (whole["options"], tiled["options"]) == ({}, {"tile": TILE})
    assert whole["fingerprint"] == tiled["fingerprint"]


def test_a_network_may_be_named_twice_with_different_weights(tmp_path: Path) -> None:
    network = build_enhancer("PSENet", checkpoint=None)
    save_state_dict(network.state_dict(), tmp_path / "other.safetensors")
    specs = enhancer_specs(["psenet", f"other=psenet@{tmp_path / 'other.safetensors'}", "third=PSENet"])
    assert list(specs) == ["psenet", "other", "third"]
    assert {spec["type"] for spec in specs.values()} == {"PSENet"}
    assert specs["psenet"]["fingerprint"] == specs["third"]["fingerprint"] != specs["other"]["fingerprint"]
    assert specs["other"]["checkpoint"] == str(tmp_path / "other.safetensors")


class SideRecorder(Enhancer):
    """An enhancer that changes nothing, and records the longer side of each input in ``seen``."""

    seen: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.add(max(image.shape[-2:]))
        return self.gain * image


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Value of ``--enhancer`` for the recorder, with its weights."""
    monkeypatch.setitem(MODELS._module_dict, "SideRecorder", SideRecorder)
    SideRecorder.seen.clear()
    save_state_dict(SideRecorder().state_dict(), tmp_path / "recorder.safetensors")
    return f"side-recorder@{tmp_path / 'recorder.safetensors'}"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 99, (48, 64, 3)).astype(np.uint8)
        write_picture(tmp_path / "pictures" / f"{number}.png", Picture(image))
    return tmp_path / "pictures"


def _sides(*words: object) -> set[int]:
    """Run a command; return the longer sides that the recorder saw."""
    SideRecorder.seen.clear()
    assert main([str(word) for word in words]) == 0
    return set(SideRecorder.seen)


class _OneFace:
    def detect(self, images: list[np.ndarray]) -> list[Faces]:
        return [Faces(np.array([[4, 4, 24, 24]], np.float32), np.array([0.99], np.float32)) for _ in images]


def _faces(pictures: Path) -> list[object]:
    return ["faces", "--dataset", "folder", "--images", pictures, "--gammas", 0.5]


def _sam(pictures: Path) -> list[object]:
    boxes = pictures.parent / "boxes.json"
    images = [dict(id=n, file_name=f"{n}.png", width=64, height=48) for n in range(2)]
    box = dict(id=1, image_id=0, category_id=1, bbox=[8, 8, 20, 20], area=400, iscrowd=0)
    boxes.write_text(json.dumps(dict(images=images, annotations=[box], categories=[dict(id=1, name="thing")])))
    return ["sam", "--images", pictures, "--boxes", boxes, "--sam", "small"]


@pytest.mark.examples(1)
@pytest.mark.parametrize("command", [_faces, _sam])
def test_tiles_reach_the_network_and_the_results_and_are_checked_on_resume(
    command: Callable[[Path], list[object]],
    recorder: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    if command is _sam:
        pytest.importorskip("segment_anything", reason="needs the extra 'sam'")
    monkeypatch.setattr(detectors.DetectorChoice, "_build_base", lambda self: _OneFace())
    given = [*command(pictures), "--enhancer", "none", recorder, "--out", tmp_path / "out"]
    assert _sides(*given) == {64}
    assert _sides(*given, "--resume", "--batch-size", 1) == {64}
    capsys.readouterr()
    assert main([*map(str, given), "--resume", "--tile", str(TILE)]) == 2
    assert f"was made with another tile (None, now {TILE})" in capsys.readouterr().err
    assert _sides(*given[:-1], tmp_path / "tiled", "--tile", TILE) == {TILE}
    made = json.loads((tmp_path / "tiled" / "results.json").read_text())
    assert made["enhancers"]["side-recorder"]["options"] == {"tile": TILE}
    assert f"tile: {TILE}" in made["provenance"]["enhancers"]


@pytest.mark.slow
def test_tiles_reach_every_mode_of_a_comparison_and_its_report(
    recorder: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = arguments(tmp_path)
    modes = ["--enhancer", recorder, "--modes", "zero-shot", "joint"]
    assert _sides(*command, *modes, "--tile", TILE) == {TILE}
    assert _sides("report", tmp_path / "out", "--changed", 1) == {TILE}
    capsys.readouterr()
    assert main([*command, *modes, "--resume"]) == 2
    assert f"differs in enhancer side-recorder options tile ({TILE}, now None)" in capsys.readouterr().err
    # Under another label, an enhancer with other options becomes another row.
    label = ["--enhancer", f"whole={recorder}", "--modes", "zero-shot"]
    assert max(_sides(*command, *label, "--resume")) > TILE
