"""The rows of a measurement, as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..metrics.bootstrap import differences, intervals
from ..metrics.masks import MATCH_NAMES, PROMPT_NAMES
from ..shared.enhancers import NONE, label_of
from ..shared.score_table import RESAMPLING, Numbers, Row, markdown_table, plain_scores, score_lines
from .measure_masks import AUTOMATIC, BOXES, REFERENCE, Request, Result, Stage
from .sam_choice import UNTRAINED

_DIGITS = 3
TITLES = {AUTOMATIC: "automatic masks", BOXES: "box prompts"}
_NAMES = {AUTOMATIC: MATCH_NAMES, BOXES: PROMPT_NAMES}


def rows_of(request: Request, result: Result) -> list[dict[str, Any]]:
    """Make the rows, with 95 % intervals of a bootstrap over pictures; ``masks`` has the number of masks by task."""
    raw = result.scores.get(NONE)
    return [
        dict(
            enhancer=label,
            masks={task: _count(result, Stage(task, label)) for task in request.tasks},
            scores=plain_scores(intervals([scores], **RESAMPLING)),
            difference=None
            if raw is None or label == NONE
            else plain_scores(differences([raw], [scores], **RESAMPLING)),
        )
        for label, scores in result.scores.items()
    ]


def asked_of(request: Request, result: Result) -> dict[str, int]:
    """Count the reference masks and the prompts, by task."""
    counts = {}
    if request.pictures.references is not None:
        counts[AUTOMATIC] = _count(result, Stage(REFERENCE, NONE))
    if request.pictures.prompts is not None:
        counts[BOXES] = sum(len(request.pictures.prompts[name]) for name in result.names)
    return counts


def score_tables(request: Request, rows: Sequence[Row]) -> dict[str, list[list[str]]]:
    """Write for each task a header, and a line for each row: the number of masks, and the scores with intervals."""
    tables = {}
    for task in request.tasks:
        names, lead = _names(task, rows), partial(_counted, task)
        lines = score_lines(rows, "scores", names, Numbers(_DIGITS), lead)
        tables[task] = [[TITLES[task], "masks", *names], *lines]
    return tables


def difference_tables(request: Request, rows: Sequence[Row]) -> dict[str, list[list[str]]]:
    """Write for each task a header, and a line for each row with its differences to raw, if there are any."""
    tables = {}
    for task in request.tasks:
        names = _names(task, rows)
        if lines := score_lines(rows, "difference", names, Numbers(_DIGITS, sign="+"), lambda row: [row["enhancer"]]):
            tables[task] = [[f"{TITLES[task]}, minus raw", *names], *lines]
    return tables


def settings(request: Request, result: Result) -> list[str]:
    """List the settings that the scores were made with, a line each."""
    generator = ", ".join(f"{key} {_short(value)}" for key, value in request.generator.items())
    asked = asked_of(request, result)
    lines = [f"SAM: {result.sam}, oversize {request.oversize}", f"pictures: {len(result.names)}"]
    if AUTOMATIC in asked:
        empty = "" if asked[AUTOMATIC] else ", so there is nothing to score"
        lines += [f"reference masks: {asked[AUTOMATIC]}{empty}", f"automatic masks: {generator}"]
    if BOXES in asked:
        lines += [f"box prompts: {asked[BOXES]}, {request.pictures.box_source}"]
    return lines


def markdown(request: Request, result: Result, rows: Sequence[Row]) -> str:
    """Write the tables and the settings as Markdown, after a warning if SAM is not trained."""
    warning = [] if request.sam.trained else [f"{UNTRAINED}\n"]
    tables = [*score_tables(request, rows).values(), *difference_tables(request, rows).values()]
    lines = "".join(f"- {line}\n" for line in settings(request, result))
    return "\n".join([*warning, *(markdown_table(table) for table in tables), lines])


def notes(request: Request) -> list[str]:
    """Explain the scores, in sentences."""
    told = []
    if AUTOMATIC in request.tasks:
        told.append(
            "Automatic masks of each row's pictures are matched one to one with those of the reference pictures, so "
            "that the sum of the IoUs is largest. mean_iou: mean IoU over the reference masks, with 0 for masks "
            "without a partner. recall50, recall75: shares of the reference masks whose partner has an IoU of at least "
            "0.5 and 0.75. Additional masks do not lower these scores, so compare the numbers of masks too. A picture "
            "whose reference has no mask does not count. The masks of a larger reference are made at its own "
            "resolution and compared in the raw frame."
        )
    if BOXES in request.tasks:
        told.append(
            "Each box prompt gives one mask. predicted_iou: SAM's own estimate of the IoU. stability_score: IoU of the "
            "masks that are cut at logits of 1 and -1. box_agreement: IoU of the prompt and the tightest box around "
            "the mask, both measured at the edges of pixels; 0 for an empty mask. None of these scores uses annotated "
            "masks."
        )
    if request.pictures.annotated:
        told.append("iou: IoU with the annotated mask of the prompt, if it has one.")
    return [*told, "The brackets show 95 % intervals of a bootstrap over pictures."]


def _names(task: str, rows: Sequence[Row]) -> list[str]:
    return [name for name in _NAMES[task] if name in rows[0]["scores"]]


def _counted(task: str, row: Row) -> list[str]:
    return [label_of(row["enhancer"]), str(row["masks"][task])]


def _count(result: Result, stage: Stage) -> int:
    return sum(len(found) for found in result.found[stage].values())


def _short(value: float) -> str:
    return f"{value:g}"
