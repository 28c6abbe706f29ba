"""The rows of docs/ablations.md, which the tests apply to the shipped configs."""

from __future__ import annotations

import re

from tests.support.places import ROOT

_PAGE = ROOT / "docs" / "ablations.md"


def ablation_rows(heading: str) -> dict[str, str]:
    """Command-line options of each row of a table on the page, by the row's name; empty where the row has none."""
    _, section = re.split(rf"^## {re.escape(heading)}\n", _PAGE.read_text(), flags=re.MULTILINE)
    lines = re.findall(r"^\| (.+?) \| (.+?) \|$", section.split("\n## ")[0], flags=re.MULTILINE)
    return {name: " ".join(re.findall(r"`(.*?)`", options)) for name, options in lines if name != "row"}
