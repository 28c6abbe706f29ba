"""What a comparison leaves in its folder, and how it is read again.

::

    OUT/comparison.json          what is compared: config, classes, enhancers, modes, seeds, budget, versions
    OUT/truth.json               ground truth of the test set, COCO
    OUT/cells/<name>/            one detector: logs, checkpoint, detections.bbox.json, and result.json when finished
    OUT/results.json, table.md, table.csv      the table
    OUT/report.html              what ``llie report OUT`` makes of it
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llie_preproc.coco_json import read_json, require_inside
from llie_preproc.files import write_json, write_text

from ..shared.enhancers import NONE
from ..shared.resume import read_kept

RAW, ZERO_SHOT, RETRAINED, JOINT = "raw", "zero-shot", "retrained", "joint"
MODES = (RAW, ZERO_SHOT, RETRAINED, JOINT)
"""The detector's training and test pictures: raw and raw; raw and enhanced; enhanced and enhanced; enhanced by a
network that is trained with the detector."""

CELLS, BATCHES = "cells", "batches"
"""What processes may share."""

_PLAN, _TRUTH, _TABLE, _RESULT = "comparison.json", "truth.json", "results.json", "result.json"
DETECTIONS = "detections"


@dataclass(frozen=True)
class Cell:
    """One detector evaluated once.

    Attributes:
        enhancer: Its label in the plan; ``'none'`` for raw pictures.
        mode: One of :data:`MODES`.
        seed: Of the training.
    """

    enhancer: str
    mode: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder below ``cells``."""
        kind = self.mode if self.enhancer == NONE else f"{self.enhancer}-{self.mode}"
        return f"{kind}-seed{self.seed}"


@dataclass(frozen=True)
class CellRow:
    """Cells that differ in nothing but their seed: a line of the table."""

    enhancer: str
    mode: str
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """``'raw'``, ``'psenet, zero-shot'``."""
        return self.mode if self.enhancer == NONE else f"{self.enhancer}, {self.mode}"


class Comparison:
    """The folder of a comparison, finished or not.

    Args:
        folder: What ``compare --out`` named.

    Raises:
        FileNotFoundError: There is no comparison.
        ValueError: Its plan does not read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / _PLAN
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} holds no comparison: {_PLAN} is missing")
        self.plan: dict[str, Any] = read_json(path)

    @staticmethod
    def earlier(folder: str | os.PathLike[str]) -> Comparison | None:
        """The comparison that an earlier run has left in a folder, if any."""
        return Comparison(folder) if (Path(folder) / _PLAN).is_file() else None

    @staticmethod
    def begin(folder: str | os.PathLike[str], plan: Mapping[str, Any], truth: Mapping[str, Any]) -> Comparison:
        """Write the plan and the ground truth."""
        root = Path(folder)
        # As compact as it comes: it may be large.
        write_text(root / _TRUTH, json.dumps(truth))
        write_json(root / _PLAN, plan)
        return Comparison(root)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the plan, those first that others start from."""
        return [Cell(*each) for each in self.plan["cells"]]

    @property
    def rows(self) -> list[CellRow]:
        """The lines of the table: the cells by enhancer and mode."""
        grouped: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault((cell.enhancer, cell.mode), []).append(cell)
        return [CellRow(*key, tuple(cells)) for key, cells in grouped.items()]

    @property
    def truth_path(self) -> Path:
        """The ground truth of the test set, a COCO annotation file."""
        return self.folder / _TRUTH

    def cell_folder(self, cell: Cell) -> Path:
        """Logs, checkpoint and detections of a cell."""
        return self.folder / "cells" / cell.name

    def detections_path(self, cell: Cell) -> Path:
        """The detections of a cell in the raw frame, a COCO results file."""
        return self.cell_folder(cell) / f"{DETECTIONS}.bbox.json"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """What a finished cell measured; None where it is not finished.

        ``timing`` has ``enhancer_ms`` and ``detector_ms`` for an image, ``train_seconds``; ``checkpoint`` is the
        detector's file, or None.

        Raises:
            ValueError: The file is damaged.
        """
        return read_kept(self.cell_folder(cell) / _RESULT, read_json)

    def finish(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Mark a cell as finished; nothing of it is written after this."""
        write_json(self.cell_folder(cell) / _RESULT, result)

    def unfinished(self) -> list[Cell]:
        """Cells of the plan that have no result yet."""
        return [cell for cell in self.cells if self.result(cell) is None]

    def picture(self, image: Mapping[str, Any]) -> Path:
        """The file of an entry of the ground truth's ``images``.

        Raises:
            ValueError: The name leads out of the folder of the pictures.
        """
        require_inside(image["file_name"], f"{self.truth_path}: file_name")
        return Path(self.plan["image_root"]) / image["file_name"]

    def table(self) -> list[dict[str, Any]]:
        """The rows that were measured (:func:`detection_eval.compare.tables.measure`).

        Raises:
            FileNotFoundError: No table was written yet.
        """
        path = self.folder / _TABLE
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} has no {_TABLE} yet: its comparison did not come to its end")
        return read_json(path)["rows"]

    def save_table(self, rows: list[dict[str, Any]]) -> None:
        """Keep the measured rows."""
        write_json(self.folder / _TABLE, {"plan": self.plan, "rows": rows})
