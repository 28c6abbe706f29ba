"""Every class that ``training`` registers refuses invalid numbers by name.

Each number of a constructor is replaced by values out of its range, of another type, or not finite. Either the
constructor names the argument, or the object that it makes works: a method or a loss then gives a finite gradient.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("timm", reason="needs the extra 'train'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from llie_preproc import build_enhancer, registry
from tests.support.frozen_detectors import RETINANET
from tests.support.random_pictures import images
from tests.support.training_runs import METHODS
from training.methods.base import TrainingMethod

REGISTRIES = ("MODELS", "TRANSFORMS", "TASK_UTILS", "DATASETS", "DATA_SAMPLERS", "HOOKS", "PARAM_SCHEDULERS")
SIZE = 32
NAN, INF, HUGE = math.nan, math.inf, 1e12


def picture(seed: int = 0, brightest: float = 1.0) -> Tensor:
    return brightest * images(SIZE, SIZE, seed=seed)


def as_bytes(image: Tensor) -> Tensor:
    return (255 * image[0]).to(torch.uint8)


def assert_trains(parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
    assert torch.isfinite(loss)
    loss.backward()
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def trained(method: Any) -> None:
    """Assert that the second step trains the enhancer, because some methods need data of the step before."""
    bright = as_bytes(picture(1))
    masks = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    masks[:, 8:20, 8:20] = 1
    sample = BaseDataElement(target=bright, target_x1=bright, unpaired=as_bytes(picture(2, 0.3)), masks=masks)
    sample.strong = sample.unpaired
    samples = [sample, sample.clone()]
    # One sample has masks; for the other, boxes are drawn at random.
    del samples[1].masks
    image = torch.cat([picture(0, 0.2), picture(3, 0.3)])
    method.loss(image, samples)
    assert_trains(
        list(method.enhancer.parameters()), sum(v for k, v in method.loss(image, samples).items() if "loss" in k)
    )


def guides(loss: Any) -> None:
    """Assert that a loss of joint training has a gradient for the enhancer."""
    enhancer = build_enhancer("PSENet")
    if hasattr(loss, "bind"):
        loss.bind(enhancer)
    with torch.no_grad():
        for parameter in enhancer.parameters():
            parameter.mul_(1.1)
    image = picture(0, 0.2)
    assert_trains(list(enhancer.parameters()), loss(image, enhancer(image), enhancer))


def compares(loss: Any) -> None:
    output = nn.Parameter(picture(0))
    others = [picture(i) for i in range(1, len(inspect.signature(loss.forward).parameters))]
    assert_trains([output], loss(output, *others))


def encodes(encoder: Any) -> None:
    assert torch.isfinite(encoder.maps(picture(), encoder.stages)[encoder.stages[-1]]).all()


def judges(discriminator: Any) -> None:
    assert_trains(list(discriminator.parameters()), discriminator(picture()).square().mean())


def changes(transform: Any) -> None:
    given = as_bytes(picture())
    made = transform({"image": given})["image"] if type(transform).__name__.startswith("Paired") else transform(given)
    assert made.dtype == torch.uint8
    assert made.numel()


def lights(illumination: Any) -> None:
    factor, glare = illumination(SIZE, SIZE)
    assert torch.isfinite(factor).all()
    assert torch.isfinite(glare).all()


def processes(processing: Any) -> None:
    assert torch.isfinite(processing(picture()[0], stops=-4.0)).all()


def gives(dataset: Any) -> None:
    assert dataset[0]["inputs"].dtype == torch.uint8


def draws(sampler: Any) -> None:
    assert 0 <= next(iter(sampler)) < 5


def is_made(thing: Any) -> None:
    """Check nothing more, because the object works only within a run."""


@dataclass
class Case:
    """Arguments of a class, and a check that its object works.

    Attributes:
        works: Check of the object, which raises if it does not work.
        given: Arguments of the constructor, in which ``{root}`` is a folder of pictures.
        extra: Names of numbers that the constructor takes in ``**options``.
        endless: Names of numbers that may be infinite.
        of_data: Names of numbers that fit only some data; for other data an error names the number.
        of_memory: Names of numbers that only the memory limits.
    """

    works: Callable[[Any], None]
    given: dict[str, Any] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    endless: tuple[str, ...] = ()
    of_data: tuple[str, ...] = ()
    of_memory: tuple[str, ...] = ()


def method(name: str, *, given: dict[str, Any] | None = None, **options: Any) -> Case:
    config = {key: value for key, value in METHODS[name][0].items() if key not in ("type", "ema")}
    return Case(trained, config | (given or {}), **options)


VGG = {"type": "llie_preproc.VGGEncoder", "checkpoint": None, "width": 2}
TINY_SAM = dict(
    model="small", checkpoint=None, img_size=64, patch_size=8, embed_dim=16, depth=2, num_heads=2, window_size=4,
    global_attn_indexes=(1,), out_chans=16, decoder_heads=2, decoder_mlp_dim=16,
)  # fmt: skip
_NOT_OF_ENCODERS = ("model", "decoder_heads", "decoder_mlp_dim")
IAML = {"type": "llie_preproc.IAMLUNet", "width": 4, "depth": 2}
TINY_DETECTOR = {"config": Config({"model": RETINANET}), "checkpoint": None}
L1 = {"l1": {"type": "llie_preproc.L1Loss"}}
PAIR = {"low": "{root}/low", "high": "{root}/high"}
CASES = {
    "SupervisedTraining": method("supervised", extra=("ema",)),
    "MirrorDistillation": method("mirror", extra=("ema",)),
    "SemiSupervisedMeanTeacher": method("mean_teacher"),
    "BilevelAdversarial": method(
        "bilevel", given={"sharpen_target": False, "bia": True}, extra=("ema",), endless=("max_ratio",)
    ),
    "ProgressiveSelfEnhancement": method("progressive", extra=("ema",)),
    "SamConsistency": Case(
        trained, {"enhancer": IAML, "sam": TINY_SAM, "losses": L1}, extra=("ema",), of_data=("boxes",)
    ),
    "DetectorConsistency": Case(
        trained, {"enhancer": IAML, "detector": TINY_DETECTOR, "score_weight": 0.1, "losses": L1}, extra=("ema",)
    ),
    "ExposureLoss": Case(guides),
    "FidelityLoss": Case(guides),
    "MapSmoothnessLoss": Case(guides),
    "SelfEnhancementLoss": Case(guides, {"patch": 9}),
    "ContrastiveLoss": Case(compares, {"encoder": VGG}),
    "PerceptualLoss": Case(compares, {"encoder": VGG, "stages": ["relu1_1", "relu2_1"], "stage_weights": [1.0, 0.5]}),
    "VGGEncoder": Case(encodes, {"checkpoint": None, "width": 2}),
    "SqueezeNetEncoder": Case(encodes, {"checkpoint": None, "normalisation": "caffe"}),
    "CLIPEncoder": Case(
        encodes,
        {"checkpoint": None, "projection": 6, "embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32,
         "patch_size": 8},
    ),
    "RAMEncoder": Case(
        encodes,
        {"checkpoint": None, "image_size": 32, "window_size": 2, "embed_dim": 8, "depths": [2, 2],
         "num_heads": [2, 4], "projection": 16},
    ),
    "SAMEncoder": Case(encodes, {k: v for k, v in TINY_SAM.items() if k not in _NOT_OF_ENCODERS}),
    "PatchDiscriminator": Case(judges, {"width": 4}),
    "UNetDiscriminator": Case(judges, {"width": 4}),
    "LowLightSynthesis": Case(changes),
    "NightIllumination": Case(lights),
    "CameraProcessing": Case(processes, {"share": 1.0, "blur_share": 1.0}),
    "JPEGCompression": Case(changes, {"share": 1.0}),
    "RandomGamma": Case(changes),
    "PairedRandomResize": Case(changes, {"factor": (0.6, 1.2)}, of_memory=("factor",)),
    "PairedRandomCrop": Case(changes, {"size": 28}),
    "PairedResize": Case(changes, {"size": 20}, of_memory=("factor",)),
    "PairedFolders": Case(gives, PAIR),
    "UnpairedFolder": Case(gives, {"folder": "{root}/night"}),
    "SynthesisedPairs": Case(gives, {"folder": "{root}/high"}),
    "MixedSets": Case(
        gives,
        {"datasets": [[{"inputs": torch.zeros(1, dtype=torch.uint8)}]] * 2, "shares": [0.5, 0.5]},
    ),
    "DrawSampler": Case(draws, {"dataset": range(5)}),
    "InfiniteDrawSampler": Case(draws, {"dataset": range(5)}),
    "EnhancedSamples": Case(is_made),
    "StagedTraining": Case(is_made, {"begin": 1}),
}  # fmt: skip
# Data sets whose numbers choose files; the tests of the layouts try these numbers.
OF_FILES = {"SICE", "RELLISUR", "MaskedPairs"}


def classes() -> dict[str, type]:
    """Classes that the package ``training`` registers, by name."""
    found = {}
    for name in REGISTRIES:
        own = getattr(registry, name)
        own.import_from_location()
        found |= {k: v for k, v in own._module_dict.items() if v.__module__.startswith("training.")}
    return found


def numbers(kind: type) -> list[str]:
    """Names of those arguments of a class that take numbers, as their defaults or annotations show."""
    return [p.name for p in inspect.signature(kind).parameters.values() if _is_number(p)]


def _is_number(parameter: inspect.Parameter) -> bool:
    default = parameter.default
    if isinstance(default, bool | str):
        return False
    first = default[0] if isinstance(default, Sequence) and default else default
    return isinstance(first, int | float) or bool(re.search(r"\b(int|float)\b", str(parameter.annotation)))


def wrong_values(kind: type, argument: str, given: Any) -> Iterator[Any]:
    """Yield values to try in place of ``given``, which is a number or a sequence of numbers."""
    parameter = inspect.signature(kind).parameters.get(argument)
    value = given if given is not None or parameter is None else parameter.default
    # Huge whole numbers are not tried, because only the memory limits them.
    fractional = "float" in str(parameter.annotation) if parameter is not None else True
    wrong = [0, -1, NAN, INF, True, "1", *([HUGE, -HUGE, 0.0] if fractional else [1.5])]
    yield from (value for value in wrong if not isinstance(given, Sequence) or isinstance(value, str) or value is NAN)
    if isinstance(value, Sequence) and not isinstance(value, str):
        for place in range(len(value)):
            for each in wrong:
                yield [*value[:place], each, *value[place + 1 :]]


def never_right(value: Any) -> bool:
    """Whether the value is invalid for every number."""
    each = value[0] if isinstance(value, list) and len(value) == 1 else value
    parts = each if isinstance(each, list) else [each]
    return any(isinstance(p, bool | str) or not math.isfinite(p) for p in parts)


TRIED = [
    (name, argument)
    for name, kind in sorted(classes().items())
    if name in CASES
    for argument in [*numbers(kind), *CASES[name].extra]
]


def build(kind: type, given: dict[str, Any], root: Path) -> Any:
    torch.manual_seed(0)
    placed = {k: v.format(root=root) if isinstance(v, str) else v for k, v in given.items()}
    return kind(**placed)


def attempt(kind: type, given: dict[str, Any], root: Path) -> tuple[Any, str | None]:
    """The object and None, or None and the message of the error."""
    try:
        return build(kind, given, root), None
    except (ValueError, TypeError) as error:
        return None, str(error)


def test_every_class_with_numbers_is_tried():
    methods = {name for name, kind in classes().items() if inspect.isclass(kind) and issubclass(kind, TrainingMethod)}
    with_numbers = {name for name, kind in classes().items() if numbers(kind)}
    assert methods | with_numbers <= {*CASES, *OF_FILES}
    assert len(TRIED) > 50


@pytest.mark.examples(9)
@pytest.mark.parametrize("name", sorted(CASES))
def test_the_arguments_of_each_case_work(name, training_pictures):
    case = CASES[name]
    case.works(build(classes()[name], case.given, training_pictures))


@pytest.mark.examples(15)
@pytest.mark.parametrize(("name", "argument"), TRIED)
def test_a_number_works_or_is_refused_by_name(name, argument, training_pictures):
    kind, case = classes()[name], CASES[name]
    given = dict(case.given)
    if name == "PairedResize" and argument == "factor":
        del given["size"]
    refused = 0
    for value in wrong_values(kind, argument, given.get(argument)):
        made, message = attempt(kind, {**given, argument: value}, training_pictures)
        if message is not None:
            assert argument in message, value
            refused += 1
            continue
        if argument in case.endless and value == INF:
            continue
        assert not never_right(value), f"{argument}={value!r} was accepted"
        if argument in case.of_data:
            with pytest.raises(ValueError, match=argument):
                case.works(made)
        elif argument not in case.of_memory or HUGE not in (value if isinstance(value, list) else [value]):
            case.works(made)
    assert refused >= 3


@pytest.mark.parametrize("name", [name for name in sorted(CASES) if "losses" in CASES[name].given])
@pytest.mark.parametrize("weight", [-1, NAN, INF, True, "1"])
def test_invalid_weights_of_losses_are_refused(name, weight, training_pictures):
    losses = {"l1": {"type": "llie_preproc.L1Loss", "loss_weight": weight}}
    with pytest.raises(ValueError, match=r"loss_weight of 'l1' must be a number of at least 0"):
        build(classes()[name], {**CASES[name].given, "losses": losses}, training_pictures)


@pytest.mark.parametrize("name", ["SupervisedTraining", "MirrorDistillation", "SemiSupervisedMeanTeacher"])
def test_losses_whose_weights_are_all_zero_are_refused(name, training_pictures):
    losses = {"l1": {"type": "llie_preproc.L1Loss", "loss_weight": 0}}
    with pytest.raises(ValueError, match=rf"{name} needs at least one loss.*loss_weight above 0"):
        build(classes()[name], {**CASES[name].given, "losses": losses}, training_pictures)


@pytest.mark.parametrize("patch", [9, 63])
def test_a_window_larger_than_the_picture_is_named(patch, training_pictures):
    made = build(classes()["ProgressiveSelfEnhancement"], {"enhancer": "PSENet", "patch": patch}, training_pictures)
    trained(made)
    made.patch = 2 * SIZE + 1
    with pytest.raises(ValueError, match=r"patch 65 needs a height and width above 32, got \(32, 32\)"):
        made.loss(picture())
