"""Tables of the scores of exposure sequences, by exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..metrics import QualitySuite
from .exposure_sequences import ExposedPicture, whole_step
from .quality_scores import Scores
from .score_table import ABSENT, markdown_table

REFERENCE = "reference"
"""Column of the references, each of which is compared with itself."""

# Value by metric, row and column.
Means = dict[str, dict[str, dict[str, float]]]


def exposure_columns(pictures: Sequence[ExposedPicture]) -> dict[str, list[int]]:
    """Group pictures by exposure: each step of whole EV, then all that are darker, all brighter, and the references.

    Args:
        pictures: Pictures of any sequences.

    Returns:
        Indices into ``pictures``, by the title of the column. A column without a picture is left out.

    Examples:
        >>> exposure_columns([ExposedPicture("a", "b", -2.1), ExposedPicture("b", "b", 0.0)])
        {'-2 EV': [0], 'darker': [0], 'reference': [1]}
    """
    steps = [whole_step(picture.stops) for picture in pictures]
    columns = {f"{step:+d} EV": [step] for step in sorted(set(steps) - {0})}
    columns["darker"] = [step for step in set(steps) if step < 0]
    columns["brighter"] = [step for step in set(steps) if step > 0]
    columns[REFERENCE] = [0]
    places = {title: [i for i, step in enumerate(steps) if step in of] for title, of in columns.items()}
    return {title: of for title, of in places.items() if of}


def exposure_tables(scores: Scores, pictures: Sequence[ExposedPicture], suite: QualitySuite) -> str:
    """Write a Markdown table for each metric, with a line for each row of the scores and a column for each exposure.

    Args:
        scores: Scores of pictures.
        pictures: These pictures, in the order of the scores.
        suite: Metrics that scored them.

    Examples:
        >>> scores = Scores({"raw input": [{"psnr": 12.0}]}, ["a.jpg"])
        >>> picture = ExposedPicture("a.jpg", "b.jpg", stops=-2.1)
        >>> print(exposure_tables(scores, [picture], QualitySuite("psnr")), end="")
        | PSNR (dB) | -2 EV | darker |
        | --- | --- | --- |
        | pictures | 1 | 1 |
        | raw input | 12.000 | 12.000 |
    """
    columns = exposure_columns(pictures)
    counts = ["pictures", *(str(len(of)) for of in columns.values())]
    tables = []
    for metric, rows in _means(scores, columns, suite).items():
        name, _, value = suite.meters[metric].layout.partition(" ")
        unit = value.rpartition("}")[2]
        title = f"{name} ({unit.strip()})" if unit.strip() else name
        lines = [
            [row, *(ABSENT if math.isnan(x) else value.format(x).removesuffix(unit).strip() for x in means.values())]
            for row, means in rows.items()
        ]
        tables.append(markdown_table([[title, *columns], counts, *lines]))
    return "\n".join(tables)


def _means(scores: Scores, columns: Mapping[str, list[int]], suite: QualitySuite) -> Means:
    """Summarise the scores of each column."""
    means: Means = {metric: {row: {} for row in scores.rows} for metric in suite.meters}
    for row, added in scores.rows.items():
        for title, of in columns.items():
            for metric, value in suite.summarise([added[i] for i in of]).items():
                means[metric][row][title] = value
    return means
