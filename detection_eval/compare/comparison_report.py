"""The page of a comparison, which is made from the comparison's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc import FrozenEnhancer

from ..shared.enhancers import NONE
from ..shared.page.html_blocks import Html, write_report
from .appearance import Looks, brightness_bins, mean_scores, score_looks
from .cell_enhancers import comparison_enhancer
from .changes import Change, Matches, best_threshold, changes, extremes, match
from .comparison_data import ComparisonData
from .comparison_store import JOINT, RAW, Cell, Comparison
from .condition_sections import classes_section, conditions_section, curves_section
from .light_section import light_section
from .picture_sections import Changed, changes_section, looks_section
from .side_by_side import Pair, View
from .verdict_sections import headline, scores_section

_Side = tuple[str, FrozenEnhancer | None, Mapping[int, Matches], float]
"""Label of raw or of a row, its enhancer, its matches by image id, and its least score that counts."""


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
        command: Command that makes the page; the page shows this command.
        changed: Largest number of improved pictures to show, and of worsened pictures.
        quality_images: Largest number of test pictures whose image-quality scores are averaged; 0 for none.
        seed: Seed of the choice of those pictures.
        brightness_edges: Borders between the bins of brightness; None for the tertiles of the test pictures.
        niqe_model: File of NIQE's model; None to leave NIQE out.
        device: Device that the enhancers run on.

    Raises:
        FileNotFoundError: The comparison has no table, or a file of it is missing.
        ValueError: A file is damaged, or no row is finished.
    """
    looks = Looks(niqe_model)
    data = ComparisonData(Comparison(folder))
    axis = data.comparison.axis
    sections = [
        scores_section(data.rows, data.truth, data.comparison.plan, data.missing),
        *([light_section(data.rows, axis, data.light)] if axis and data.light is not None else []),
        classes_section(data.lines, data.truth),
        curves_section(data.lines),
        conditions_section(data.lines, data.truth, brightness_bins(data.luma, brightness_edges)),
    ]
    pictures = _Pictures(data, device)
    most = _changed(data, pictures, changed)
    sections.append(changes_section(most, data.classes))
    if quality_images:
        sections.append(_looks_section(data, pictures, most, looks, quality_images, seed))
    made = _provenance(data.comparison.plan, data.recompute, command)
    write_report(out, "Does enhancement help this detector?", data.lead, sections, made)


class _Pictures:
    """Networks of the rows, each of which is built once."""

    def __init__(self, data: ComparisonData, device: str) -> None:
        self._data, self._device = data, device
        self._built: dict[str, FrozenEnhancer] = {}

    def networks(self) -> dict[str, FrozenEnhancer]:
        """Return the different networks by label; several rows can share a frozen one."""
        return {self.label(row): self.network(row) for row in self._data.shown if row["enhancer"] != NONE}

    def label(self, row: Mapping[str, Any]) -> str:
        """Return the label of a row's network; each joint training has a network of its own."""
        several = f" (seed {row['seeds'][0]})" if len(row["seeds"]) > 1 else ""
        return f"{row['label']}{several}" if row["mode"] == JOINT else row["enhancer"]

    def network(self, row: Mapping[str, Any]) -> FrozenEnhancer:
        """Return the network of a row's first seed."""
        label = self.label(row)
        if label not in self._built:
            built = comparison_enhancer(self._data.comparison, self._data.cells(row)[0], self._device)
            if built is None:
                raise ValueError(f"the row {row['label']} has no enhancer")
            self._built[label] = built
        return self._built[label]


def _changed(data: ComparisonData, pictures: _Pictures, count: int) -> Changed | None:
    """Compare raw with the enhanced row of the highest AP; None if there is no such row or no raw one."""
    raw = next((row for row in data.shown if (row["enhancer"], row["mode"]) == (NONE, RAW)), None)
    enhanced = [row for row in data.shown if row["enhancer"] != NONE and _ap(row) is not None]
    if raw is None or not enhanced:
        return None
    best = max(enhanced, key=_ap)
    seed = next((s for s in best["seeds"] if s in raw["seeds"]), best["seeds"][0])
    cells = (Cell(row["enhancer"], row["mode"], seed, data.light) for row in (raw, best))
    before, after = (match(data.truth, data.detections(cell)) for cell in cells)
    thresholds = best_threshold(before.values()), best_threshold(after.values())
    ranked = changes(before, after, thresholds)
    sides = (RAW, None, before, thresholds[0]), (best["label"], pictures.network(best), after, thresholds[1])
    improved, worsened = ([_pair(data, change, sides) for change in most] for most in extremes(ranked, count))
    return Changed(best["label"], pictures.label(best), seed, thresholds, ranked, improved, worsened)


def _pair(data: ComparisonData, change: Change, sides: Sequence[_Side]) -> Pair:
    """Collect the picture of a change, raw and enhanced."""
    image = next(image for image in data.truth["images"] if image["id"] == change.image_id)
    raw = data.picture(image)
    views = (
        View(title, enhancer(raw) if enhancer else raw, matches[change.image_id], threshold)
        for title, enhancer, matches, threshold in sides
    )
    return Pair(image["file_name"], change, *views)


def _ap(row: Mapping[str, Any]) -> Any:
    return row["scores"][headline(row["scores"])]["AP"]["value"]


def _looks_section(
    data: ComparisonData, pictures: _Pictures, most: Changed | None, looks: Looks, at_most: int, seed: int
) -> Html:
    images = data.truth["images"]
    count = min(at_most, len(images))
    chosen = sorted(np.random.default_rng(seed).choice(len(images), count, replace=False).tolist())
    networks = pictures.networks()
    shown = [] if most is None else [*most.improved, *most.worsened]
    label = "" if most is None else most.network
    known = {pair.name: {label: pair.enhanced.pixels} for pair in shown}
    scores = []
    with tqdm(chosen, desc="image quality", unit="picture") as indices:
        for image in (images[index] for index in indices):
            scores.append(score_looks(looks, data.picture(image), networks, known.get(image["file_name"], {})))
    changed = {
        pair.name: score_looks(looks, pair.raw.pixels, {label: networks[label]}, known[pair.name]) for pair in shown
    }
    return looks_section(mean_scores(scores), count, len(images), seed, changed, looks.describe())


def _provenance(plan: Mapping[str, Any], recompute: Mapping[str, str], command: str) -> dict[str, str]:
    """Collect the facts that are needed to repeat the comparison and the page, or to score saved detections again.

    Args:
        plan: Plan of the comparison.
        recompute: Commands that score detections again, by the cell's name.
        command: Command that makes the page.
    """
    planned = {
        f"comparison: {key}": _words(value) for key, value in plan.items() if key != "cells" and value is not None
    }
    return {"this page": command, **planned, **{f"recompute {what}": line for what, line in recompute.items()}}


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(each) for each in value)
    return str(value)
