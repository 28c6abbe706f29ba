"""What the commands share that run several enhancers over the same pictures: rows, and what was left out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llie_preproc.commands.program import say_failed

from ..metrics.bootstrap import Interval

GOES_ON = "--resume goes on"
"""What is said when a command is interrupted that keeps what it has finished in ``--out``."""

ABSENT = "–"
RESAMPLING = dict(resamples=1000, seed=0)
Row = Mapping[str, Any]
"""``enhancer``; ``scores[name]`` with ``value``, ``low`` and ``high``; ``difference[name]`` to the raw row likewise, or
None; and what else the command says of it. What is undefined is None."""

LISTED = 20
_BOUNDS = ("value", "low", "high")


def say_left_out(failed: Sequence[str]) -> None:
    """Name on stderr the first of what was left out."""
    if failed:
        more = [f"and {len(failed) - LISTED} more"] if len(failed) > LISTED else []
        say_failed(f"{len(failed)} left out", [*failed[:LISTED], *more])


def most_changed(gain: Mapping[str, float], what: str) -> dict[str, str]:
    """The pictures in which most was gained over raw and most was lost, where anything was, each with why it is shown.

    Args:
        gain: Of each picture what it gained.
        what: Is gained.
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
    """An interval as JSON has it."""
    return {name: None if math.isnan(value) else float(value) for name, value in asdict(interval).items()}


def number_text(value: float | None, digits: int) -> str:
    """A number of a table."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_interval(score: Mapping[str, float | None], digits: int, sign: str = "+") -> str:
    """A number of a table with its interval below it; ``sign`` is that of format specifications."""
    value, low, high = score["value"], score["low"], score["high"]
    if value is None:
        return ABSENT
    if low is None or high is None:
        return _signed(value, digits, sign)
    return f"{_signed(value, digits, sign)}\n[{_signed(low, digits, sign)}, {_signed(high, digits, sign)}]"


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """A head and lines."""
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("\n[", " [")


def csv_text(rows: Sequence[Row], head: Sequence[str], lead: Callable[[Row], Sequence[str]]) -> str:
    """A line for each row and score: plain numbers, empty where undefined.

    Args:
        rows: The rows.
        head: Names of the first columns.
        lead: What stands in them.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*head, "score", *_BOUNDS, *(f"minus_raw_{bound}" for bound in _BOUNDS)])
    for row in rows:
        for name, score in row["scores"].items():
            change = (row["difference"] or {}).get(name, {})
            numbers = [*(score[bound] for bound in _BOUNDS), *(change.get(bound) for bound in _BOUNDS)]
            writer.writerow([*lead(row), name, *numbers])
    return buffer.getvalue()


def _signed(value: float, digits: int, sign: str) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"
