"""The rows of a sweep, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..compare.results import NONE
from ..metrics.bootstrap import Interval, differences, intervals
from .protocols import Evaluation

RAW = "raw"
ABSENT = "–"
Row = Mapping[str, Any]
"""``enhancer``, ``gamma``; ``scores[name]`` with ``value``, ``low`` and ``high``; ``difference[name]`` to the raw row
of the same gamma likewise, or None. What is undefined is None."""

_RESAMPLING = dict(resamples=1000, seed=0)


def label_of(enhancer: str) -> str:
    """What a row of that enhancer is called: ``none`` is raw."""
    return RAW if enhancer == NONE else enhancer


def rows_of(evaluations: Mapping[tuple[str, float], Evaluation]) -> list[dict[str, Any]]:
    """The rows, with 95 % intervals of a bootstrap over pictures where the measure has them."""
    return [
        dict(
            enhancer=enhancer,
            gamma=gamma,
            scores=_scores(evaluation),
            difference=None if enhancer == NONE else _difference(evaluations.get((NONE, gamma)), evaluation),
        )
        for (enhancer, gamma), evaluation in evaluations.items()
    ]


def series(rows: Sequence[Row], score: str) -> dict[str, dict[float, float]]:
    """A score by label and gamma; nan where undefined."""
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        value = row["scores"][score]["value"]
        found.setdefault(label_of(row["enhancer"]), {})[row["gamma"]] = math.nan if value is None else value
    return found


def score_table(rows: Sequence[Row], score: str, digits: int) -> list[list[str]]:
    """A head and a line for each enhancer: the score at each gamma."""
    lines = series(rows, score)
    gammas = list(dict.fromkeys(row["gamma"] for row in rows))
    body = [[label, *(_text(line.get(gamma), digits) for gamma in gammas)] for label, line in lines.items()]
    return [[score, *(f"g = {gamma:g}" for gamma in gammas)], *body]


def difference_table(rows: Sequence[Row], score: str, digits: int) -> list[list[str]]:
    """The same for what each enhancer adds to raw, with the interval; only the head where there is none."""
    gammas = list(dict.fromkeys(row["gamma"] for row in rows))
    lines: dict[str, dict[float, str]] = {}
    for row in rows:
        if row["difference"] is not None:
            text = _with_interval(row["difference"][score], digits)
            lines.setdefault(row["enhancer"], {})[row["gamma"]] = text
    body = [[label, *(line.get(gamma, ABSENT) for gamma in gammas)] for label, line in lines.items()]
    return [[f"{score}, minus raw", *(f"g = {gamma:g}" for gamma in gammas)], *body]


def markdown(rows: Sequence[Row], digits: int) -> str:
    """A table for each score."""
    tables = [score_table(rows, score, digits) for score in rows[0]["scores"]]
    return "\n".join(_markdown(table) for table in tables)


def csv_text(rows: Sequence[Row]) -> str:
    """A line for each row and score: plain numbers, empty where undefined."""
    bounds = ("value", "low", "high")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["enhancer", "gamma", "score", *bounds, *(f"minus_raw_{bound}" for bound in bounds)])
    for row in rows:
        for name, score in row["scores"].items():
            change = (row["difference"] or {}).get(name, {})
            numbers = [*(score[bound] for bound in bounds), *(change.get(bound) for bound in bounds)]
            writer.writerow([row["enhancer"], f"{row['gamma']:g}", name, *numbers])
    return buffer.getvalue()


def _scores(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    if evaluation.per_picture is not None:
        return {name: _plain(each) for name, each in intervals([evaluation.per_picture], **_RESAMPLING).items()}
    return {name: _plain(Interval(value, math.nan, math.nan)) for name, value in evaluation.scores.items()}


def _difference(raw: Evaluation | None, own: Evaluation) -> dict[str, dict[str, float | None]] | None:
    if raw is None:
        return None
    if raw.per_picture is not None and own.per_picture is not None:
        paired = differences([raw.per_picture], [own.per_picture], **_RESAMPLING)
        return {name: _plain(each) for name, each in paired.items()}
    return {name: _plain(Interval(value - raw.scores[name], math.nan, math.nan)) for name, value in own.scores.items()}


def _plain(interval: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else float(value) for name, value in asdict(interval).items()}


def _text(value: float | None, digits: int) -> str:
    return ABSENT if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _with_interval(score: Mapping[str, float | None], digits: int) -> str:
    value, low, high = score["value"], score["low"], score["high"]
    if value is None:
        return ABSENT
    # Adding 0 turns -0.0 into 0.0.
    text = f"{round(value, digits) + 0.0:+.{digits}f}"
    if low is None or high is None:
        return text
    return f"{text}\n[{round(low, digits) + 0.0:+.{digits}f}, {round(high, digits) + 0.0:+.{digits}f}]"


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
