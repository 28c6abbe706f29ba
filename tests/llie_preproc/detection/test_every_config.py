"""A config of ``mm_configs`` that takes one enhancer takes every one; environment variables name the sets' folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.places import ROOT

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from llie_preproc import build_enhancer
from llie_preproc.config_files import read_config_file
from llie_preproc.config_nodes import nodes, walk
from llie_preproc.enhancers.names import enhancer_classes, enhancer_config, enhancer_in
from tests.support.configs import read_config

CONFIGS = ROOT / "mm_configs"
FILES = sorted(path for path in CONFIGS.rglob("*.py") if path.name != "__init__.py")
# The configs of one enhancer each, which the other configs include.
FRAGMENTS = {path.stem: path for path in FILES if path.parent.name == "enhancers" and path.parents[1].name == "_base_"}
# Configs that run with an enhancer of the user's choice.
CHOOSING = {
    str(path.relative_to(CONFIGS).with_suffix("")): path
    for path in FILES
    if path.stem.endswith(("_enhanced", "_joint")) and "_base_" not in path.parts
}
VARIABLE = re.compile(r"\{\{\$(\w+):(\S+?)\}\}")
# Classes of the fragments that are not named after their network's class.
SPELT = {"gamma": "GammaCorrection", "iaml": "IAMLUNet", "collaba-x2": "CollaBA"}
DOORS = ("llie_preproc.Enhance", "llie_preproc.EnhancedDetector")
JOINT = "joint/faster-rcnn_r50_fpn_exdark_joint"


def variables() -> dict[str, set[str]]:
    """The environment variables of all configs, with their default values."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for name, default in VARIABLE.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(default)
    return found


VARIABLES = variables()


def test_every_enhancer_except_identity_has_a_fragment() -> None:
    ours = {name for name, kind in enhancer_classes().items() if kind.__module__.startswith("llie_preproc.")}
    kinds = {name: read_config(path).enhancer.type for name, path in FRAGMENTS.items()}
    assert sorted(kinds.values()) == sorted(ours - {"Identity"})
    assert kinds == {name: SPELT.get(name) or enhancer_config(name)["type"] for name in FRAGMENTS}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_builds_and_names_its_weights(name: str) -> None:
    enhancer = read_config(FRAGMENTS[name]).enhancer.to_dict()
    assert enhancer_config(FRAGMENTS[name]) == enhancer
    if "checkpoint" in enhancer:
        assert enhancer["checkpoint"] == f"weights/{name.replace('-', '_')}.safetensors"
        enhancer["checkpoint"] = None
    assert build_enhancer(enhancer).scale in (1, 2, 4)


def test_no_config_is_for_one_enhancer_in_front_of_one_detector() -> None:
    """A detector's config names no enhancer and takes any, so no config is needed for each pair."""
    plain = [path.stem for path in FILES if path.parent.name in ("detection", "joint", "faces")]
    named = [name for name in plain for enhancer in FRAGMENTS if enhancer in re.split("[_.]", name)]
    assert len(CHOOSING) >= 14
    assert named == []


@pytest.mark.examples(16)
@pytest.mark.parametrize("enhancer", FRAGMENTS)
@pytest.mark.parametrize("name", CHOOSING)
def test_every_config_takes_every_enhancer(name: str, enhancer: str) -> None:
    cfg = read_config(CHOOSING[name], ENHANCER=enhancer).to_dict()
    fragment = read_config(FRAGMENTS[enhancer]).to_dict()
    # The file's variable ``enhancer`` is left out, so that the enhancer of the model or of the transforms is found.
    assert enhancer_in({key: cfg[key] for key in cfg if key != "enhancer"}, name) == fragment["enhancer"]
    holders = [node for node in nodes(cfg) if node.get("type") in DOORS]
    assert len(holders) == (1 if "enhanced" not in cfg else 5 if "tta_pipeline" in cfg else 4)
    assert all(node["enhancer"] == fragment["enhancer"] and "checkpoint" not in node for node in holders)
    if name.startswith("joint/"):
        assert cfg["model"]["checkpointing"] == fragment.get("checkpointing", False)
    assert cfg["work_dir"].startswith("work_dirs/")
    assert cfg["work_dir"].endswith(f"_{enhancer}")


@pytest.mark.parametrize("name", CHOOSING)
def test_psenet_is_the_default_enhancer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENHANCER", raising=False)
    chosen = read_config(CHOOSING[name], ENHANCER="psenet")
    assert read_config(CHOOSING[name])._cfg_dict == chosen._cfg_dict


@pytest.mark.parametrize("name", ["detection/yolox_s_exdark_enhanced", JOINT])
def test_an_unknown_enhancer_is_refused_with_a_list_of_the_known_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENHANCER", "psnet")
    with pytest.raises(ValueError, match=re.escape(CHOOSING[name].name)) as caught:
        read_config_file(str(CHOOSING[name]))
    (line,) = str(caught.value).splitlines()
    assert f"there is no {CONFIGS / '_base_' / 'enhancers' / 'psnet.py'}" in line
    assert all(f"{each}.py" in line for each in FRAGMENTS)


@pytest.mark.parametrize("enhancer", ["zero-dce@weights/mine.pth", "clahe"])
def test_an_option_replaces_the_enhancer_of_a_model_and_its_weights(
    enhancer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENHANCER", "sci")
    cfg = read_config_file(str(CHOOSING[JOINT]), {"model.enhancer": enhancer}).to_dict()
    assert enhancer_in(cfg, JOINT) == enhancer_config(enhancer)


def test_an_option_replaces_the_enhancer_of_a_transform_by_its_position() -> None:
    """Each pipeline needs an option of its own, as docs/configs.md says."""
    places = {"train": 2, "val": 1, "test": 1}
    options = {f"{part}_dataloader.dataset.pipeline.{n}.enhancer": "clahe" for part, n in places.items()}
    path = CHOOSING["detection/faster-rcnn_r50_fpn_1x_exdark_enhanced"]
    cfg = read_config_file(str(path), options).to_dict()
    loaders = {part: cfg[f"{part}_dataloader"] for part in places}
    assert enhancer_in(loaders, path.name) == {"type": "CLAHE"}


def test_every_folder_of_a_set_is_named_by_a_variable() -> None:
    written = [path for path in FILES if re.search(r"[\"'](data|demo_output)/", path.read_text(encoding="utf-8"))]
    assert written == []


@pytest.mark.examples(6)
@pytest.mark.parametrize("path", [p for p in FILES if "_ROOT:" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem)
def test_a_variable_changes_the_folder_of_its_set(path: Path) -> None:
    roots = {name: f"/elsewhere/{name}" for name in VARIABLES if name.endswith("_ROOT")}
    values = [value for _, value in walk(read_config(path, **roots)) if isinstance(value, str)]
    found = {name for text in values for name in roots if f"/{name}" in text}
    named = {name for name, _ in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert found >= named & set(roots)


def test_a_variable_has_one_default_and_a_row_in_the_table() -> None:
    found = VARIABLES
    assert {name for name, defaults in found.items() if len(defaults) > 1} == {"COCO_CHECKPOINT"}
    table = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+_ROOT)` \| `(\S+?)` \|", table, re.M))
    assert rows == {name: next(iter(defaults)) for name, defaults in found.items() if name.endswith("_ROOT")}
    others = {"COCO_CHECKPOINT", "ENHANCER", "GAIN_UNET", "LOLV1_MORE", "SQUEEZENET_CAFFE", "YOLOX_NANO_COCO"}
    assert set(found) - set(rows) == others
    assert all(f"`{name}`" in table for name in (*found, *FRAGMENTS))
