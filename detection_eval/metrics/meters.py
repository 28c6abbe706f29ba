"""The metrics of pictures by name. Each metric registers itself in the module of its function.

A metric that needs only pictures is registered by decorating its function::

    @meter("psnr", "PSNR {:6.3f} dB", "RGB in [0, 1], full size", beside="target")
    def psnr(enhanced, target): ...

A metric that also needs files or numbers declares each as a :class:`Setting`. It is registered by decorating a function
that takes their values and returns a :class:`Meter`::

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
    """Average the scores that are defined; NaN if none is.

    Examples:
        >>> defined_mean([1.0, math.nan, 3.0])
        2.0
    """
    defined = [x for x in scores if not math.isnan(x)]
    return float(np.mean(defined)) if defined else math.nan


@dataclass(frozen=True)
class Meter:
    """A metric that is ready to score pictures.

    Attributes:
        description: Exact variant of the metric, in one line.
        layout: Format of a value, with the metric's name and unit.
        score: Function that scores one picture. It takes ``enhanced``, and the picture that ``beside`` names if there
            is one, and returns what :attr:`summary` needs of it, usually a number.
        beside: Picture that ``enhanced`` is compared with: ``'target'``, ``'image'`` (the input), or empty for none.
        summary: Function that turns the results of all pictures into one value; by default the mean of the defined
            ones.
        of_pictures: Whether each picture has a value; False if only the whole set has one.
        prepare: Function that does the work in which all processes take part. Every process calls it before
            ``summary`` is called.

    Raises:
        ValueError: ``beside`` has another value, or ``layout`` has no name or no place for the value.

    Examples:
        >>> meter = Meter("mean of all levels", "level {:.2f}", lambda enhanced: float(enhanced.mean()))
        >>> meter.layout.format(meter.summary([meter.score(np.zeros(4)), meter.score(np.ones(4))]))
        'level 0.50'
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
        name, _, rest = self.layout.partition(" ")
        if not name or rest.format(0.0) == rest:
            example = "PSNR {:.3f} dB"
            raise ValueError(
                f"layout needs a name, a space and a place for the value, as in {example!r}, got {self.layout!r}"
            )


@dataclass(frozen=True)
class RegisteredMeter:
    """Entry of a metric: its settings, and the function that takes their values by name and returns the meter."""

    settings: tuple[Setting, ...]
    build: Callable[..., Meter]


# The modules that MMEngine's registries find by name register no meter, and may take seconds to import.
METERS: SelfRegistered[RegisteredMeter] = SelfRegistered(
    "detection_eval.metrics", "metric of pictures", "meter", skip=LOCATIONS["metric"]
)


def meter(
    name: str, layout: str, description: str, beside: str = "", library: str | None = None
) -> Callable[[Function], Function]:
    """Register the decorated function as a metric, and return the function unchanged.

    Args:
        name: Name of the metric.
        layout, description, beside: Attributes of its :class:`Meter`.
        library: Module of the extra ``metrics`` that the function imports when it is called.

    Raises:
        ValueError: The name is taken, or ``beside`` is unknown.
    """
    one_of("beside", beside, _BESIDE)

    def build(score: Callable[..., Any]) -> Meter:
        if library is not None:
            require(library, f"the metric {name!r}", "metrics")
        return Meter(description, layout, score, beside)

    return METERS.decorator(name, lambda score: RegisteredMeter((), partial(build, score)))


def meter_builder(name: str, *settings: Setting) -> Callable[[Function], Function]:
    """Register a metric by the decorated function, which takes its settings by name and returns its :class:`Meter`.

    Args:
        name: Name of the metric.
        settings: Settings of the metric.

    Raises:
        ValueError: The name is taken.
    """
    return METERS.decorator(name, partial(RegisteredMeter, settings))
