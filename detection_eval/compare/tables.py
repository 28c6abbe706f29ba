"""The table of a comparison: scores with intervals, differences to raw, times."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from llie_preproc.files import write_text

from ..metrics.bootstrap import Interval, differences, intervals
from ..metrics.coco import CocoScores
from ..metrics.detections import read_detections, read_truth
from ..metrics.visdrone import VisDroneScores
from ..shared.enhancers import NONE
from .comparison_store import RAW, Comparison, Row

METRICS: dict[str, Callable[[dict, list], Any]] = {
    "coco": CocoScores,
    "visdrone": VisDroneScores,
    "visdrone-coco": lambda truth, found: VisDroneScores(truth, found, mode="coco"),
}
_TIMES = ("enhancer_ms", "detector_ms", "train_seconds")
_ABSENT = "–"


def measure(comparison: Comparison) -> list[dict[str, Any]]:
    """Score the rows whose cells are all finished, from their saved detections.

    Returns:
        For each row ``enhancer``, ``mode``, ``label``, ``seeds``; ``scores[metric][name]`` with ``value`` (mean over
        seeds), ``low`` and ``high`` (of the bootstrap over images) and ``seed_sd``; ``difference[metric][name]`` to the
        raw row, paired by image and seed, None where there is none; ``timing``, means over seeds. Scores are in [0, 1];
        what is undefined is None.
    """
    finished = [row for row in comparison.rows if all(comparison.result(cell) is not None for cell in row.cells)]
    raw = next((row for row in finished if (row.enhancer, row.mode) == (NONE, RAW)), None)
    measured: list[dict[str, Any]] = [
        dict(
            enhancer=row.enhancer,
            mode=row.mode,
            label=row.label,
            seeds=[cell.seed for cell in row.cells],
            scores={},
            difference={} if raw is not None and row is not raw and _shared(raw, row) else None,
            timing=_timing([(comparison.result(cell) or {}).get("timing", {}) for cell in row.cells]),
        )
        for row in finished
    ]
    truth = read_truth(comparison.truth_path)
    for metric in comparison.plan["metrics"]:
        _score(comparison, metric, truth, finished, raw, measured)
    return measured


def _score(
    comparison: Comparison, metric: str, truth: dict, rows: Sequence[Row], raw: Row | None, measured: list[dict]
) -> None:
    options = {"resamples": comparison.plan["resamples"], "seed": comparison.plan["bootstrap_seed"]}

    def scores(row: Row) -> dict[int, Any]:
        found = {cell.seed: read_detections(comparison.detections_path(cell), truth) for cell in row.cells}
        return {seed: METRICS[metric](truth, each) for seed, each in found.items()}

    base = scores(raw) if raw else {}
    for row, line in zip(rows, measured, strict=True):
        own = base if row is raw else scores(row)
        spread = _seed_sd(list(own.values()))
        of_all = intervals(list(own.values()), **options)
        line["scores"][metric] = {name: dict(_plain(of_all[name]), seed_sd=spread[name]) for name in of_all}
        if line["difference"] is not None:
            shared = _shared(raw, row) if raw else []
            paired = differences([base[seed] for seed in shared], [own[seed] for seed in shared], **options)
            line["difference"][metric] = {name: _plain(each) for name, each in paired.items()}


def _shared(raw: Row, row: Row) -> list[int]:
    """Seeds that both rows have."""
    of_raw = {cell.seed for cell in raw.cells}
    return [cell.seed for cell in row.cells if cell.seed in of_raw]


def _seed_sd(scores: Sequence[Any]) -> dict[str, float | None]:
    """Standard deviation over training seeds; None for one."""
    values = [each.values() for each in scores]
    columns = {name: [each[name] for each in values] for name in values[0]}
    return {name: _number(float(np.std(c, ddof=1))) if len(c) > 1 else None for name, c in columns.items()}


def _plain(interval: Interval) -> dict[str, float | None]:
    return {name: _number(value) for name, value in asdict(interval).items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _timing(times: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    means = {}
    for name in _TIMES:
        known = [t for each in times if (t := each.get(name)) is not None]
        means[name] = round(statistics.mean(known), 2) if known else None
    return means


def write_tables(comparison: Comparison, rows: list[dict[str, Any]]) -> None:
    """Write ``results.json``, ``table.csv`` and ``table.md``."""
    comparison.save_table(rows)
    write_text(comparison.folder / "table.csv", _csv(rows))
    write_text(comparison.folder / "table.md", markdown(rows))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown tables, scores in percent: one for each metric, one for each metric's differences."""
    if not rows:
        return "no row is finished\n"
    parts = []
    for metric in rows[0]["scores"]:
        parts.append(_markdown(rows, f"{metric}, %", partial(_of, "scores", metric), times=True))
        compared = [row for row in rows if row["difference"]]
        if compared:
            parts.append(_markdown(compared, f"{metric}, minus raw", partial(_of, "difference", metric)))
    return "\n".join(parts)


def _of(part: str, metric: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row[part][metric]


def _markdown(
    rows: Sequence[Mapping[str, Any]], title: str, scores: Callable[[Any], Mapping[str, Any]], times: bool = False
) -> str:
    names = list(scores(rows[0]))
    header = [title, "seeds", *names, *(["enhancer ms", "detector ms"] if times else [])]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        clock = [_milliseconds(row["timing"][key]) for key in ("enhancer_ms", "detector_ms")] if times else []
        lines.append(
            [row["label"], str(len(row["seeds"])), *(percent(scores(row)[n], not times) for n in names), *clock]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(score: Mapping[str, float | None], signed: bool = False) -> str:
    """``12.3 [10.1, 14.6]``, with ``± 0.4`` for the standard deviation over seeds where there are several."""
    if score["value"] is None:
        return _ABSENT
    sign = "+" if signed else ""

    def show(value: float) -> str:
        # Adding 0 turns -0.0 into 0.0.
        return f"{round(100 * value, 1) + 0.0:{sign}.1f}"

    text = show(score["value"])
    if score.get("seed_sd") is not None:
        text += f" ± {100 * score['seed_sd']:.1f}"  # type: ignore[operator]
    if score["low"] is None or score["high"] is None:
        return text
    return f"{text} [{show(score['low'])}, {show(score['high'])}]"


def _milliseconds(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.1f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each row, metric and score: plain numbers, empty where undefined."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    bounds = ("value", "low", "high")
    different = [f"minus_raw_{bound}" for bound in bounds]
    writer.writerow(["enhancer", "mode", "seeds", "metric", "score", *bounds, "seed_sd", *different, *_TIMES])
    for row in rows:
        first = [row["enhancer"], row["mode"], len(row["seeds"])]
        for metric, scores in row["scores"].items():
            for name, score in scores.items():
                change = (row["difference"] or {}).get(metric, {}).get(name, {})
                own = [score["value"], score["low"], score["high"], score["seed_sd"]]
                paired = [change.get(bound) for bound in bounds]
                writer.writerow([*first, metric, name, *own, *paired, *row["timing"].values()])
    return buffer.getvalue()
