"""The sections of the page of a comparison: each takes what was measured and returns HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from ..metrics.coco import CocoScores
from ..shared.html_page import Html, bar_panels, bullets, gallery, heading, line_plot, paragraph, section, table
from .appearance import LUMA, BrightnessBin
from .changes import MIN_IOU, Change
from .comparison_store import JOINT, RAW, RETRAINED, ZERO_SHOT
from .side_by_side import LEGEND, Pair, panels
from .tables import percent

COCO = "coco"
ABSENT = "–"
Row = Mapping[str, Any]
"""A row of ``results.json``."""

_METRIC_NAMES = {
    COCO: "COCO",
    "visdrone": "VisDrone, official",
    "visdrone-coco": "VisDrone's regions, COCO's averaging",
}
_MODES = {
    RAW: "raw: trained and tested on raw pictures.",
    ZERO_SHOT: "zero-shot: the detector of raw pictures, unchanged, tested on enhanced ones.",
    RETRAINED: "retrained: trained and tested on enhanced pictures, with the budget of raw.",
    JOINT: "joint: the enhancer is trained together with the detector, with the budget of raw.",
}
_GIVEN = {
    RAW: "raw: the given detector, as it is, on raw pictures.",
    ZERO_SHOT: "zero-shot: the given detector, as it is, on enhanced pictures.",
}
_SIZES = {"APs": "small: below 32 x 32 pixels", "APm": "medium: to 96 x 96", "APl": "large: above 96 x 96"}
_AREAS = (32**2, 96**2)
_PANEL_SIDE, _PANEL_QUALITY = 540, 75
# Of test pictures: percentiles of a bootstrap over fewer cover less than they say.
_MANY = 30


@dataclass(frozen=True)
class Line:
    """A row of the table with what its detections score.

    Attributes:
        row: As in ``results.json``.
        scores: COCO scores, one for each training seed.
    """

    row: Row
    scores: Sequence[CocoScores]

    @property
    def label(self) -> str:
        """Of the row."""
        return self.row["label"]


@dataclass(frozen=True)
class Changed:
    """What changes between raw and one enhanced row.

    Attributes:
        label: Of the row.
        seed: Of the two detectors whose detections are compared.
        thresholds: Scores that count, of raw and of the row.
        ranked: Every picture.
        improved: Those to show, with the most gained.
        worsened: Those to show, with the most lost.
    """

    label: str
    seed: int
    thresholds: tuple[float, float]
    ranked: Sequence[Change]
    improved: Sequence[Pair]
    worsened: Sequence[Pair]


def scores_section(
    rows: Sequence[Row], truth: Mapping[str, Any], plan: Mapping[str, Any], missing: Sequence[str]
) -> Html:
    """The verdicts in words, the tables of scores and of paired differences, and what the intervals cover.

    Args:
        rows: Of ``results.json``.
        truth: COCO annotations of the test set.
        plan: Of the comparison.
        missing: Rows of the plan that are not measured, in words.
    """
    blocks = [bullets([verdict(row) for row in rows if row["mode"] != RAW])]
    if missing:
        blocks.append(paragraph(f"Not finished, and not on this page: {'; '.join(missing)}."))
    for metric in rows[0]["scores"]:
        blocks += [_scores_table(rows, metric), _differences_table(rows, metric)]
    modes = {row["mode"] for row in rows}
    blocks.append(bullets([text for mode, text in _words_of_modes(plan).items() if mode in modes]))
    blocks.append(bullets(_caveats(rows, truth, plan)))
    return section("Does it help?", *blocks)


def verdict(row: Row) -> str:
    """Whether a row helps, in a sentence: its AP against raw."""
    label, difference = row["label"], row["difference"]
    if difference is None:
        return f"{label}: there is no row of raw pictures to compare with."
    metric = COCO if COCO in difference else next(iter(difference))
    score = difference[metric]["AP"]
    if None in (score["value"], score["low"], score["high"]):
        return f"{label}: AP is not defined on this data."
    value, low, high = (100 * score[name] for name in ("value", "low", "high"))
    interval = f"95 % interval {_signed(low)} to {_signed(high)}"
    if low <= 0 <= high:
        differs = f"AP is {_signed(value)} points from raw; {interval}, includes 0."
        return f"{label}: no difference that this data can show. {differs}"
    if low == high:
        return f"{label}: no verdict. AP is {_signed(value)} points from raw, and its interval has no width."
    helps, where = ("helps", "above") if low > 0 else ("hurts", "below")
    return f"{label} {helps}: AP is {abs(value):.1f} points {where} raw ({interval}).{_once(row)}"


def _signed(value: float) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return f"{round(value, 1) + 0.0:+.1f}"


def _once(row: Row) -> str:
    """What a verdict lacks where the detector of raw pictures and the row's are two single trainings."""
    if row["mode"] in (RETRAINED, JOINT) and len(row["seeds"]) == 1:
        return " It rests on one training each: another seed may say otherwise."
    return ""


def classes_section(lines: Sequence[Line], truth: Mapping[str, Any]) -> Html:
    """AP of each class that has annotated objects, a small plot each."""
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
    blocks = [paragraph(f"{_MEAN_OVER_SEEDS} A class with few objects moves much by chance.")]
    if objects:
        blocks.append(bar_panels(values, "AP in %"))
    if absent := [name for name in names.values() if not objects[name]]:
        blocks.append(paragraph(f"Without an annotated object in the test set: {', '.join(absent)}."))
    return section("Average precision by class", *blocks)


def curves_section(lines: Sequence[Line]) -> Html:
    """Precision over recall at IoU 0.5, mean over classes and seeds."""
    text = (
        f"At IoU {MIN_IOU:g}: COCO's interpolated precision at 101 recalls, mean over the classes that have annotated "
        f"objects. {_MEAN_OVER_SEEDS} The area below a curve is its AP50."
    )
    curves = {line.label: _curve(line) for line in lines}
    plot = line_plot(curves, "Precision over recall", "recall", "precision", y_range=(0, 1.02), marks=8)
    return section("Precision and recall", paragraph(text), plot)


def conditions_section(lines: Sequence[Line], truth: Mapping[str, Any], bins: Sequence[BrightnessBin]) -> Html:
    """AP by the size of objects and by the brightness of scenes.

    Args:
        lines: The rows.
        truth: COCO annotations of the test set.
        bins: Weights in the order of the scores' images.
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
            f"AP of the pictures of each bin alone, by the mean luma (0 to 255) of the raw picture. {_MEAN_OVER_SEEDS} "
            "No intervals: fewer pictures than above, so that these move more by chance."
        ),
        bar_panels(bright, "AP in %"),
    )


def changes_section(changed: Changed, classes: Mapping[int, str]) -> Html:
    """The pictures that gained and lost most, raw and enhanced side by side.

    Args:
        changed: Of the row that is shown.
        classes: Names by category id.
    """
    better, worse = (sum(sign * r > 0 for r in (_sign(c.rank) for c in changed.ranked)) for sign in (1, -1))
    same = len(changed.ranked) - better - worse
    before, after = changed.thresholds
    blocks = [
        paragraph(
            f"Raw against the enhanced row with the highest AP, {changed.label}; the detectors of seed {changed.seed}. "
            f"Of {len(changed.ranked)} pictures {better} improve, {worse} worsen and {same} stay as they are. A "
            f"picture improves when more of its annotated objects are found at IoU {MIN_IOU:g}, or as many with fewer "
            "false detections. Each detector counts from the score at which its F1 over all test pictures is highest: "
            f"raw from {before:.3f}, {changed.label} from {after:.3f}."
        ),
        paragraph(LEGEND),
    ]
    for title, pairs in (("Most improved", changed.improved), ("Most worsened", changed.worsened)):
        blocks.append(heading(f"{title}: {len(pairs)} pictures"))
        shown = [panel for pair in pairs for panel in panels(pair, classes)]
        blocks.append(
            gallery(shown, 2, _PANEL_SIDE, _PANEL_QUALITY) if shown else paragraph("There is no such picture.")
        )
    return section("Pictures whose detections changed most", *blocks)


def looks_section(
    sample: Mapping[str, Mapping[str, float]],
    count: int,
    total: int,
    seed: int,
    changed: Mapping[str, Mapping[str, Mapping[str, float]]],
    describe: Mapping[str, str],
) -> Html:
    """Image-quality scores: means over a sample of the test pictures, and of the pictures shown above.

    Args:
        sample: Mean by network and score; ``'raw'`` first.
        count: Pictures in the sample.
        total: Test pictures.
        seed: Of the choice.
        changed: By file, then by ``'raw'`` and the network, then by score.
        describe: What each score is.
    """
    scores = list(describe)
    which = (
        f"{count} of {total} test pictures, chosen by chance with seed {seed}"
        if count < total
        else f"{count} test pictures"
    )
    rows = [[label, *(_plain(values[name]) for name in scores)] for label, values in sample.items()]
    blocks = [
        bullets([f"{_LOOKS[name]} ({text})" for name, text in describe.items()]),
        table(["pictures", *map(_short, scores)], rows, f"Mean over {which}"),
    ]
    if changed:
        blocks.append(_changed_looks(changed, scores))
    blocks.append(
        paragraph("These scores judge the picture for an eye, not for a detector; neither follows from the other.")
    )
    return section("Image quality of the same pictures", *blocks)


def provenance(plan: Mapping[str, Any], recompute: Mapping[str, str], command: str) -> dict[str, str]:
    """What it takes to make the comparison and the page again, and to compute each number from saved detections.

    Args:
        plan: Of the comparison.
        recompute: Commands by what they recompute.
        command: That wrote the page.
    """
    planned = {
        f"comparison: {key}": _words(value) for key, value in plan.items() if key != "cells" and value is not None
    }
    return {"this page": command, **planned, **{f"recompute {what}": line for what, line in recompute.items()}}


_MEAN_OVER_SEEDS = "Where there are several training seeds, values are means over them."
_LOOKS = {
    LUMA: "mean luma: how bright the picture is",
    "eme": "EME: contrast within small blocks, higher is more, of noise too",
    "loe": "LOE: how much the order of lightness changed from raw, 0 for raw itself, lower is more natural",
    "niqe": "NIQE: distance from the statistics of pristine pictures, lower is better",
}


def _scores_table(rows: Sequence[Row], metric: str) -> Html:
    names = list(rows[0]["scores"][metric])
    header = ["row", *names, "enhancer\nms", "detector\nms", "training\ns"]
    body = [
        [
            row["label"],
            *(_stacked(row["scores"][metric][name]) for name in names),
            *(_time(row["timing"].get(key)) for key in ("enhancer_ms", "detector_ms", "train_seconds")),
        ]
        for row in rows
    ]
    caption = "in %, with 95 % intervals; enhancer and detector: time of a picture"
    if any(len(row["seeds"]) > 1 for row in rows):
        caption += "; after ±: standard deviation over training seeds"
    return table(header, body, f"{_METRIC_NAMES.get(metric, metric)}: {caption}")


def _differences_table(rows: Sequence[Row], metric: str) -> Html:
    compared = [row for row in rows if row["difference"] is not None]
    if not compared:
        return paragraph("There is no row of raw pictures, and so no difference to it.")
    names = list(compared[0]["difference"][metric])
    body = [[row["label"], *(_difference(row["difference"][metric][name]) for name in names)] for row in compared]
    caption = "minus raw, in points of %, paired by picture, with 95 % intervals and whether these exclude 0"
    return table(["row", *names], body, f"{_METRIC_NAMES.get(metric, metric)}: {caption}")


def _words_of_modes(plan: Mapping[str, Any]) -> dict[str, str]:
    """Without a budget nothing was trained."""
    return _MODES if plan.get("budget") else _MODES | _GIVEN


def _caveats(rows: Sequence[Row], truth: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    objects = sum(not a.get("iscrowd", 0) for a in truth["annotations"])
    seeds = max((row["seeds"] for row in rows), key=len)
    training = (
        "The values are means over the seeds; what another training would move is not in the interval but in the "
        "standard deviation beside it."
        if len(seeds) > 1
        else "With one seed, nothing on this page shows how much another training would move the values."
    )
    scores = [each for row in rows for scores in (row["difference"] or {}).values() for each in scores.values()]
    compared = sum(each["low"] is not None for each in scores)
    few = (
        f" With fewer than {_MANY} pictures such intervals are too narrow: take them as a rough guide."
        if len(truth["images"]) < _MANY
        else ""
    )
    return [
        f"The data: {len(truth['images'])} test pictures with {objects} annotated objects; training seeds "
        f"{', '.join(map(str, seeds))}.",
        f"An interval covers the choice of the test pictures alone: {plan['resamples']} bootstrap resamples of them, "
        f"seed {plan['bootstrap_seed']}.{few} {training}",
        f"There are {compared} differences above; of those that are truly 0, about one in 20 lies outside its interval "
        "by chance.",
    ]


def _stacked(score: Mapping[str, float | None], signed: bool = False) -> str:
    return percent(score, signed).replace(" [", "\n[")


def _difference(score: Mapping[str, float | None]) -> str:
    text = _stacked(score, signed=True)
    low, high = score["low"], score["high"]
    if low is None or high is None:
        return text
    words = "above raw" if low > 0 else "below raw" if high < 0 else "includes 0"
    return f"{text}\n{words}"


def _time(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"


def _plain(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:.2f}"


def _short(name: str) -> str:
    return _LOOKS[name].split(":")[0]


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
        paragraph("By the annotated area. Whiskers: 95 % intervals."),
        bar_panels(values, "AP in %", ranges),
    ]


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def _sign(rank: tuple[int, int]) -> int:
    return (rank > (0, 0)) - (rank < (0, 0))


def _changed_looks(changed: Mapping[str, Mapping[str, Mapping[str, float]]], scores: Sequence[str]) -> Html:
    first = next(iter(changed.values()))
    header = ["picture", *(f"{_short(name)}\n{kind}" for name in scores for kind in first)]
    rows = [
        [PurePath(file).name, *(_plain(of[kind][name]) for name in scores for kind in of)]
        for file, of in changed.items()
    ]
    return table(header, rows, "The pictures that changed most, in the order above")


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(each) for each in value)
    return str(value)
