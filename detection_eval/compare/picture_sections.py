"""The sections of a comparison's page that show pictures and their image-quality scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..shared.page.galleries import gallery
from ..shared.page.html_blocks import Html, bullets, heading, paragraph, section, table
from ..shared.score_table import Numbers
from .appearance import LUMA
from .changes import MIN_IOU, Change
from .side_by_side import LEGEND, Pair, panels

_CHANGES = "Pictures whose detections changed most"
_PANEL_SIDE, _PANEL_QUALITY = 540, 75
_LOOKS = {
    LUMA: "mean luma: brightness of the picture",
    "eme": "EME: contrast within small blocks; noise raises it too",
    "loe": "LOE: change of the order of lightness from raw; 0 for raw itself, lower is more natural",
    "niqe": "NIQE: distance from the statistics of pristine pictures, lower is better",
}


@dataclass(frozen=True)
class Changed:
    """Changes between raw and one enhanced row.

    Attributes:
        label: Label of the row.
        network: Label of the row's network.
        seed: Training seed of the two detectors whose detections are compared.
        thresholds: Least scores of detections that count, of raw and of the row.
        ranked: Changes of all pictures.
        improved: Most improved pictures, which are shown.
        worsened: Most worsened pictures, which are shown.
    """

    label: str
    network: str
    seed: int
    thresholds: tuple[float, float]
    ranked: Sequence[Change]
    improved: Sequence[Pair]
    worsened: Sequence[Pair]


def changes_section(changed: Changed | None, classes: Mapping[int, str]) -> Html:
    """Show the most improved and the most worsened pictures, raw and enhanced side by side.

    Args:
        changed: Changes of the enhanced row; None unless raw and an enhanced row are finished.
        classes: Names of the classes by category id.
    """
    if changed is None:
        return section(
            _CHANGES, paragraph("This section needs a finished row of raw pictures and a finished enhanced row.")
        )
    better = sum(change.rank > (0, 0) for change in changed.ranked)
    worse = sum(change.rank < (0, 0) for change in changed.ranked)
    same = len(changed.ranked) - better - worse
    before, after = changed.thresholds
    blocks = [
        paragraph(
            f"This section compares raw with the enhanced row of the highest AP, {changed.label}, for the detectors of "
            f"seed {changed.seed}. Of {len(changed.ranked)} pictures {better} improve, {worse} worsen and {same} do "
            f"not change. A picture improves if more of its annotated objects are found at IoU {MIN_IOU:g}, or as many "
            "with fewer false detections. A detection counts from the score at which the detector's F1 over all test "
            f"pictures is highest: {before:.3f} for raw, {after:.3f} for {changed.label}."
        ),
        paragraph(LEGEND),
    ]
    for title, pairs in (("Most improved", changed.improved), ("Most worsened", changed.worsened)):
        blocks.append(heading(f"{title}: {len(pairs)} pictures"))
        shown = [panel for pair in pairs for panel in panels(pair, classes)]
        blocks.append(
            gallery(shown, 2, _PANEL_SIDE, _PANEL_QUALITY) if shown else paragraph("There is no such picture.")
        )
    return section(_CHANGES, *blocks)


def looks_section(
    sample: Mapping[str, Mapping[str, float]],
    count: int,
    total: int,
    seed: int,
    changed: Mapping[str, Mapping[str, Mapping[str, float]]],
    describe: Mapping[str, str],
) -> Html:
    """Show image-quality scores: means over a sample of the test pictures, and scores of the pictures shown above.

    Args:
        sample: Means over the sample, by network and score, ``'raw'`` first.
        count: Number of pictures in the sample.
        total: Number of test pictures.
        seed: Seed of the choice.
        changed: Scores of the pictures shown above, by file, by ``'raw'`` or network, and by score.
        describe: Exact variant of each score.
    """
    scores = list(describe)
    which = f"{count} of {total} test pictures, drawn with seed {seed}" if count < total else f"{count} test pictures"
    rows = [[label, *(Numbers(2).text(values[name]) for name in scores)] for label, values in sample.items()]
    blocks = [
        bullets([f"{_LOOKS[name]} ({text})" for name, text in describe.items()]),
        table(["pictures", *map(_short, scores)], rows, f"Mean over {which}"),
    ]
    if changed:
        blocks.append(_changed_looks(changed, scores))
    blocks.append(
        paragraph("These scores judge pictures for the eye, not for a detector; good ones do not imply a higher AP.")
    )
    return section("Image quality of the same pictures", *blocks)


def _short(name: str) -> str:
    return _LOOKS[name].split(":")[0]


def _changed_looks(changed: Mapping[str, Mapping[str, Mapping[str, float]]], scores: Sequence[str]) -> Html:
    first = next(iter(changed.values()))
    header = ["picture", *(f"{_short(name)}\n{kind}" for name in scores for kind in first)]
    rows = [
        [PurePath(file).name, *(Numbers(2).text(of[kind][name]) for name in scores for kind in of)]
        for file, of in changed.items()
    ]
    return table(header, rows, "The pictures that changed most, in the order above")
