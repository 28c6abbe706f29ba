"""The code blocks of a page of the docs, and what they print where the page shows it."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Block:
    """A code block.

    Attributes:
        language: Word behind the fence.
        text: Content.
        line: Number of the fence's line.
        heading: Heading above it.
        expected: Content of the ``text`` block behind it: what it prints; None: there is none.
    """

    language: str
    text: str
    line: int
    heading: str
    expected: str | None = None

    @property
    def file(self) -> str | None:
        """Name of the file that the block is, which its first line gives as a comment; None: it is run."""
        found = _FILE.match(self.text)
        return found[1] if found else None

    def prints(self, output: str) -> bool:
        """Whether an output is the expected one, in which ``...`` stands for anything; white space does not count."""
        return doctest.OutputChecker().check_output(self.expected or "", output, _ELLIPSIS)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order; those of ``text`` belong to the ones before them."""
    found: list[Block] = []
    content = page.read_text(encoding="utf-8")
    for fenced in FENCE.finditer(content):
        language, text = fenced.groups()
        if language == "text":
            found[-1].expected = text
        else:
            above = content[: fenced.start()]
            heading = _HEADING.findall(FENCE.sub("", above))[-1]
            found.append(Block(language, text, above.count("\n") + 1, heading))
    return found
