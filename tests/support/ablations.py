"""Reads the tables of docs/ablations.md, whose options the tests apply to the shipped configs."""

from __future__ import annotations

import re

from tests.support.places import ROOT

_PAGE = ROOT / "docs" / "ablations.md"


def ablation_rows(heading: str) -> dict[str, str]:
    """Command-line options of each row of the table under ``heading``, by the row's name; a row may have none."""
    _, section = re.split(rf"^## {re.escape(heading)}\n", _PAGE.read_text(), flags=re.MULTILINE)
    lines = re.findall(r"^\| (.+?) \| (.+?) \|$", section.split("\n## ")[0], flags=re.MULTILINE)
    return {name: " ".join(re.findall(r"`(.*?)`", options)) for name, options in lines if name != "row"}
