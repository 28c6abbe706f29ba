"""``checkpoint="default"`` loads the shipped weights of a network or is an error, and never gives random weights."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llie_preproc import build_enhancer
from llie_preproc.checkpoints import default_weights, save_state_dict
from llie_preproc.enhancers import Cascade, Enhancer, PSENet
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import CheckpointError, MissingWeightsError
from tests.support.networks import same

NAMES = sorted(enhancer_classes())


def state_of(seed: int, *arguments: Any, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build_enhancer(*arguments, **options).state_dict()


def has_parameters(name: str) -> bool:
    return any(True for _ in enhancer_classes()[name]().parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_gives_the_same_network_each_time_or_an_error(name: str) -> None:
    if name == "Cascade" or default_weights(name) or not has_parameters(name):
        assert same(state_of(0, name), state_of(1, name))
        return
    with pytest.raises(MissingWeightsError, match=rf"^{name} has no shipped weights: .*=None.*'llie convert'"):
        build_enhancer(name)
    first, second = (state_of(seed, name, checkpoint=None) for seed in (0, 1))
    assert not same(first, second)


def test_missing_weights_are_a_checkpoint_error() -> None:
    assert issubclass(MissingWeightsError, CheckpointError)


def written_out(kind: type[Enhancer]) -> dict[str, Any]:
    """The arguments of a network's default weights in other types: integers as floats, 1.0 as 1, tuples as lists."""

    def other(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [other(each) for each in value]
        return float(value) if type(value) is int else int(value) if value == 1.0 and type(value) is float else value

    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    arguments = build_enhancer(kind.__name__).arguments
    return {name: other(value) for name, value in {**defaults, **(arguments or {})}.items()}


@pytest.mark.parametrize("name", [name for name in NAMES if default_weights(name)])
def test_default_arguments_that_are_written_out_load_the_shipped_weights(name: str) -> None:
    shipped = default_weights(name)
    assert shipped
    expected = build_enhancer(name, checkpoint=shipped.name).state_dict()
    options = written_out(enhancer_classes()[name])
    assert options
    assert same(state_of(0, dict(type=name, **options)), expected)
    member = build_enhancer(dict(type="Cascade", enhancers=[dict(type=f"llie_preproc.{name}", **options)]))
    assert isinstance(member, Cascade)
    assert same(member.members[0].state_dict(), expected)


def test_other_arguments_have_no_shipped_weights() -> None:
    with pytest.raises(MissingWeightsError, match=r"PSENet with width=0\.5 has no shipped weights"):
        build_enhancer(dict(type="PSENet", width=0.5))
    assert build_enhancer(dict(type="PSENet", width=0.5), checkpoint=None)


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        (["PSENet", "Upscale"], None),
        ([dict(type="PSENet", width=1), dict(type="Cascade", enhancers=["Identity", "PSENet"])], None),
        (["PSENet", "ZeroDCE"], "ZeroDCE"),
        ([dict(type="SCI", checkpoint=None)], None),
        ([dict(type="Cascade", enhancers=["CollaBA"])], "CollaBA"),
    ],
)
def test_each_member_of_a_cascade_needs_weights_of_its_own(members: list[Any], refused: str | None) -> None:
    config = dict(type="Cascade", enhancers=members)
    for build in (lambda: build_enhancer(config), lambda: Cascade(members)):
        if refused:
            with pytest.raises(MissingWeightsError, match=f"^{refused} has no shipped weights"):
                build()
        else:
            assert build()
    assert build_enhancer(config, checkpoint=None)


def test_a_cascade_without_a_checkpoint_still_loads_shipped_weights_of_members(tmp_path: Path) -> None:
    config = dict(type="Cascade", enhancers=["PSENet", dict(type="Cascade", enhancers=["ZeroDCE", "PSENet"])])
    first, second = (state_of(seed, config, checkpoint=None) for seed in (0, 1))
    # In some networks initial biases are zero, and so equal.
    weights = {key for key in first if key.endswith("weight")}
    kept = {key for key in weights if torch.equal(first[key], second[key])}
    assert kept == {key for key in weights if key.startswith(("enhancers.0.", "enhancers.1.enhancers.1."))}
    save_state_dict(first, tmp_path / "whole.safetensors")
    assert same(state_of(2, dict(config, checkpoint=tmp_path / "whole.safetensors")), first)


def test_an_enhancer_object_is_used_as_it_is() -> None:
    network = PSENet(width=0.5)
    assert build_enhancer(network) is network
    assert build_enhancer(dict(type="Cascade", enhancers=[network]))
