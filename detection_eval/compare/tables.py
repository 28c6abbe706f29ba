"""The table of a comparison: scores with intervals, differences to raw, and times."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llie_preproc.files import write_text

from ..metrics.bootstrap import differences, intervals
from ..metrics.detection_table import DETECTION_METRICS
from ..metrics.detections import read_detections, read_truth
from ..shared.enhancers import NONE
from ..shared.score_table import (
    ABSENT,
    BOUNDS,
    Numbers,
    Row,
    csv_text,
    markdown_table,
    plain_number,
    plain_scores,
    score_lines,
)
from .comparison_store import RAW, CellRow, Comparison
from .light_axis import LightAxis

_TIMES = ("enhancer_ms", "detector_ms", "train_seconds")
_PERCENT, _POINTS = Numbers(1, factor=100), Numbers(1, factor=100, sign="+")


def measure(comparison: Comparison) -> list[dict[str, Any]]:
    """Score the saved detections of the rows whose cells are all finished.

    Returns:
        Rows with ``enhancer``, ``mode``, ``light``, ``label`` and ``seeds``; ``series``, the label without the light;
        ``scores[metric][name]`` with ``value`` (mean over seeds), ``low`` and ``high`` (of the bootstrap over images)
        and ``seed_sd``; ``difference[metric][name]``, the row minus the raw row of the same light, paired by image and
        seed (``difference`` is None without a raw row, for that row itself, and for a row that shares no seed with it);
        and ``timing``, means over seeds. Scores are in [0, 1]; an undefined number is None.
    """
    finished = [row for row in comparison.rows if all(comparison.result(cell) is not None for cell in row.cells)]
    raw = {row.light: row for row in finished if (row.enhancer, row.mode) == (NONE, RAW)}
    measured: list[dict[str, Any]] = [
        dict(
            enhancer=row.enhancer,
            mode=row.mode,
            light=row.light,
            label=row.label,
            series=row.series,
            seeds=[cell.seed for cell in row.cells],
            scores={},
            difference={} if _shared(raw.get(row.light), row) else None,
            timing=_timing([(comparison.result(cell) or {}).get("timing", {}) for cell in row.cells]),
        )
        for row in finished
    ]
    truth = read_truth(comparison.truth_path)
    for metric in comparison.plan["metrics"]:
        _score(comparison, metric, truth, finished, raw, measured)
    return measured


def _score(
    comparison: Comparison,
    metric: str,
    truth: dict,
    rows: Sequence[CellRow],
    raw: Mapping[float | None, CellRow],
    measured: list[dict],
) -> None:
    options = {"resamples": comparison.plan["resamples"], "seed": comparison.plan["bootstrap_seed"]}

    def scores(row: CellRow) -> dict[int, Any]:
        found = {cell.seed: read_detections(comparison.detections_path(cell), truth) for cell in row.cells}
        return {seed: DETECTION_METRICS[metric].scores(truth, each) for seed, each in found.items()}

    base = {light: scores(row) for light, row in raw.items()}
    for row, line in zip(rows, measured, strict=True):
        first = raw.get(row.light)
        own = base[row.light] if row is first else scores(row)
        spread = _seed_sd(list(own.values()))
        of_all = plain_scores(intervals(list(own.values()), **options))
        line["scores"][metric] = {name: dict(each, seed_sd=spread[name]) for name, each in of_all.items()}
        if line["difference"] is not None:
            shared, before = _shared(first, row), base[row.light]
            paired = differences([before[seed] for seed in shared], [own[seed] for seed in shared], **options)
            line["difference"][metric] = plain_scores(paired)


def _shared(raw: CellRow | None, row: CellRow) -> list[int]:
    """Return the seeds that a row shares with the raw row of its light; none for the raw row itself."""
    if raw is None or row is raw:
        return []
    of_raw = {cell.seed for cell in raw.cells}
    return [cell.seed for cell in row.cells if cell.seed in of_raw]


def _seed_sd(scores: Sequence[Any]) -> dict[str, float | None]:
    """Compute the standard deviation over training seeds; None for one seed."""
    values = [each.values() for each in scores]
    columns = {name: [each[name] for each in values] for name in values[0]}
    return {name: plain_number(float(np.std(c, ddof=1))) if len(c) > 1 else None for name, c in columns.items()}


def _timing(times: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    means = {}
    for name in _TIMES:
        known = [t for each in times if (t := each.get(name)) is not None]
        means[name] = round(statistics.mean(known), 2) if known else None
    return means


def write_tables(comparison: Comparison, rows: list[dict[str, Any]]) -> None:
    """Write ``results.json``, ``table.csv`` and ``table.md``."""
    comparison.save_table(rows)
    write_text(comparison.folder / "table.csv", _csv(rows, comparison.axis is not None))
    notes = "".join(f"\n{note}\n" for note in comparison.plan.get("class_notes", ()))
    along = light_markdown(rows, comparison.axis) if comparison.axis and rows else ""
    write_text(comparison.folder / "table.md", along + markdown(rows) + notes)


def markdown(rows: Sequence[Row]) -> str:
    """Write Markdown tables in percent: for each metric a table of the scores and a table of the differences to raw."""
    if not rows:
        return "no row is finished\n"
    parts = []
    for metric in rows[0]["scores"]:
        of_metric = _of_metric(rows, metric)
        names = list(of_metric[0]["scores"])
        lines = score_lines(of_metric, "scores", names, _PERCENT, _lead, _milliseconds)
        parts.append([[f"{metric}, %", "seeds", *names, "enhancer ms", "detector ms"], *lines])
        if compared := score_lines(of_metric, "difference", names, _POINTS, _lead):
            parts.append([[f"{metric}, minus raw", "seeds", *names], *compared])
    return "\n".join(map(markdown_table, parts))


def light_markdown(rows: Sequence[Row], axis: LightAxis) -> str:
    """Write the tables of AP along an axis of light in Markdown, and the text that says how the pictures were made.

    Args:
        rows: Rows of :func:`measure`, at least one.
        axis: Axis of the comparison.
    """
    tables = [table for metric in rows[0]["scores"] for table in light_tables(rows, axis, metric)]
    return "".join(f"{markdown_table(table)}\n" for table in tables) + f"{axis.description}\n\n"


def light_tables(rows: Sequence[Row], axis: LightAxis, metric: str) -> list[list[list[str]]]:
    """Write AP in percent along an axis of light: a table of the scores, and one of the differences to raw if any.

    Args:
        rows: Rows of :func:`measure`.
        axis: Axis of the comparison.
        metric: Metric of the scores.

    Returns:
        Tables, each with a head and a line for each enhancer and mode, and a column for each light. What is not
        measured is :data:`~detection_eval.shared.score_table.ABSENT`.
    """
    lights = sorted({row["light"] for row in rows}, key=axis.place)
    heads = {"scores": (f"AP ({metric}), %", _PERCENT), "difference": (f"AP ({metric}), minus raw", _POINTS)}
    found = []
    for part, (title, numbers) in heads.items():
        lines = [
            [series, *(numbers.with_interval(points[light]) if light in points else ABSENT for light in lights)]
            for series, points in light_points(rows, metric, part).items()
        ]
        if lines:
            found.append([[title, *map(axis.words, lights)], *lines])
    return found


def light_points(rows: Sequence[Row], metric: str, part: str) -> dict[str, dict[float, Mapping[str, float | None]]]:
    """Collect AP, with its interval, by enhancer and mode and by light.

    Args:
        rows: Rows of :func:`measure`.
        metric: Metric of the scores.
        part: ``'scores'``, or ``'difference'`` for the differences to raw.
    """
    points: dict[str, dict[float, Mapping[str, float | None]]] = {}
    for row in rows:
        if row[part] is not None:
            points.setdefault(row["series"], {})[row["light"]] = row[part][metric]["AP"]
    return points


def percent(score: Mapping[str, float | None], signed: bool = False) -> str:
    """Write a score in percent with its interval; after ``±`` comes the deviation over seeds if there are several.

    Examples:
        >>> percent({"value": 0.1234, "low": 0.1, "high": 0.15, "seed_sd": 0.004})
        '12.3 ± 0.4 [10.0, 15.0]'
    """
    return (_POINTS if signed else _PERCENT).with_interval(score, between=" ")


def _of_metric(rows: Sequence[Row], metric: str) -> list[Row]:
    """Select the scores of one metric in all rows."""
    return [
        dict(row, metric=metric, scores=row["scores"][metric], difference=(row["difference"] or {}).get(metric))
        for row in rows
    ]


def _lead(row: Row) -> list[str]:
    return [row["label"], str(len(row["seeds"]))]


def _milliseconds(row: Row) -> list[str]:
    return [Numbers(1).text(row["timing"][key]) for key in ("enhancer_ms", "detector_ms")]


def _csv(rows: Sequence[Row], with_light: bool) -> str:
    """Write a CSV line for each row, metric and score, with plain numbers; an undefined number is empty."""
    light = ["light"] if with_light else []
    return csv_text(
        [each for row in rows for metric in row["scores"] for each in _of_metric([row], metric)],
        ["enhancer", "mode", *light, "seeds", "metric"],
        lambda row: [row["enhancer"], row["mode"], *(row[key] for key in light), len(row["seeds"]), row["metric"]],
        own=(*BOUNDS, "seed_sd"),
        end_head=_TIMES,
        end=lambda row: [row["timing"][name] for name in _TIMES],
    )
