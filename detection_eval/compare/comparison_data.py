"""The data of a comparison's page, which are read from the comparison's folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc.pictures import read_rgb8

from ..metrics.coco import CocoScores
from ..metrics.detections import read_detections, read_truth
from .appearance import mean_luma
from .comparison_store import Cell, Comparison
from .condition_sections import Line

_ROW_KEYS = ("enhancer", "mode", "label", "seeds", "scores", "difference", "timing")
_PLAN_KEYS = ("cells", "enhancers", "image_root", "resamples", "bootstrap_seed")


class ComparisonData:
    """Comparison with its ground truth and detections.

    Args:
        comparison: Folder of the comparison.

    Raises:
        FileNotFoundError: The comparison has no table, or a file of it is missing.
        ValueError: A file is damaged, or no row is finished.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        _check_keys(comparison.plan, _PLAN_KEYS, comparison.folder / "comparison.json")
        self.rows = _rows(comparison)
        self.light = _farthest(comparison, self.rows)
        self.truth = read_truth(comparison.truth_path)
        self.classes = {category["id"]: category["name"] for category in self.truth["categories"]}

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Measured rows at the page's light; all measured rows without an axis of light."""
        return [row for row in self.rows if row.get("light") == self.light]

    @cached_property
    def lines(self) -> list[Line]:
        """Measured rows at the page's light, with their scores."""
        with tqdm(self.shown, desc="scoring", unit="row") as rows:
            return [
                Line(row, [CocoScores(self.truth, self.detections(cell)) for cell in self.cells(row)]) for row in rows
            ]

    @cached_property
    def luma(self) -> list[float]:
        """Mean luma of the raw test pictures at the page's light, in the order of the scores' ``image_ids``."""
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
        """Introduction of the page."""
        plan = self.comparison.plan
        trained = ", and the same training budget" if plan.get("budget") else ""
        notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in plan.get("class_notes", ()))
        return (
            f"{Path(str(plan.get('config', 'A detector'))).name} on {len(self.truth['images'])} test pictures. Raw and "
            f"enhanced rows have the same pictures and boxes{trained}. The numbers are shown as measured.{notes}"
        )

    @property
    def recompute(self) -> dict[str, str]:
        """Command that scores the saved detections of each cell, by the cell's name."""
        prefix = ["llie", "score", str(self.comparison.truth_path)]
        return {
            cell.name: shlex.join([*prefix, str(self.comparison.detections_path(cell))])
            for row in self.rows
            for cell in self.cells(row)
        }

    def cells(self, row: Mapping[str, Any]) -> list[Cell]:
        """Return the cells of a measured row, one for each seed."""
        return [Cell(row["enhancer"], row["mode"], seed, row.get("light")) for seed in row["seeds"]]

    def detections(self, cell: Cell) -> list[dict[str, Any]]:
        """Read the detections of a cell."""
        return read_detections(self.comparison.detections_path(cell), self.truth)

    def picture(self, image: Mapping[str, Any]) -> np.ndarray:
        """Read a raw picture at the page's light, ``(H, W, 3)`` uint8 RGB."""
        axis, stored = self.comparison.axis, read_rgb8(self.comparison.picture(image))
        return stored if axis is None or self.light is None else axis.relit(stored, self.light)


def _farthest(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the page's light, the measured one that changes the pictures most; None without an axis of light."""
    return None if comparison.axis is None else max((row["light"] for row in rows), key=comparison.axis.distance)


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    path = comparison.folder / "results.json"
    try:
        rows = comparison.table()
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no table of a comparison: it has no 'rows'") from error
    planned = {cell.light for cell in comparison.cells}
    for row in rows:
        _check_keys(row, _ROW_KEYS if comparison.axis is None else (*_ROW_KEYS, "light", "series"), path)
        if (light := row.get("light")) not in planned:
            raise ValueError(f"{path} is damaged: {row['label']} has the light {light}, which the plan does not have")
    if not rows:
        names = ", ".join(cell.name for cell in comparison.unfinished())
        raise ValueError(f"no row of {comparison.folder} is finished; without a result: {names}")
    return rows


def _check_keys(entry: Any, keys: Sequence[str], path: Path) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{path} is damaged: expected an object with {', '.join(keys)}, got {str(entry)[:60]!r}")
    if absent := [key for key in keys if key not in entry]:
        raise ValueError(f"{path} is damaged: an object with {', '.join(map(str, entry))} lacks {', '.join(absent)}")
