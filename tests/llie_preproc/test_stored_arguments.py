"""A safetensors file holds the arguments of its network, and hostile ones build nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import PSENet, ZeroDCEPlusPlus
from llie_preproc.errors import CheckpointError, MissingWeightsError
from llie_preproc.fingerprints import fingerprint
from llie_preproc.stored_arguments import describe, stored_arguments
from tests.support.networks import same

NETWORKS = [
    dict(type="IAMLUNet", width=8, depth=1),
    dict(type="GainUNet", channels=(8, 16), blocks=(1, 1)),
    dict(type="CollaBA", width=16, prior_width=4, upscaler="bilinear"),
    dict(type="SemiLLIE", width=4, groups=1, blocks=1, states=1, illumination=False),
    dict(type="PSENet", width=0.5),
    dict(type="PSENet"),
]


def written(folder: Path, config: dict[str, Any], **changed: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file with random weights of a network, and the weights."""
    torch.manual_seed(0)
    network = build_enhancer(config, checkpoint=None)
    path = folder / "weights.safetensors"
    save_state_dict(network.state_dict(), path, describe(config["type"], network.arguments) | changed)
    return path, network.state_dict()


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: "-".join(map(str, config.values())))
def test_weights_alone_rebuild_their_network(tmp_path: Path, config: dict[str, Any]) -> None:
    path, state = written(tmp_path, config)
    for given in (
        f"{config['type']}@{path}",
        {"type": config["type"], "checkpoint": path},
        {**config, "checkpoint": path},
    ):
        assert same(build_enhancer(given).state_dict(), state)


def test_the_way_to_ask_for_a_network_is_not_in_its_fingerprint(tmp_path: Path) -> None:
    path, state = written(tmp_path, dict(type="ZeroDCEPlusPlus", channels=4, downscale=4))
    direct = ZeroDCEPlusPlus(channels=4, downscale=4)
    direct.load_state_dict(state)
    by_file = fingerprint(build_enhancer(f"zero-dce++@{path}"))
    assert by_file == fingerprint(direct)
    # The arguments themselves count: equal weights in a network of other arguments.
    assert by_file != fingerprint(build_enhancer(dict(type="ZeroDCEPlusPlus", downscale=6, checkpoint=path)))


def test_arguments_that_are_given_come_before_those_of_the_file(tmp_path: Path) -> None:
    path, state = written(tmp_path, NETWORKS[0])
    assert same(build_enhancer(dict(type="IAMLUNet", width=8), checkpoint=path).state_dict(), state)
    with pytest.raises(CheckpointError, match="is not a checkpoint of IAMLUNet"):
        build_enhancer(dict(type="IAMLUNet", width=4), checkpoint=path)
    # No tensor shows this argument.
    shrunk = dict(type="ZeroDCEPlusPlus", channels=4, downscale=4)
    (tmp_path / "other").mkdir()
    other, _ = written(tmp_path / "other", shrunk)
    assert build_enhancer(dict(type="ZeroDCEPlusPlus", channels=4), checkpoint=other).downscale == 4
    assert build_enhancer(dict(type="ZeroDCEPlusPlus", downscale=6), checkpoint=other).downscale == 6


def test_the_arguments_of_another_network_say_nothing(tmp_path: Path) -> None:
    path, _ = written(tmp_path, NETWORKS[0])
    assert stored_arguments("PSENet", path) == {}
    with pytest.raises(CheckpointError, match="is not a checkpoint of PSENet"):
        build_enhancer("psenet", checkpoint=path)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"width": 1000000000, "depth": 1}', "in its metadata cannot be used"),
        ('{"width": 8, "depth": 1e300}', "in its metadata cannot be used"),
        ('{"width": NaN}', "in its metadata cannot be used"),
        ("[8, 1]", "in its metadata cannot be used"),
        ('{"width": {"type": "PSENet"}}', "in its metadata cannot be used"),
        ("[" * 100_000, "in its metadata cannot be used"),
        ("not JSON", "in its metadata cannot be used"),
        ('{"nonesuch": 1}', "refuses the arguments in its metadata"),
        ('{"width": "8"}', "refuses the arguments in its metadata"),
        ('{"width": 8, "depth": 4000}', "refuses the arguments in its metadata|do not fit"),
        ('{"width": 4096, "depth": 4}', "the arguments in its metadata do not fit"),
    ],
)
def test_hostile_arguments_are_refused(tmp_path: Path, arguments: str, reason: str) -> None:
    path, _ = written(tmp_path, NETWORKS[0], arguments=arguments)
    with pytest.raises(CheckpointError, match=reason):
        build_enhancer(f"iaml@{path}")


def test_members_of_a_cascade_are_not_stored() -> None:
    cascade = build_enhancer(dict(type="Cascade", enhancers=["psenet", "upscale"]), checkpoint=None)
    assert describe("Cascade", cascade.arguments) == {"enhancer": "Cascade"}
    assert describe("PSENet", PSENet().arguments) == {"enhancer": "PSENet"}


def test_no_program_runs_that_stored_arguments_name(tmp_path: Path) -> None:
    mark, program = tmp_path / "ran", tmp_path / "program.py"
    program.write_text(f"open({str(mark)!r}, 'w').close()\nenhancer = 'psenet'\n")
    hostile = {"enhancer": "Cascade", "arguments": json.dumps({"enhancers": [str(program)]})}
    path, out = tmp_path / "hostile.safetensors", tmp_path / "out.safetensors"
    save_state_dict({"x": torch.zeros(1)}, path, hostile)
    assert main(["convert", str(path), "--enhancer", "cascade", "--out", str(out)]) == 2
    with pytest.raises(CheckpointError):
        build_enhancer(f"cascade@{path}")
    assert not mark.exists()
    assert not out.exists()


def test_convert_keeps_the_arguments(tmp_path: Path) -> None:
    path, state = written(tmp_path, NETWORKS[0])
    half = tmp_path / "half.safetensors"
    assert main(["convert", str(path), "--enhancer", "iaml", "--half", "--out", str(half)]) == 0
    loaded = build_enhancer(f"iaml@{half}").state_dict()
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in state.items())


def test_shipped_weights_of_other_arguments_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = written(tmp_path, NETWORKS[0])
    entry = dict(
        enhancer="IAMLUNet", file=path.name, sha256="", default=True, licence="", recipe="", data="", scores={}
    )
    (tmp_path / "index.json").write_text(json.dumps({"narrow": entry}))
    monkeypatch.setattr("llie_preproc.checkpoints.WEIGHTS_DIR", tmp_path)
    for given in ("iaml", "iaml@narrow", NETWORKS[0], dict(type="IAMLUNet", depth=1.0, width=8)):
        assert same(build_enhancer(given).state_dict(), state)
    for other in (dict(type="IAMLUNet", width=8), dict(type="IAMLUNet", width=32)):
        with pytest.raises(MissingWeightsError, match="IAMLUNet with width="):
            build_enhancer(other)
    (tmp_path / "index.json").unlink()


def test_a_training_stores_the_arguments(tmp_path: Path) -> None:
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    from training.hooks import ExportEnhancer
    from training.methods import SupervisedTraining

    method = SupervisedTraining(NETWORKS[0], losses=dict(l1=dict(type="llie_preproc.L1Loss")), ema=0.9)
    ExportEnhancer().before_save_checkpoint(SimpleNamespace(model=method, work_dir=tmp_path), {"meta": {"iter": 3}})
    for name, network in (("enhancer", method.evaluated), ("student", method.enhancer)):
        assert same(build_enhancer(f"iaml@{tmp_path / name}.safetensors").state_dict(), network.state_dict())
