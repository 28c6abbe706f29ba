"""The page of a comparison: what its sections show, out of its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc import FrozenEnhancer
from llie_preproc.pictures import convert_depth, read_picture

from ..metrics.coco import CocoScores
from ..metrics.detections import read_detections, read_truth
from ..shared.enhancers import NONE
from ..shared.html_page import Html, paragraph, section, write_report
from . import comparison_page
from .appearance import Looks, brightness_bins, mean_luma, mean_scores, score_looks
from .cell_enhancers import comparison_enhancer
from .changes import Change, Matches, best_threshold, changes, extremes, match
from .comparison_page import COCO, Changed, Line
from .comparison_store import JOINT, RAW, Cell, Comparison
from .side_by_side import Pair, View

_ROW_KEYS = ("enhancer", "mode", "label", "seeds", "scores", "difference", "timing")
_PLAN_KEYS = ("cells", "enhancers", "image_root", "resamples", "bootstrap_seed")


def write_comparison_report(
    folder: Path,
    out: Path,
    *,
    command: str,
    changed: int,
    quality_images: int,
    seed: int,
    brightness_edges: Sequence[float] | None,
    niqe_model: str | None,
    device: str,
) -> None:
    """Write the page of a comparison.

    Args:
        folder: Folder of the comparison.
        out: File to write.
        command: Command that made the page, for the record.
        changed: Number of the most improved and of the most worsened pictures that are shown.
        quality_images: Number of test pictures whose image-quality scores are averaged; 0 for none.
        seed: Seed of the choice of those pictures.
        brightness_edges: Levels at which the brightness bins meet; None: the tertiles of the test pictures.
        niqe_model: File of NIQE's parameters; None: no NIQE.
        device: Device that enhances the pictures.

    Raises:
        FileNotFoundError: The comparison has no table, or a file of it is missing.
        ValueError: A file is damaged, or no row is finished.
    """
    looks = Looks(niqe_model)
    data = _Data(Comparison(folder))
    sections = [
        comparison_page.scores_section(data.rows, data.truth, data.comparison.plan, data.missing),
        comparison_page.classes_section(data.lines, data.truth),
        comparison_page.curves_section(data.lines),
        comparison_page.conditions_section(data.lines, data.truth, brightness_bins(data.luma, brightness_edges)),
    ]
    pictures = _Pictures(data, device)
    best = _changed(data, pictures, changed)
    sections.append(_changes_section(data, best))
    if quality_images:
        sections.append(_looks_section(data, pictures, best, looks, quality_images, seed))
    made = comparison_page.provenance(data.comparison.plan, data.recompute, command)
    write_report(out, "Does enhancement help this detector?", data.lead, sections, made)


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
        prefix = ["llie", "score", str(self.comparison.truth_path)]
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
        self._built: dict[str, FrozenEnhancer] = {}

    def networks(self) -> dict[str, FrozenEnhancer]:
        """Every network that differs, by label: a frozen one sees for several rows."""
        return {self.label(row): self.network(row) for row in self._data.rows if row["enhancer"] != NONE}

    def label(self, row: Mapping[str, Any]) -> str:
        """Of the row's network: each joint training has one of its own."""
        several = f" (seed {row['seeds'][0]})" if len(row["seeds"]) > 1 else ""
        return f"{row['label']}{several}" if row["mode"] == JOINT else row["enhancer"]

    def network(self, row: Mapping[str, Any]) -> FrozenEnhancer:
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
    enhancer: FrozenEnhancer
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
                (RAW, self.label), (raw, self.enhancer(raw)), self.matches, self.thresholds, strict=True
            )
        ]
        return Pair(image["file_name"], change, *views)


def _ap(row: Mapping[str, Any]) -> Any:
    return row["scores"].get(COCO, next(iter(row["scores"].values())))["AP"]["value"]


def _changes_section(data: _Data, best: _Best | None) -> Html:
    if best is None:
        text = "This takes a row of raw pictures and an enhanced one, both finished."
        return section("Pictures whose detections changed most", paragraph(text))
    return comparison_page.changes_section(best.changed, data.classes)


def _looks_section(data: _Data, pictures: _Pictures, best: _Best | None, looks: Looks, at_most: int, seed: int) -> Html:
    images = data.truth["images"]
    count = min(at_most, len(images))
    chosen = sorted(np.random.default_rng(seed).choice(len(images), count, replace=False).tolist())
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
    return comparison_page.looks_section(mean_scores(scores), count, len(images), seed, changed, looks.describe())
