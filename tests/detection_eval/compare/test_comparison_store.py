"""A comparison's folder is refused if its cells have no plan, and an error names the file that is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")

from detection_eval.compare.comparison_store import Cell, Comparison
from llie_preproc.commands.llie import main
from tests.support.tiny_detection import arguments

PLAN = {"cells": [["none", "raw", 0]], "enhancers": {}, "image_root": "images"}


@pytest.mark.parametrize("resume", [False, True])
def test_cells_without_their_plan_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture, resume: bool) -> None:
    """Only the plan says with which settings the cells were made."""
    command = [*arguments(tmp_path), "--enhancer", "none"]
    cell = tmp_path / "out" / "cells" / "raw-seed0" / "result.json"
    cell.parent.mkdir(parents=True)
    cell.write_text('{"timing": {}}')
    assert main([*command, *["--resume"] * resume]) == 2
    assert ("cells but no plan" if resume else "results of an earlier run") in capsys.readouterr().err
    assert cell.read_text() == '{"timing": {}}'


@pytest.mark.parametrize(
    "plan", [None, [], {}, {**PLAN, "cells": [["none", "raw"]]}, {**PLAN, "enhancers": [1]}, {**PLAN, "image_root": 3}]
)
def test_a_damaged_plan_is_named(tmp_path: Path, plan: Any) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"comparison\.json is damaged"):
        Comparison(tmp_path)


@pytest.mark.parametrize("result", ["[1]", "{}", '{"timing": null}', '{"timing": {}'])
def test_the_error_about_a_damaged_result_says_what_to_do(tmp_path: Path, result: str) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps(PLAN))
    comparison = Comparison(tmp_path)
    path = comparison.cell_folder(comparison.cells[0]) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(result)
    with pytest.raises(ValueError, match=r"result\.json is damaged .*: remove it, and it is made again"):
        comparison.result(Cell("none", "raw", 0))
