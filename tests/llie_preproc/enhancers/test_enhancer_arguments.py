"""``build_enhancer`` names the argument that it refuses, or gives a network that runs; a type may be a class."""

from __future__ import annotations

import inspect
import math
import re

import pytest
import torch

from llie_preproc.enhancers import Capabilities, Enhancer, PSENet
from llie_preproc.enhancers.build import build_enhancer
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import MissingWeightsError
from llie_preproc.inference import enhance

SMALL = {"SemiLLIE": dict(width=4, groups=1, blocks=1, states=1), "IAMLUNet": dict(width=4, depth=1)}
VALUES = [0, -1, math.nan, math.inf, "1.0", True, None, [1]]


def numeric(kind: type[Enhancer]) -> list[str]:
    """Names of the arguments whose defaults are numbers or switches."""
    parameters = inspect.signature(kind).parameters.values()
    return [each.name for each in parameters if isinstance(each.default, int | float)]


CASES = [(name, argument) for name, kind in enhancer_classes().items() for argument in numeric(kind)]


def test_the_cases_cover_most_networks() -> None:
    assert len({name for name, _ in CASES}) >= 10


@pytest.mark.examples(40)
@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_number_is_refused_by_name_or_the_network_runs(name: str, argument: str, value: object) -> None:
    config = {**SMALL.get(name, {}), "type": name, argument: value}
    try:
        network = build_enhancer(config, checkpoint=None)
    except (TypeError, ValueError) as error:
        assert re.search(rf"^{name}\b.*\b{argument}\b.*", str(error))  # noqa: PT017
        return
    side = 8 if network.capabilities.size_divisor <= 8 else 32
    assert torch.isfinite(enhance(torch.rand(3, side, side), network)).all()


def test_a_config_may_hold_the_class_itself() -> None:
    by_class, by_name = build_enhancer(dict(type=PSENet)), build_enhancer("PSENet")
    assert all(map(torch.equal, by_class.state_dict().values(), by_name.state_dict().values()))
    cascade = build_enhancer(dict(type="Cascade", enhancers=[dict(type=PSENet, width=0.5)]), checkpoint=None)
    assert isinstance(cascade.enhancers[0], PSENet)


def test_another_class_of_a_registered_name_has_no_shipped_weights() -> None:
    class Own(PSENet):
        capabilities = Capabilities()

    Own.__name__ = Own.__qualname__ = "PSENet"
    assert type(build_enhancer(dict(type=Own), checkpoint=None)) is Own
    with pytest.raises(MissingWeightsError, match=f"{__name__}.PSENet"):
        build_enhancer(dict(type=Own))


@pytest.mark.parametrize("given", [3, dict, None])
def test_a_type_must_be_a_name_or_a_class(given: object) -> None:
    with pytest.raises(TypeError, match="must be an enhancer's name or class"):
        build_enhancer(dict(type=given))
