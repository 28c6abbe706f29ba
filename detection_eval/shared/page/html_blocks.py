"""The blocks of a page, and the page itself; the folder ``templates`` has their layout.

Every function takes plain text, which the templates escape, and returns :data:`Html`. :func:`write_report` writes the
blocks as a page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llie_preproc.errors import needs
from llie_preproc.files import write_text

from ..score_table import LISTED

with needs("a report"):
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

Html = Markup
"""Text that is HTML already, so that templates do not escape it."""

_TEMPLATES = Environment(
    loader=PackageLoader("detection_eval.shared.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)

BLOCKS: Any = _TEMPLATES.get_template("blocks.html").module
"""Macros of ``blocks.html``; each returns :data:`Html`."""


def paragraph(text: str) -> Html:
    """Write a paragraph.

    Examples:
        >>> paragraph("1 < 2")
        Markup('<p>1 &lt; 2</p>')
    """
    return BLOCKS.paragraph(text)


def section(title: str, *blocks: Html) -> Html:
    """Write a section: a heading and the blocks below it."""
    return BLOCKS.section(title, blocks)


def heading(text: str) -> Html:
    """Write a heading within a section."""
    return BLOCKS.heading(text)


def bullets(items: Sequence[str]) -> Html:
    """Write a list of sentences."""
    return BLOCKS.bullets(items)


def left_out(reasons: Sequence[str]) -> list[Html]:
    """Write a heading and the first reasons why pictures are in no row; an empty list if there are none."""
    if not reasons:
        return []
    told = f"{len(reasons)} pictures are in no row of the tables, or their annotations are not used:"
    return [heading("Left out"), paragraph(told), bullets(reasons[:LISTED])]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    """Write a table; a line break within a cell is kept.

    Args:
        header: Titles of the columns.
        rows: Cells of each row; the first cell names the row.
        caption: Text above the table. Units stand here or in the header.

    Raises:
        ValueError: A row is not as long as the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, expected {len(header)} as in the header: {row}")
    return BLOCKS.table(header, rows, caption)


def captioned(lines: Sequence[Sequence[str]], caption: str) -> Html:
    """Write a table whose first line is the header. The caption replaces the text in the header's first cell."""
    head, *rows = lines
    return table(["", *head[1:]], rows, caption)


def write_report(
    path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Html], provenance: Mapping[str, str]
) -> None:
    """Write the page, atomically.

    Args:
        path: HTML file to write.
        title: Heading of the page.
        lead: Introduction of a few sentences.
        sections: Results of :func:`section`.
        provenance: Facts that are needed to make the page again, such as command, versions and seed, by their names.
            The page ends with them.
    """
    page = _TEMPLATES.get_template("report.html")
    write_text(Path(path), page.render(title=title, lead=lead, sections=sections, provenance=provenance))
