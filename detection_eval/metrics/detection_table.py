"""The metrics of saved detections by name, as tables have them: each registers itself beside its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..registered import LOCATIONS
from ..self_registration import SelfRegistered
from .matches import ImageScores

Scores = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], ImageScores]
"""What makes scores of COCO annotations and COCO results of their images."""
Class = TypeVar("Class", bound=Scores)


@dataclass(frozen=True)
class DetectionMetric:
    """A metric of saved detections.

    Attributes:
        title: Name in reports.
        scores: Function of COCO annotations and results that gives the scores, ``AP`` among them.
    """

    title: str
    scores: Scores

    @property
    def has_classes(self) -> bool:
        """Whether the scores have ``by_class()``, the AP of each class."""
        return hasattr(self.scores, "by_class")


# What MMEngine's registries find by name registers nothing here, and may take seconds to import.
DETECTION_METRICS: SelfRegistered[DetectionMetric] = SelfRegistered(
    "detection_eval.metrics", "metric of detections", "detection_metric", skip=LOCATIONS["metric"]
)


def detection_metric(name: str, title: str) -> Callable[[Class], Class]:
    """Register the class or function below as a metric of saved detections; it stays as it is.

    Args:
        name: Name of the metric in commands and files.
        title: Name of the metric in reports.

    Raises:
        ValueError: There is a metric of that name.
    """
    return DETECTION_METRICS.decorator(name, partial(DetectionMetric, title))


def metric_title(name: str) -> str:
    """The name of a metric in reports; the name itself of one that another version had."""
    return DETECTION_METRICS[name].title if name in DETECTION_METRICS else name
