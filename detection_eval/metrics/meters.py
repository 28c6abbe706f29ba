"""The metrics of pictures by name: each registers itself beside its function.

A metric that needs nothing beyond the pictures is registered by decorating its function ::

    @meter("psnr", "PSNR {:6.3f} dB", "RGB in [0, 1], full size", beside="target")
    def psnr(enhanced, target): ...

and one with files or numbers of its own by decorating a function that takes those, as :class:`Setting` declares them,
and returns a :class:`Meter` ::

    @meter_builder("niqe", Setting("niqe_model", "file niqe_pris_params.npz", needed=True, metavar="FILE"))
    def _meter(niqe_model): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from llie_preproc.checks import one_of
from llie_preproc.errors import require

from ..registered import LOCATIONS
from ..self_registration import SelfRegistered, Setting

_BESIDE = ("", "target", "image")
Function = TypeVar("Function", bound=Callable[..., Any])


def defined_mean(scores: Sequence[float]) -> float:
    """The mean of the scores that are defined; NaN where none is.

    >>> defined_mean([1.0, math.nan, 3.0])
    2.0
    """
    defined = [x for x in scores if not math.isnan(x)]
    return float(np.mean(defined)) if defined else math.nan


@dataclass(frozen=True)
class Meter:
    """A metric at work.

    Attributes:
        description: The variant, in a line.
        layout: Format of a value, with the metric's name and unit.
        score: Function that gives what one picture adds, of ``enhanced`` alone or of ``enhanced`` and the picture that
            ``beside`` names.
        beside: ``'target'``, ``'image'`` (the input), or empty.
        summary: Function that makes one value of all that was added; by default the mean of those that are defined.
        of_pictures: Whether each picture has a value; False: only the whole set has one.
        prepare: Function that does ahead what takes all processes; where there are several, each calls it.
    """

    description: str
    layout: str
    score: Callable[..., Any]
    beside: str = ""
    summary: Callable[[Sequence[Any]], float] = defined_mean
    of_pictures: bool = True
    prepare: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        one_of("beside", self.beside, _BESIDE)


@dataclass(frozen=True)
class RegisteredMeter:
    """What a metric registers: its settings, and the function that takes them by name and returns its meter."""

    settings: tuple[Setting, ...]
    build: Callable[..., Meter]


# What MMEngine's registries find by name registers no meter, and may take seconds to import.
METERS: SelfRegistered[RegisteredMeter] = SelfRegistered(
    "detection_eval.metrics", "metric of pictures", "meter", skip=LOCATIONS["metric"]
)


def meter(
    name: str, layout: str, description: str, beside: str = "", library: str | None = None
) -> Callable[[Function], Function]:
    """Register the function below as a metric; it stays as it is.

    Args:
        name: Name of the metric.
        layout, description, beside: As :class:`Meter` has them.
        library: Module that the function imports when it is called, from the extra ``metrics``.

    Raises:
        ValueError: There is a metric of that name, or another ``beside``.
    """
    one_of("beside", beside, _BESIDE)

    def build(score: Callable[..., Any]) -> Meter:
        if library is not None:
            require(library, f"the metric {name!r}", "metrics")
        return Meter(description, layout, score, beside)

    return METERS.decorator(name, lambda score: RegisteredMeter((), partial(build, score)))


def meter_builder(name: str, *settings: Setting) -> Callable[[Function], Function]:
    """Register a metric by the function below, which takes its settings by name and returns its :class:`Meter`.

    Args:
        name: Name of the metric.
        settings: Settings of the metric.

    Raises:
        ValueError: There is a metric of that name.
    """
    return METERS.decorator(name, partial(RegisteredMeter, settings))
