"""Tables of scores with intervals and differences to raw, as JSON, CSV and Markdown."""

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
"""Message of an interrupted command that keeps its finished parts in ``--out``."""

ABSENT = "–"
"""Text in place of an undefined number."""
RESAMPLING = dict(resamples=1000, seed=0)
Row = Mapping[str, Any]
"""Row of a table: ``enhancer``; ``scores[name]`` with ``value``, ``low`` and ``high``; ``difference[name]`` with the
same keys, the score minus that of the raw row, or ``difference`` None; and other keys of the command. An undefined
number is None."""

LISTED = 20
BOUNDS = ("value", "low", "high")
"""Keys of a score: its value, and the ends of its interval."""


def say_left_out(failed: Sequence[str]) -> None:
    """List the first pictures that were left out, on stderr."""
    if failed:
        more = [f"and {len(failed) - LISTED} more"] if len(failed) > LISTED else []
        say_failed(f"{len(failed)} left out", [*failed[:LISTED], *more])


def most_changed(gain: Mapping[str, float], what: str) -> dict[str, str]:
    """Choose the picture that gained most over raw, and the one that lost most, if there are any.

    Args:
        gain: Gain of each picture over raw.
        what: Noun for what is gained.

    Returns:
        Reason for the choice, by the picture's name.

    Examples:
        >>> most_changed({"a": 2, "b": 1, "c": 0}, "faces")
        {'a': 'most faces gained over raw'}
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
    """Convert an interval to values for JSON.

    Examples:
        >>> plain(Interval(0.5, math.nan, math.nan))
        {'value': 0.5, 'low': None, 'high': None}
    """
    return {name: plain_number(value) for name, value in asdict(interval).items()}


def plain_scores(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Convert intervals to values for JSON, by name."""
    return {name: plain(each) for name, each in scores.items()}


def plain_number(value: float) -> float | None:
    """Convert a number to a value for JSON, which is None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Numbers:
    """Format of the numbers of a table.

    Attributes:
        digits: Number of digits after the point.
        factor: Factor of the numbers; 100 for percent.
        sign: Sign option of a format specification; if empty, only negative numbers have a sign.

    Examples:
        >>> Numbers(1, factor=100).text(0.1234)
        '12.3'
        >>> Numbers(2, sign="+").with_interval({"value": 0.5, "low": -0.001, "high": 1}, between=" ")
        '+0.50 [+0.00, +1.00]'
    """

    digits: int
    factor: float = 1
    sign: str = ""

    def text(self, value: float | None) -> str:
        """Write a number, or :data:`ABSENT` if it is not defined."""
        if value is None or math.isnan(value):
            return ABSENT
        # Adding 0 turns -0.0 into 0.0.
        return f"{round(self.factor * value, self.digits) + 0.0:{self.sign}.{self.digits}f}"

    def with_interval(self, score: Mapping[str, float | None], between: str = "\n") -> str:
        """Write a number with its interval, and after ``±`` its deviation over training seeds if it has one.

        Args:
            score: Score with ``value``, ``low``, ``high``, and ``seed_sd`` if there are several training seeds.
            between: Text before the interval; :func:`markdown_table` replaces a line break by a space.
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
    """Write a line of a table, with scores and intervals, for each row that has the part.

    Args:
        rows: Rows to write.
        part: Part of each row, ``'scores'`` or ``'difference'``.
        names: Names of the scores.
        numbers: Format of the scores.
        lead: Function from a row to the texts before the scores.
        end: Function from a row to the texts after the scores.
    """
    return [
        [*lead(row), *(numbers.with_interval(row[part][name]) for name in names), *end(row)]
        for row in rows
        if row[part] is not None
    ]


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """Write a header and the lines below it as a Markdown table.

    Examples:
        >>> print(markdown_table([["row", "AP"], ["raw", "0.5\\n[0.4, 0.6]"]]), end="")
        | row | AP |
        | --- | --- |
        | raw | 0.5 [0.4, 0.6] |
    """
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped).replace("\n[", " [")


def csv_text(
    rows: Sequence[Row],
    head: Sequence[str],
    lead: Callable[[Row], Sequence[Any]],
    own: Sequence[str] = BOUNDS,
    end_head: Sequence[str] = (),
    end: Callable[[Row], Sequence[Any]] = lambda row: (),
) -> str:
    """Write a CSV line for each row and score, with plain numbers; an undefined number is empty.

    Args:
        rows: Rows to write.
        head: Names of the first columns.
        lead: Function from a row to the values of the first columns.
        own: Keys of a score that get a column.
        end_head: Names of the last columns.
        end: Function from a row to the values of the last columns.
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
