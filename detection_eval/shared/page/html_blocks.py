"""The blocks of a page and the page itself, which the templates beside this module lay out.

Every function takes plain text, which the templates escape, and returns :data:`Html`; :func:`write_report` puts the
blocks on a page.
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
"""Text that is HTML already, which no template escapes again."""

_TEMPLATES = Environment(
    loader=PackageLoader("detection_eval.shared.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)

BLOCKS: Any = _TEMPLATES.get_template("blocks.html").module
"""The macros of ``blocks.html``; each returns :data:`Html`."""


def paragraph(text: str) -> Html:
    """A paragraph.

    >>> paragraph("1 < 2")
    Markup('<p>1 &lt; 2</p>')
    """
    return BLOCKS.paragraph(text)


def section(title: str, *blocks: Html) -> Html:
    """A heading and what stands below it."""
    return BLOCKS.section(title, blocks)


def heading(text: str) -> Html:
    """A heading within a section."""
    return BLOCKS.heading(text)


def bullets(items: Sequence[str]) -> Html:
    """A list of sentences."""
    return BLOCKS.bullets(items)


def left_out(reasons: Sequence[str]) -> list[Html]:
    """A heading, and a line for each of the first pictures that are in no row; nothing where there is none."""
    if not reasons:
        return []
    told = f"{len(reasons)} pictures are in no row of the tables, or their annotations are not used:"
    return [heading("Left out"), paragraph(told), bullets(reasons[:LISTED])]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    """A table; the first column names the rows. Units belong into the header or the caption.

    A line break within a cell is kept.

    Raises:
        ValueError: A row is not as long as the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells where the header has {len(header)}: {row}")
    return BLOCKS.table(header, rows, caption)


def captioned(lines: Sequence[Sequence[str]], caption: str) -> Html:
    """A table of a head and lines whose corner names the table, which the caption does instead."""
    head, *rows = lines
    return table(["", *head[1:]], rows, caption)


def write_report(
    path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Html], provenance: Mapping[str, str]
) -> None:
    """Write the page, atomically.

    Args:
        path: The HTML file.
        title: Heading of the page.
        lead: What the page is about, in a few sentences.
        sections: Results of :func:`section`.
        provenance: Command, versions, seed: what it takes to make the page again; stands at the end.
    """
    page = _TEMPLATES.get_template("report.html")
    write_text(Path(path), page.render(title=title, lead=lead, sections=sections, provenance=provenance))
