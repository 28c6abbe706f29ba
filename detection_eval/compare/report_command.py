"""``python -m detection_eval report``: the page of a comparison."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc import enhance
from llie_preproc.enhancers import Enhancer
from llie_preproc.pictures import convert_depth, read_picture

from ..metrics.coco import CocoScores
from ..metrics.detections import read_detections, read_truth
from ..networks import check_device
from ..report import Html, paragraph, section, write_report
from . import page
from .appearance import Looks, brightness_bins, mean_luma, mean_scores, score_looks
from .changes import Change, Matches, best_threshold, changes, extremes, match
from .networks import comparison_enhancer
from .page import COCO, Changed, Line
from .results import JOINT, NONE, RAW, Cell, Comparison
from .side_by_side import Pair, View

_ROW_KEYS = ("enhancer", "mode", "label", "seeds", "scores", "difference", "timing")
_PLAN_KEYS = ("cells", "enhancers", "image_root", "resamples", "bootstrap_seed")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add ``report`` to the commands."""
    parser = commands.add_parser(
        "report",
        help="one HTML page of a comparison",
        description="Write what 'compare' measured as one HTML file that needs no network and no other file: the "
        "table and whether it helps in words, AP by class, object size and brightness, precision and recall, the "
        "pictures whose detections changed most, and image-quality scores. Rows whose cells are not all finished are "
        "named and left out.",
    )
    parser.add_argument("folder", metavar="OUT", type=Path, help="the folder of the comparison")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: OUT/report.html")
    parser.add_argument(
        "--changed",
        type=_count,
        default=8,
        metavar="N",
        help="show the N most improved and the N most worsened pictures (%(default)s)",
    )
    parser.add_argument(
        "--quality-images",
        type=_count,
        default=50,
        metavar="N",
        help="image-quality scores are means over at most N test pictures (%(default)s); 0: no such scores",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of those pictures (%(default)s)")
    parser.add_argument(
        "--brightness-edges",
        type=float,
        nargs="+",
        metavar="LUMA",
        help="where the brightness bins meet, 0 to 255; default: the tertiles of the test pictures",
    )
    parser.add_argument("--niqe-model", metavar="FILE", help="niqe_pris_params.npz; without it there is no NIQE")
    parser.add_argument("--device", default="cpu", help="where pictures are enhanced (%(default)s)")
    parser.set_defaults(run=_report)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {number}")
    return number


def _report(args: argparse.Namespace) -> int:
    check_device(args.device)
    looks = Looks(args.niqe_model)
    data = _Data(Comparison(args.folder))
    sections = [
        page.scores_section(data.rows, data.truth, data.comparison.plan, data.missing),
        page.classes_section(data.lines, data.truth),
        page.curves_section(data.lines),
        page.conditions_section(data.lines, data.truth, brightness_bins(data.luma, args.brightness_edges)),
    ]
    pictures = _Pictures(data, args.device)
    changed = _changed(data, pictures, args.changed)
    sections.append(_changes_section(data, changed))
    if args.quality_images:
        sections.append(_looks_section(data, pictures, changed, looks, args))
    out = args.out or args.folder / "report.html"
    command = shlex.join(["python", "-m", "detection_eval", *sys.argv[1:]])
    made = page.provenance(data.comparison.plan, data.recompute, command)
    write_report(out, "Does enhancement help this detector?", data.lead, sections, made)
    print(f"report: {out}")
    return 0


class _Data:
    """A comparison with its ground truth and detections, read.

    Raises:
        FileNotFoundError: The comparison has no table, or a file of it is missing.
        ValueError: A file is damaged, or no row is finished.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        _check_keys(comparison.plan, _PLAN_KEYS, comparison.folder / "comparison.json")
        self.rows = _rows(comparison)
        self.truth = read_truth(comparison.truth_path)
        self.classes = {category["id"]: category["name"] for category in self.truth["categories"]}

    @cached_property
    def lines(self) -> list[Line]:
        """Every measured row with its scores."""
        with tqdm(self.rows, desc="scoring", unit="row") as rows:
            return [
                Line(row, [CocoScores(self.truth, self.detections(cell)) for cell in self.cells(row)]) for row in rows
            ]

    @cached_property
    def luma(self) -> list[float]:
        """Of the raw test pictures, in the order of the scores."""
        images = {image["id"]: image for image in self.truth["images"]}
        with tqdm(self.lines[0].scores[0].image_ids, desc="brightness", unit="picture") as ids:
            return [mean_luma(self.picture(images[i])) for i in ids]

    @property
    def missing(self) -> list[str]:
        """Rows that are not measured, in words."""
        measured = {row["label"] for row in self.rows}
        unfinished = set(self.comparison.unfinished())
        words = []
        for row in self.comparison.rows:
            if row.label not in measured:
                names = ", ".join(cell.name for cell in row.cells if cell in unfinished)
                words.append(f"{row.label} ({names or 'not in results.json yet'})")
        return words

    @property
    def lead(self) -> str:
        """What was compared, in a sentence."""
        plan = self.comparison.plan
        trained = ", and the same training budget" if plan.get("budget") else ""
        return (
            f"{Path(str(plan.get('config', 'A detector'))).name} on {len(self.truth['images'])} test pictures: the "
            f"same pictures and boxes{trained}, raw against enhanced. The numbers are whatever came out."
        )

    @property
    def recompute(self) -> dict[str, str]:
        """For every cell the command that scores its saved detections."""
        prefix = ["python", "-m", "detection_eval", "score", str(self.comparison.truth_path)]
        return {
            cell.name: shlex.join([*prefix, str(self.comparison.detections_path(cell))])
            for row in self.rows
            for cell in self.cells(row)
        }

    def cells(self, row: Mapping[str, Any]) -> list[Cell]:
        """Of a measured row, one for each seed."""
        return [Cell(row["enhancer"], row["mode"], seed) for seed in row["seeds"]]

    def detections(self, cell: Cell) -> list[dict[str, Any]]:
        """Of one cell."""
        return read_detections(self.comparison.detections_path(cell), self.truth)

    def picture(self, image: Mapping[str, Any]) -> np.ndarray:
        """``(H, W, 3)`` uint8 RGB, raw."""
        return convert_depth(read_picture(self.comparison.picture(image)).pixels, np.uint8)


class _Pictures:
    """Enhanced pictures; the networks are built once."""

    def __init__(self, data: _Data, device: str) -> None:
        self._data, self._device = data, device
        self._built: dict[str, Enhancer] = {}

    def networks(self) -> dict[str, Enhancer]:
        """Every network that differs, by label: a frozen one sees for several rows."""
        return {self.label(row): self.network(row) for row in self._data.rows if row["enhancer"] != NONE}

    def label(self, row: Mapping[str, Any]) -> str:
        """Of the row's network: each joint training has one of its own."""
        several = f" (seed {row['seeds'][0]})" if len(row["seeds"]) > 1 else ""
        return f"{row['label']}{several}" if row["mode"] == JOINT else row["enhancer"]

    def network(self, row: Mapping[str, Any]) -> Enhancer:
        """Of the row's first seed."""
        label = self.label(row)
        if label not in self._built:
            built = comparison_enhancer(self._data.comparison, self._data.cells(row)[0], self._device)
            if built is None:
                raise ValueError(f"the row {row['label']} has no enhancer")
            self._built[label] = built
        return self._built[label]


@dataclass(frozen=True)
class _Best:
    """The row that is shown against raw, and its changes."""

    row: Mapping[str, Any]
    changed: Changed


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    path = comparison.folder / "results.json"
    try:
        rows = comparison.table()
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no table of a comparison: it has no 'rows'") from error
    for row in rows:
        _check_keys(row, _ROW_KEYS, path)
    if not rows:
        names = ", ".join(cell.name for cell in comparison.unfinished())
        raise ValueError(f"no row of {comparison.folder} is finished; without a result: {names}")
    return rows


def _check_keys(entry: Any, keys: Sequence[str], path: Path) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{path} is damaged: expected an object with {', '.join(keys)}, got {str(entry)[:60]!r}")
    if absent := [key for key in keys if key not in entry]:
        raise ValueError(f"{path} is damaged: {', '.join(absent)} missing beside {', '.join(map(str, entry))}")


def _changed(data: _Data, pictures: _Pictures, count: int) -> _Best | None:
    """What changes between raw and the enhanced row with the highest AP; None without one of the two."""
    raw = next((row for row in data.rows if (row["enhancer"], row["mode"]) == (NONE, RAW)), None)
    enhanced = [row for row in data.rows if row["enhancer"] != NONE and _ap(row) is not None]
    if raw is None or not enhanced:
        return None
    best = max(enhanced, key=_ap)
    seed = next((s for s in best["seeds"] if s in raw["seeds"]), best["seeds"][0])
    before, after = (match(data.truth, data.detections(Cell(r["enhancer"], r["mode"], seed))) for r in (raw, best))
    thresholds = best_threshold(before.values()), best_threshold(after.values())
    ranked = changes(before, after, thresholds)
    views = _Views(data, pictures.network(best), best["label"], (before, after), thresholds)
    improved, worsened = ([views.pair(c) for c in side] for side in extremes(ranked, count))
    return _Best(best, Changed(best["label"], seed, thresholds, ranked, improved, worsened))


@dataclass(frozen=True)
class _Views:
    """Makes the pairs that are shown."""

    data: _Data
    enhancer: Enhancer
    label: str
    matches: tuple[Mapping[int, Matches], Mapping[int, Matches]]
    thresholds: tuple[float, float]

    def pair(self, change: Change) -> Pair:
        """The picture of a change, raw and enhanced."""
        image = next(image for image in self.data.truth["images"] if image["id"] == change.image_id)
        raw = self.data.picture(image)
        views = [
            View(title, pixels, matches[change.image_id], threshold)
            for title, pixels, matches, threshold in zip(
                (RAW, self.label), (raw, enhance(raw, self.enhancer)), self.matches, self.thresholds, strict=True
            )
        ]
        return Pair(image["file_name"], change, *views)


def _ap(row: Mapping[str, Any]) -> Any:
    return row["scores"].get(COCO, next(iter(row["scores"].values())))["AP"]["value"]


def _changes_section(data: _Data, best: _Best | None) -> Html:
    if best is None:
        text = "This takes a row of raw pictures and an enhanced one, both finished."
        return section("Pictures whose detections changed most", paragraph(text))
    return page.changes_section(best.changed, data.classes)


def _looks_section(
    data: _Data, pictures: _Pictures, best: _Best | None, looks: Looks, args: argparse.Namespace
) -> Html:
    images = data.truth["images"]
    count = min(args.quality_images, len(images))
    chosen = sorted(np.random.default_rng(args.seed).choice(len(images), count, replace=False).tolist())
    networks = pictures.networks()
    shown = [] if best is None else [*best.changed.improved, *best.changed.worsened]
    label = "" if best is None else pictures.label(best.row)
    known = {pair.name: {label: pair.enhanced.pixels} for pair in shown}
    scores = []
    with tqdm(chosen, desc="image quality", unit="picture") as indices:
        for image in (images[index] for index in indices):
            scores.append(score_looks(looks, data.picture(image), networks, known.get(image["file_name"], {})))
    changed = {
        pair.name: score_looks(looks, pair.raw.pixels, {label: networks[label]}, known[pair.name]) for pair in shown
    }
    return page.looks_section(mean_scores(scores), count, len(images), args.seed, changed, looks.describe())
