"""The folder of a comparison: its files, and how they are written and read.

::

    OUT/comparison.json          plan: config, classes, enhancers, modes, seeds, budget, versions
    OUT/truth.json               ground truth of the test set, COCO
    OUT/cells/<name>/            a cell: logs, checkpoint, detections.bbox.json, and result.json when it is finished
    OUT/photographs/             test pictures that were photographed again, if the comparison has exposures
    OUT/results.json, table.md, table.csv      table
    OUT/report.html              page, which ``llie report OUT`` writes
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llie_preproc.coco_json import read_json, require_inside
from llie_preproc.files import write_json, write_text

from ..shared.enhancers import NONE
from ..shared.resume import read_kept
from .light_axis import LightAxis, axis_of, digits

RAW, ZERO_SHOT, RETRAINED, JOINT = "raw", "zero-shot", "retrained", "joint"
MODES = (RAW, ZERO_SHOT, RETRAINED, JOINT)
"""Modes. The detector is trained and tested on raw pictures; trained on raw and tested on enhanced ones; trained and
tested on enhanced ones; or trained together with the network that enhances its pictures."""

CELLS, BATCHES = "cells", "batches"
"""Kinds of work that processes can share."""

_PLAN, _TRUTH, _TABLE, _RESULT = "comparison.json", "truth.json", "results.json", "result.json"
DETECTIONS = "detections"
PHOTOGRAPHS = "photographs"


@dataclass(frozen=True)
class Cell:
    """One evaluation of one detector.

    Attributes:
        enhancer: Label of the enhancer in the plan; ``'none'`` for raw pictures.
        mode: Mode, one of :data:`MODES`.
        seed: Seed of the training.
        light: Place on the comparison's axis of light at which the cell is tested; None without an axis.

    Examples:
        >>> Cell("psenet", "zero-shot", 0).name, Cell("none", "raw", 0, -3.0).name
        ('psenet-zero-shot-seed0', 'raw-seed0-light-3')
    """

    enhancer: str
    mode: str
    seed: int
    light: float | None = None

    @property
    def name(self) -> str:
        """Name of the cell's folder below ``cells``."""
        kind = self.mode if self.enhancer == NONE else f"{self.enhancer}-{self.mode}"
        return f"{kind}-seed{self.seed}" + ("" if self.light is None else f"-light{digits(self.light)}")

    @property
    def entry(self) -> list[Any]:
        """Entry of the cell in a plan."""
        return [self.enhancer, self.mode, self.seed, *([] if self.light is None else [self.light])]


@dataclass(frozen=True)
class CellRow:
    """Row of the table: cells that differ only in their seed.

    Attributes:
        enhancer, mode, light: Those of the cells.
        cells: Cells of the row, one for each seed.
        light_words: Words for ``light``, such as ``'-3 EV'``; empty without an axis.
    """

    enhancer: str
    mode: str
    light: float | None
    cells: tuple[Cell, ...]
    light_words: str = ""

    @property
    def series(self) -> str:
        """Name that the rows of one enhancer and mode share, such as ``'raw'`` or ``'psenet, zero-shot'``."""
        return self.mode if self.enhancer == NONE else f"{self.enhancer}, {self.mode}"

    @property
    def label(self) -> str:
        """Name of the row, such as ``'psenet, zero-shot'`` or ``'psenet, zero-shot, -3 EV'``."""
        return f"{self.series}, {self.light_words}" if self.light_words else self.series


class Comparison:
    """Folder of a comparison, which need not be finished.

    Args:
        folder: Folder that ``compare --out`` named.

    Raises:
        FileNotFoundError: The folder holds no comparison.
        ValueError: The plan is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / _PLAN
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} holds no comparison: {_PLAN} is missing")
        self.plan: dict[str, Any] = read_json(path)
        if not _is_plan(self.plan):
            raise ValueError(f"{path} is damaged: it is no plan of a comparison")
        try:
            self.axis = _axis(self.plan)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    @staticmethod
    def earlier(folder: str | os.PathLike[str]) -> Comparison | None:
        """Return the comparison of an earlier run in a folder, or None."""
        return Comparison(folder) if (Path(folder) / _PLAN).is_file() else None

    @staticmethod
    def is_orphaned(folder: str | os.PathLike[str]) -> bool:
        """Say whether a folder holds results of cells, but no plan that says what they are."""
        return not (Path(folder) / _PLAN).is_file() and any(Path(folder, "cells").glob(f"*/{_RESULT}"))

    @staticmethod
    def begin(folder: str | os.PathLike[str], plan: Mapping[str, Any], truth: Mapping[str, Any]) -> Comparison:
        """Write the plan and the ground truth into a folder, and return the comparison."""
        root = Path(folder)
        # Without indents, because the ground truth may be large.
        write_text(root / _TRUTH, json.dumps(truth))
        write_json(root / _PLAN, plan)
        return Comparison(root)

    @property
    def cells(self) -> list[Cell]:
        """Cells of the plan; cells that others start from come first."""
        return [Cell(*each) for each in self.plan["cells"]]

    @property
    def rows(self) -> list[CellRow]:
        """Rows of the table: the cells, grouped by enhancer, mode and light."""
        grouped: dict[tuple[str, str, float | None], list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault((cell.enhancer, cell.mode, cell.light), []).append(cell)
        return [
            CellRow(enhancer, mode, light, tuple(cells), self.light_words(light))
            for (enhancer, mode, light), cells in grouped.items()
        ]

    def light_words(self, light: float | None) -> str:
        """Return the words for a light, such as ``'-3 EV'``; empty without an axis of light."""
        return "" if self.axis is None or light is None else self.axis.words(light)

    def trainer(self, cell: Cell) -> Cell:
        """Return the cell whose training gives a cell its detector, if detectors are trained.

        A zero-shot cell has the detector of the raw cell. Detectors are trained only on the pictures as they are.
        """
        light = None if self.axis is None else self.axis.as_is
        return Cell(NONE, RAW, cell.seed, light) if cell.mode == ZERO_SHOT else replace(cell, light=light)

    @property
    def truth_path(self) -> Path:
        """File of the ground truth of the test set, in COCO's annotation format."""
        return self.folder / _TRUTH

    def cell_folder(self, cell: Cell) -> Path:
        """Return the folder of a cell's logs, checkpoint and detections."""
        return self.folder / "cells" / cell.name

    def detections_path(self, cell: Cell) -> Path:
        """Return the file of a cell's detections in the raw frame, in COCO's results format."""
        return self.cell_folder(cell) / f"{DETECTIONS}.bbox.json"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Read the result of a cell; None if the cell is not finished.

        ``timing`` has ``enhancer_ms`` and ``detector_ms`` of an image, and ``train_seconds``; ``checkpoint`` is the
        file of the detector.

        Raises:
            ValueError: The file is damaged.
        """
        return read_kept(self.cell_folder(cell) / _RESULT, _read_result)

    def finish(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Write the result of a cell, after all its other files. The result marks the cell as finished."""
        write_json(self.cell_folder(cell) / _RESULT, result)

    def unfinished(self) -> list[Cell]:
        """Return the cells of the plan that have no result yet."""
        return [cell for cell in self.cells if self.result(cell) is None]

    def picture(self, image: Mapping[str, Any]) -> Path:
        """Return the picture file of an entry of the ground truth's ``images``.

        Raises:
            ValueError: The name leads out of the folder of the pictures.
        """
        require_inside(image["file_name"], f"{self.truth_path}: file_name")
        return Path(self.plan["image_root"]) / image["file_name"]

    def table(self) -> list[dict[str, Any]]:
        """Read the measured rows (:func:`detection_eval.compare.tables.measure`).

        Raises:
            FileNotFoundError: The table has not been written yet.
        """
        path = self.folder / _TABLE
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} has no {_TABLE} yet: its comparison has not ended")
        return read_json(path)["rows"]

    def save_table(self, rows: list[dict[str, Any]]) -> None:
        """Write the measured rows."""
        write_json(self.folder / _TABLE, {"plan": self.plan, "rows": rows})


def _is_plan(plan: Any) -> bool:
    """Whether a value has what is read of every plan: cells, enhancers and the folder of the pictures."""
    if not isinstance(plan, dict) or not isinstance(plan.get("enhancers"), dict):
        return False
    cells = plan.get("cells")
    whole = isinstance(cells, list) and all(isinstance(each, list) and _is_cell(*each) for each in cells)
    return whole and isinstance(plan.get("image_root"), str)


def _axis(plan: Mapping[str, Any]) -> LightAxis | None:
    """Read the axis of light of a plan, on which every cell must have a place."""
    axis = axis_of(plan.get("light"))
    for cell in (Cell(*each) for each in plan["cells"]):
        if (axis is None) != (cell.light is None):
            raise ValueError(f"the cell {cell.name} does not fit the plan's light, {plan.get('light')}")
        if axis is not None and cell.light is not None:
            axis.require(cell.light)
    return axis


def _is_cell(*entry: Any) -> bool:
    """Whether an entry has an enhancer, a mode, a seed and, if the comparison has an axis, a light."""
    return len(entry) == 3 or (len(entry) == 4 and type(entry[3]) in (int, float))


def _read_result(path: Path) -> dict[str, Any]:
    """Read the result of a cell.

    Raises:
        ValueError: The file holds something else.
    """
    result = read_json(path)
    if not isinstance(result, dict) or not isinstance(result.get("timing"), dict):
        raise ValueError("it is no result of a cell")
    return result
