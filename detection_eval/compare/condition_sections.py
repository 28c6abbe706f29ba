"""The sections of a comparison's page that score parts of the test set: classes, object sizes and scenes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.coco import CocoScores
from ..shared.page.html_blocks import Html, heading, paragraph, section
from ..shared.page.svg_plots import bar_panels, line_plot
from .appearance import BrightnessBin
from .changes import MIN_IOU
from .verdict_sections import COCO, Row

_SIZES = {"APs": "small: below 32 x 32 pixels", "APm": "medium: to 96 x 96", "APl": "large: above 96 x 96"}
_AREAS = (32**2, 96**2)
_MEAN_OVER_SEEDS = "Values are means over the training seeds if there are several."


@dataclass(frozen=True)
class Line:
    """Row of the table with the scores of its detections.

    Attributes:
        row: Row of ``results.json``.
        scores: COCO scores of each training seed.
    """

    row: Row
    scores: Sequence[CocoScores]

    @property
    def label(self) -> str:
        """Label of the row."""
        return self.row["label"]


def classes_section(lines: Sequence[Line], truth: Mapping[str, Any]) -> Html:
    """Plot the AP of each class that has annotated objects."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    objects = Counter(names[a["category_id"]] for a in truth["annotations"] if not a.get("iscrowd", 0))
    values = {
        line.label: {
            f"{name} ({objects[name]} objects)": 100 * float(np.mean([each[name] for each in by_seed]))
            for name in names.values()
            if objects[name]
        }
        for line in lines
        for by_seed in [[scores.by_class() for scores in line.scores]]
    }
    blocks = [paragraph(f"{_MEAN_OVER_SEEDS} The AP of a class with few objects varies much by chance.")]
    if objects:
        blocks.append(bar_panels(values, "AP in %"))
    if absent := [name for name in names.values() if not objects[name]]:
        blocks.append(paragraph(f"Classes without an annotated object in the test set: {', '.join(absent)}."))
    return section("Average precision by class", *blocks)


def curves_section(lines: Sequence[Line]) -> Html:
    """Plot precision over recall at IoU 0.5, averaged over classes and seeds."""
    text = (
        f"COCO's interpolated precision at IoU {MIN_IOU:g} and 101 recalls, averaged over the classes that have "
        f"annotated objects. {_MEAN_OVER_SEEDS} The area below a curve is its AP50."
    )
    curves = {line.label: _curve(line) for line in lines}
    plot = line_plot(curves, "Precision over recall", "recall", "precision", y_range=(0, 1.02), marks=8)
    return section("Precision and recall", paragraph(text), plot)


def conditions_section(lines: Sequence[Line], truth: Mapping[str, Any], bins: Sequence[BrightnessBin]) -> Html:
    """Plot AP by the size of objects and by the brightness of scenes.

    Args:
        lines: Rows with their scores.
        truth: COCO annotations of the test set.
        bins: Bins of brightness. Their weights follow the order of ``image_ids`` in the scores.
    """
    weights = np.stack([each.weights for each in bins])
    names = [f"{each.label} ({each.size} pictures)" for each in bins]
    bright = {
        line.label: dict(zip(names, (100 * _brightness_ap(line, weights)).tolist(), strict=True)) for line in lines
    }
    return section(
        "By object size and by brightness of the scene",
        *_size_blocks(lines, truth),
        heading("Brightness of the raw picture"),
        paragraph(
            f"AP for the pictures of each bin. A bin is a range of the raw picture's mean luma (0 to 255). "
            f"{_MEAN_OVER_SEEDS} There are no intervals. A bin has fewer pictures than the test set, so that its AP "
            "varies more by chance."
        ),
        bar_panels(bright, "AP in %"),
    )


def _curve(line: Line) -> dict[float, float]:
    by_seed = [np.stack([*scores.precision_recall(MIN_IOU).values()]) for scores in line.scores]
    with_objects = [curves[~np.isnan(curves).any(axis=1)] for curves in by_seed]
    mean = np.mean([curves.mean(axis=0) if len(curves) else np.full(101, np.nan) for curves in with_objects], axis=0)
    return dict(zip(np.linspace(0, 1, len(mean)).tolist(), mean.tolist(), strict=True))


def _brightness_ap(line: Line, weights: np.ndarray) -> np.ndarray:
    return np.mean([scores.values(weights)["AP"] for scores in line.scores], axis=0)


def _size_blocks(lines: Sequence[Line], truth: Mapping[str, Any]) -> list[Html]:
    if COCO not in lines[0].row["scores"]:
        return []
    areas = [a["area"] for a in truth["annotations"] if not a.get("iscrowd", 0)]
    counts = np.bincount(np.digitize(areas, _AREAS), minlength=len(_SIZES))
    titles = {name: f"{title} ({count} objects)" for (name, title), count in zip(_SIZES.items(), counts, strict=True)}
    values: dict[str, dict[str, float]] = {}
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    for line in lines:
        scores = line.row["scores"][COCO]
        values[line.label] = {title: _percent(scores[name]["value"]) for name, title in titles.items()}
        ranges[line.label] = {
            title: (_percent(scores[name]["low"]), _percent(scores[name]["high"])) for name, title in titles.items()
        }
    return [
        heading("Object size"),
        paragraph("AP by the annotated area of objects. Whiskers are 95 % intervals."),
        bar_panels(values, "AP in %", ranges),
    ]


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value
