"""The rows of a sweep, as JSON, CSV and Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llie_preproc.checks import one_of
from llie_preproc.gamma_shift import CONVENTIONS

from ..metrics.bootstrap import Interval, differences, intervals
from ..shared.enhancers import NONE, label_of
from ..shared.score_table import ABSENT, RESAMPLING, Numbers, Row, markdown_table, plain_scores
from ..shared.score_table import csv_text as csv_of_rows
from .protocols import Evaluation


def rows_of(evaluations: Mapping[tuple[str, float], Evaluation]) -> list[dict[str, Any]]:
    """Make the rows of a table, with 95 % intervals of a bootstrap over pictures if the data set has them.

    Each row also has its ``gamma``. Its ``difference`` compares it with the raw row of the same gamma.

    Args:
        evaluations: Scores by label of the enhancer and gamma.
    """
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
    """Collect a score by label and gamma; an undefined value is NaN."""
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        value = row["scores"][score]["value"]
        found.setdefault(label_of(row["enhancer"]), {})[row["gamma"]] = math.nan if value is None else value
    return found


def score_table(rows: Sequence[Row], score: str, digits: int) -> list[list[str]]:
    """Write a header, and a line for each enhancer with the score at each gamma."""
    return _by_gamma(rows, _gammas(rows), score, lambda row: Numbers(digits).text(row["scores"][score]["value"]))


def difference_table(rows: Sequence[Row], score: str, digits: int) -> list[list[str]]:
    """Write a header, and a line for each enhancer with its differences to raw and their intervals."""
    numbers = Numbers(digits, sign="+")
    changed = [row for row in rows if row["difference"] is not None]
    gammas = _gammas(rows)
    return _by_gamma(
        changed, gammas, f"{score}, minus raw", lambda row: numbers.with_interval(row["difference"][score])
    )


def _by_gamma(rows: Sequence[Row], gammas: Sequence[float], title: str, text: Callable[[Row], str]) -> list[list[str]]:
    lines: dict[str, dict[float, str]] = {}
    for row in rows:
        lines.setdefault(label_of(row["enhancer"]), {})[row["gamma"]] = text(row)
    body = [[label, *(line.get(gamma, ABSENT) for gamma in gammas)] for label, line in lines.items()]
    return [[title, *(f"g = {gamma:g}" for gamma in gammas)], *body]


def _gammas(rows: Sequence[Row]) -> list[float]:
    return list(dict.fromkeys(row["gamma"] for row in rows))


def gamma_label(convention: str) -> str:
    """Say what gamma does by a convention, one of :data:`llie_preproc.gamma_shift.CONVENTIONS`.

    Examples:
        >>> gamma_label("power")
        'gamma g of I^g: below 1 brightens, above 1 darkens'
    """
    one_of("convention", convention, CONVENTIONS)
    if convention == "power":
        return "gamma g of I^g: below 1 brightens, above 1 darkens"
    return "gamma g of I^(1/g): below 1 darkens, above 1 brightens"


def markdown(rows: Sequence[Row], digits: int, convention: str) -> str:
    """Write a Markdown table for each score, and below them what gamma means."""
    tables = [score_table(rows, score, digits) for score in rows[0]["scores"]]
    return "\n".join([*(markdown_table(table) for table in tables), f"{gamma_label(convention)}\n"])


def csv_text(rows: Sequence[Row], convention: str) -> str:
    """Write a CSV line for each row and score, with plain numbers; an undefined number is empty."""
    return csv_of_rows(
        rows, ["enhancer", "gamma", "convention"], lambda row: [row["enhancer"], f"{row['gamma']:g}", convention]
    )


def _scores(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    of_pictures = evaluation.per_picture
    known = {} if of_pictures is None else intervals([of_pictures], **RESAMPLING)
    return _all_plain(evaluation.scores, known)


def _difference(raw: Evaluation | None, own: Evaluation) -> dict[str, dict[str, float | None]] | None:
    if raw is None:
        return None
    known = {}
    if raw.per_picture is not None and own.per_picture is not None:
        known = differences([raw.per_picture], [own.per_picture], **RESAMPLING)
    return _all_plain({name: value - raw.scores[name] for name, value in own.scores.items()}, known)


def _all_plain(values: Mapping[str, float], known: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Add the known intervals to values."""
    return plain_scores({name: known.get(name, Interval(value, math.nan, math.nan)) for name, value in values.items()})
