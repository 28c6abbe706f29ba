"""The metrics of saved detections by name. Each metric registers itself in the module of its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..registered import LOCATIONS
from ..self_registration import SelfRegistered
from .matches import ImageScores

Scores = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], ImageScores]
"""Function that scores COCO results by the COCO annotations of their images: ``(truth, detections) -> scores``."""
Class = TypeVar("Class", bound=Scores)


@dataclass(frozen=True)
class DetectionMetric:
    """A metric of saved detections.

    Attributes:
        title: Name of the metric in reports.
        scores: Function of COCO annotations and results that returns the scores; ``AP`` is one of them.
    """

    title: str
    scores: Scores

    def __post_init__(self) -> None:
        if not callable(self.scores) or "AP" not in getattr(self.scores, "names", ("AP",)):
            raise TypeError(f"a metric of detections is callable and has AP among its names, got {self.scores!r}")

    @property
    def has_classes(self) -> bool:
        """Whether the scores have a method ``by_class()``, which returns the AP of each class."""
        return hasattr(self.scores, "by_class")


# Modules that MMEngine's registries find by name are skipped: they register nothing here, and may import slowly.
DETECTION_METRICS: SelfRegistered[DetectionMetric] = SelfRegistered(
    "detection_eval.metrics", "metric of detections", "detection_metric", skip=LOCATIONS["metric"]
)


def detection_metric(name: str, title: str) -> Callable[[Class], Class]:
    """Register the decorated class or function as a metric of saved detections, and return it unchanged.

    Args:
        name: Name of the metric in commands and files.
        title: Name of the metric in reports.

    Raises:
        ValueError: The name is taken.
        TypeError: The decorated object is not callable, or its ``names`` lack ``AP``, by which reports rank.
    """
    return DETECTION_METRICS.decorator(name, partial(DetectionMetric, title))


def metric_title(name: str) -> str:
    """Return the title of a metric; an unknown metric, such as one of another version, keeps its own name.

    Examples:
        >>> metric_title("coco"), metric_title("removed")
        ('COCO', 'removed')
    """
    return DETECTION_METRICS[name].title if name in DETECTION_METRICS else name
