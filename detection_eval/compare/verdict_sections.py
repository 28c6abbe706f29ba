"""The first section of a comparison's page: whether enhancement helps, in words and in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.detection_table import metric_title
from ..shared.page.html_blocks import Html, bullets, paragraph, section, table
from ..shared.score_table import Numbers
from .comparison_store import JOINT, RAW, RETRAINED, ZERO_SHOT
from .tables import percent

COCO = "coco"
Row = Mapping[str, Any]
"""Row of ``results.json``."""

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
# A bootstrap over fewer test pictures gives intervals that are too narrow.
_MANY = 30


def scores_section(
    rows: Sequence[Row], truth: Mapping[str, Any], plan: Mapping[str, Any], missing: Sequence[str]
) -> Html:
    """Write the verdicts in words, the tables of scores and of paired differences, and the meaning of the intervals.

    Args:
        rows: Rows of ``results.json``.
        truth: COCO annotations of the test set.
        plan: Plan of the comparison.
        missing: Names of the rows that are not measured.
    """
    blocks = [bullets([verdict(row) for row in rows if row["mode"] != RAW])]
    if missing:
        blocks.append(paragraph(f"Not finished, and not on this page: {'; '.join(missing)}."))
    for metric in rows[0]["scores"]:
        blocks += [_scores_table(rows, metric), _differences_table(rows, metric)]
    modes = {row["mode"] for row in rows}
    # A plan without a budget trained nothing.
    meanings = _MODES if plan.get("budget") else _MODES | _GIVEN
    blocks.append(bullets([text for mode, text in meanings.items() if mode in modes]))
    blocks.append(bullets(_caveats(rows, truth, plan)))
    return section("Does it help?", *blocks)


def headline(scores: Mapping[str, Any]) -> str:
    """Choose the metric of the verdicts: COCO's, or the first one if COCO's is not measured."""
    return COCO if COCO in scores else next(iter(scores))


def verdict(row: Row) -> str:
    """Say in a sentence whether a row helps, by its AP against raw.

    Examples:
        >>> row = dict(label="psenet, zero-shot", mode="zero-shot", seeds=[0])
        >>> verdict(row | dict(difference={"coco": {"AP": dict(value=0.02, low=0.01, high=0.03)}}))
        'psenet, zero-shot helps: AP is 2.0 points above raw (95 % interval +1.0 to +3.0).'
    """
    label, difference = row["label"], row["difference"]
    if difference is None:
        return f"{label}: there is no row of raw pictures to compare with."
    score = difference[headline(difference)]["AP"]
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
    """Add a caution if the row and raw are single trainings."""
    if row["mode"] in (RETRAINED, JOINT) and len(row["seeds"]) == 1:
        return " Each of the two was trained only once: another seed may give another result."
    return ""


def _scores_table(rows: Sequence[Row], metric: str) -> Html:
    names = list(rows[0]["scores"][metric])
    header = ["row", *names, "enhancer\nms", "detector\nms", "training\ns"]
    body = [
        [
            row["label"],
            *(_stacked(row["scores"][metric][name]) for name in names),
            *(Numbers(1).text(row["timing"].get(key)) for key in ("enhancer_ms", "detector_ms", "train_seconds")),
        ]
        for row in rows
    ]
    caption = "in %, with 95 % intervals; enhancer and detector: time of a picture"
    if any(len(row["seeds"]) > 1 for row in rows):
        caption += "; after ±: standard deviation over training seeds"
    return table(header, body, f"{metric_title(metric)}: {caption}")


def _differences_table(rows: Sequence[Row], metric: str) -> Html:
    compared = [row for row in rows if row["difference"] is not None]
    if not compared:
        return paragraph("There is no row of raw pictures to compare with.")
    names = list(compared[0]["difference"][metric])
    body = [[row["label"], *(_difference(row["difference"][metric][name]) for name in names)] for row in compared]
    caption = "minus raw, in points of %, paired by picture, with 95 % intervals and whether these exclude 0"
    return table(["row", *names], body, f"{metric_title(metric)}: {caption}")


def _caveats(rows: Sequence[Row], truth: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    objects = sum(not a.get("iscrowd", 0) for a in truth["annotations"])
    seeds = max((row["seeds"] for row in rows), key=len)
    given = plan.get("detector_sha256") is not None
    trained = "nothing was trained" if given else f"training seeds {', '.join(map(str, seeds))}"
    training = (
        "The values are means over the seeds. The interval does not include the effect of another training; the "
        "standard deviation next to it does."
        if len(seeds) > 1
        else "With one training, nothing on this page shows how much another would change the values."
    )
    scores = [each for row in rows for scores in (row["difference"] or {}).values() for each in scores.values()]
    compared = sum(each["low"] is not None for each in scores)
    few = (
        f" With fewer than {_MANY} pictures such intervals are too narrow and only a rough guide."
        if len(truth["images"]) < _MANY
        else ""
    )
    return [
        f"The data are {len(truth['images'])} test pictures with {objects} annotated objects; {trained}.",
        f"An interval only covers the choice of the test pictures: {plan['resamples']} bootstrap resamples of them, "
        f"seed {plan['bootstrap_seed']}.{few} {training}",
        f"The tables have {compared} differences. If the true difference is 0, the interval excludes 0 by chance in "
        "about one of 20 cases.",
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
