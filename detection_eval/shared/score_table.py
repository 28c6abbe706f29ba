"""Tables of scores: rows with intervals and differences to raw, as JSON, CSV and Markdown; and what they leave out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llie_preproc.commands.program import say_failed

from ..metrics.bootstrap import Interval

GOES_ON = "--resume goes on"
"""What is said when a command is interrupted that keeps what it has finished in ``--out``."""

ABSENT = "–"
"""What stands for a number that is not defined."""
RESAMPLING = dict(resamples=1000, seed=0)
Row = Mapping[str, Any]
"""``enhancer``; ``scores[name]`` with ``value``, ``low`` and ``high``; ``difference[name]`` to the raw row likewise, or
None; and what else the command says of it. What is undefined is None."""

LISTED = 20
BOUNDS = ("value", "low", "high")
"""Names of a score's numbers: the value, and the ends of its interval."""


def say_left_out(failed: Sequence[str]) -> None:
    """Name on stderr the first of what was left out."""
    if failed:
        more = [f"and {len(failed) - LISTED} more"] if len(failed) > LISTED else []
        say_failed(f"{len(failed)} left out", [*failed[:LISTED], *more])


def most_changed(gain: Mapping[str, float], what: str) -> dict[str, str]:
    """The pictures in which most was gained over raw and most was lost, where anything was, each with why it is shown.

    Args:
        gain: Gain of each picture.
        what: Noun for what is gained.
    """
    changed: dict[str, str] = {}
    if gain:
        best, worst = max(gain, key=lambda name: gain[name]), min(gain, key=lambda name: gain[name])
        if gain[best] > 0:
            changed[best] = f"most {what} gained over raw"
        if gain[worst] < 0:
            changed[worst] = f"most {what} lost against raw"
    return changed


def plain(interval: Interval) -> dict[str, float | None]:
    """An interval as JSON has it.

    >>> plain(Interval(0.5, math.nan, math.nan))
    {'value': 0.5, 'low': None, 'high': None}
    """
    return {name: plain_number(value) for name, value in asdict(interval).items()}


def plain_scores(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Intervals by name as JSON has them."""
    return {name: plain(each) for name, each in scores.items()}


def plain_number(value: float) -> float | None:
    """A number as JSON has it: None where it is not defined."""
    return None if math.isnan(value) else float(value)


@dataclass(frozen=True)
class Numbers:
    """How a table writes its numbers.

    >>> Numbers(1, factor=100).text(0.1234)
    '12.3'
    >>> Numbers(2, sign="+").with_interval({"value": 0.5, "low": -0.001, "high": 1}, between=" ")
    '+0.50 [+0.00, +1.00]'

    Attributes:
        digits: Number of digits after the point.
        factor: Factor of the numbers; 100 for percent.
        sign: Sign as a format specification has it; empty: only negative numbers have one.
    """

    digits: int
    factor: float = 1
    sign: str = ""

    def text(self, value: float | None) -> str:
        """A number; :data:`ABSENT` where it is not defined."""
        if value is None or math.isnan(value):
            return ABSENT
        # Adding 0 turns -0.0 into 0.0.
        return f"{round(self.factor * value, self.digits) + 0.0:{self.sign}.{self.digits}f}"

    def with_interval(self, score: Mapping[str, float | None], between: str = "\n") -> str:
        """A number with its interval; after ``±`` its deviation over training seeds, where it has one.

        Args:
            score: ``value``, ``low``, ``high``, and ``seed_sd`` where there are training seeds.
            between: Text before the interval; :func:`markdown_table` puts a line break right.
        """
        value, low, high, spread = (score.get(name) for name in (*BOUNDS, "seed_sd"))
        if value is None:
            return ABSENT
        text = self.text(value)
        if spread is not None:
            text += f" ± {replace(self, sign='').text(spread)}"
        return text if low is None or high is None else f"{text}{between}[{self.text(low)}, {self.text(high)}]"


def score_lines(
    rows: Sequence[Row],
    part: str,
    names: Sequence[str],
    numbers: Numbers,
    lead: Callable[[Row], Sequence[str]],
    end: Callable[[Row], Sequence[str]] = lambda row: (),
) -> list[list[str]]:
    """A line of a table for each row that has the part: its scores with their intervals.

    Args:
        rows: The rows.
        part: ``'scores'`` or ``'difference'``.
        names: Names of the scores.
        numbers: How they are written.
        lead: Function that gives the texts before the scores.
        end: Function that gives the texts behind them.
    """
    return [
        [*lead(row), *(numbers.with_interval(row[part][name]) for name in names), *end(row)]
        for row in rows
        if row[part] is not None
    ]


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """A head and lines as a table of Markdown.

    >>> print(markdown_table([["row", "AP"], ["raw", "0.5\\n[0.4, 0.6]"]]), end="")
    | row | AP |
    | --- | --- |
    | raw | 0.5 [0.4, 0.6] |
    """
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("\n[", " [")


def csv_text(
    rows: Sequence[Row],
    head: Sequence[str],
    lead: Callable[[Row], Sequence[Any]],
    own: Sequence[str] = BOUNDS,
    end_head: Sequence[str] = (),
    end: Callable[[Row], Sequence[Any]] = lambda row: (),
) -> str:
    """A line for each row and score: plain numbers, empty where undefined.

    Args:
        rows: The rows.
        head: Names of the first columns.
        lead: Function that gives what stands in them.
        own: Columns of a score.
        end_head: Names of the last columns.
        end: Function that gives what stands in them.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*head, "score", *own, *(f"minus_raw_{bound}" for bound in BOUNDS), *end_head])
    for row in rows:
        for name, score in row["scores"].items():
            change = (row["difference"] or {}).get(name, {})
            numbers = [*(score[each] for each in own), *(change.get(bound) for bound in BOUNDS)]
            writer.writerow([*lead(row), name, *numbers, *end(row)])
    return buffer.getvalue()
